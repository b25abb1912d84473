//! Traffic generator and measurements.
//!
//! ```text
//!   machine, tsc            what it is measured on, and in which clocks
//!   report, outcome         samples, their spread, ratios pair by pair; a table, lines of JSON, a page
//!   traffic, generator      packets, the routes that lead them; the kernel as their source
//!   stages                  what each part of forwarding a packet costs: clocks, instructions
//!   tools                   what the generator and the sink themselves cost
//!   gate                    instructions against a committed baseline; none allocated per packet; the books balance
//!   memory                  the engine's own worker between two null devices
//!   veth, place, forwarder  a router between two veth pairs, and who forwards in it
//!   tally                   its far end, counted
//!   live                    the kernel as the near end of trials, paced
//!   search                  what a device carries: trials between both ends of its wire
//!   connections             how many connections a device opens, and holds
//!   conntrack               the kernel's table of connections, emptied
//!   kernel                  the kernel as a forwarder: its rules, and a program that redirects
//!   peers                   what zsync is compared with, and how it is installed
//!   testpmd, hugepages      DPDK's forwarder, in the same run
//!   tun                     forwarding between TUN devices, beside a loop of read and write
//!   wireguard               tunnels: in memory, whole ones beside others', and under a flood of handshakes
//!   crypto                  encryption and signatures, beside other libraries
//!   runtime                 the async runtime, beside others
//!   measured                what one of these gave, and on which machine
//!   fib, acl, dpdk          lookups and DPDK's programs that measure theirs, over the same files
//!   program                 other programs, run to their end or to that of the run
//!   watch, interrupt        how far a run is, and how it stops in order
//!   enclosure, folder       namespaces that go when the benchmark goes, however it ends; files that go with it
//! ```
//!
//! Every comparison alternates: A B A B, in one run, and what is reported of it is the ratio of each pair. On a machine that
//! does other things besides, nothing else means much.
#![deny(unsafe_code)]

pub mod acl;
pub mod connections;
pub mod conntrack;
pub mod crypto;
pub mod dpdk;
pub mod edge;
pub mod enclosure;
pub mod fib;
pub mod folder;
pub mod forwarder;
pub mod gate;
pub mod generator;
pub mod hugepages;
pub mod interrupt;
pub mod kernel;
pub mod live;
pub mod machine;
pub mod measured;
pub mod memory;
pub mod outcome;
pub mod peers;
pub mod place;
pub mod program;
pub mod report;
pub mod runtime;
pub mod search;
pub mod stages;
pub mod tally;
pub mod testpmd;
pub mod tools;
pub mod traffic;
pub mod tsc;
pub mod tun;
pub mod veth;
pub mod watch;
pub mod wireguard;
