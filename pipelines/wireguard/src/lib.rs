//! WireGuard without I/O: handshakes, sessions that outlive their process, timers, cookies.
//!
//! After the WireGuard paper (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", 2020) and, where that leaves
//! something open, the kernel's `drivers/net/wireguard`. Time and randomness are parameters; packets are bytes in and bytes
//! out. A stage on either side collects bursts, and seals and opens them as batches.

#![forbid(unsafe_code)]

pub mod book;
pub mod cookie;
pub mod desk;
pub mod index;
pub mod key;
pub mod load;
pub mod message;
pub mod noise;
pub mod record;
pub mod room;
pub mod timers;
pub mod transport;
pub mod window;
