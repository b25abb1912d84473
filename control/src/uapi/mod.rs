//! Sockets by which `wg` and its like see and change the tunnels: one for each, `NAME.sock` in a folder of root's.
//!
//! Owns: which sockets there are ([`Sockets`]), who is served and for how long, and how a configuration's text becomes one that
//! says what `wg` asked for ([`text`]). The protocol's words are `zsync_pipelines::spec::wireguard::uapi`'s; what is asked for goes to the
//! daemon as a [`Call`]. Refuses: everybody but root and the account that this runs as, for private keys are told here, as the kernel tells
//! them to root. Keeps true: nobody who is slow, silent or many keeps the daemon from its work.

#![forbid(unsafe_code)]

mod connection;
mod refused;
mod sockets;
#[cfg(test)]
mod tests;

pub mod text;

pub use connection::Limits;
pub use refused::Refused;
pub use sockets::Sockets;

use tokio::sync::oneshot;
use zeroize::Zeroizing;
use zsync_pipelines::spec::wireguard::uapi::{Refusal, Request};

/// What is answered ahead of the error number; or why not.
pub type Outcome = Result<Zeroizing<String>, Refusal>;

/// A request on its way to the daemon.
#[derive(Debug)]
pub struct Call {
    /// Whose socket it came by.
    pub tunnel: String,
    /// What is asked for.
    pub request: Request,
    /// Where the answer goes. Nobody may be waiting any more.
    pub reply: oneshot::Sender<Outcome>,
}
