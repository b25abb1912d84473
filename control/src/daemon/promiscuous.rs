//! Ports whose netdev takes frames for any station.
//!
//! Owns nothing: a netdev is promiscuous as long as somebody has a packet socket that asked for it, which the
//! [installation](super::installation) and the data plane hold both. So it outlives each of them, and goes with the last; and it is counted
//! by the kernel beside what others ask for. The socket has no protocol and receives nothing. Keeps true: the ports of a wire are
//! promiscuous, whatever is said of them.

use super::installation::OpenPort;
use crate::raw::join_promiscuous;
use anyhow::{Context as _, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use zsync_pipelines::spec::{Port, Spec};
use zsync_protocol::message::ToDataplane;

/// What makes the netdev of a port of `spec` promiscuous, if it is to be so.
///
/// # Errors
/// CAP_NET_RAW is missing, or the netdev is gone.
pub(super) fn hold(spec: &Spec, port: &Port, ifindex: u32) -> Result<Option<OwnedFd>> {
    if !port.is_taken() || !(port.promiscuous || spec.is_wire(port.id)) {
        return Ok(None);
    }
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let joined = join_promiscuous(&socket, ifindex);
    joined.with_context(|| format!("making {} promiscuous", port.netdev))?;
    Ok(Some(socket))
}

impl OpenPort {
    /// What the data plane is told of it, and holds.
    pub(super) fn promiscuity(&self) -> (ToDataplane, Vec<BorrowedFd<'_>>) {
        let fds: Vec<_> = self.promiscuous.iter().map(AsFd::as_fd).collect();
        (ToDataplane::Promiscuous { port: self.spec.id.0, on: !fds.is_empty() }, fds)
    }

    /// Changes it to what `spec` says of it, if that is another; what is not wanted any more is let go when the data plane has been told.
    ///
    /// # Errors
    /// As [`hold`]; then it is as it was.
    pub(super) fn set_promiscuous(&mut self, spec: &Spec, port: &Port) -> Result<()> {
        let wanted = hold(spec, port, self.ifindex)?;
        if wanted.is_some() != self.promiscuous.is_some() {
            self.promiscuous = wanted;
        }
        Ok(())
    }
}
