//! Rings for the queues that go by io_uring: made anew for each data plane, whose thread is a ring's only user.
//!
//! Owns nothing: a data plane inherits them, because the kernel passes none by a message (net/core/scm.c, `scm_fp_copy`), and who starts it
//! lets go of them then, so that they end with it. Refuses nothing: a queue
//! without a ring goes by system calls, and its port says why.

use super::installation::{Installation, OpenQueue};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::io::{FdFlags, fcntl_setfd};
use zsync_protocol::message::ToDataplane;
use zsync_protocol::ring::{self, RingError, create};

/// Why a port has no ring, of whose queues this is one, in a data plane that another control process started: what making one meets now.
pub(super) fn lacking(queue: Option<&OpenQueue>) -> String {
    let tried = queue.and_then(|queue| create(queue.socket.as_fd(), ring::UDP).err());
    tried.map_or_else(|| "the data plane began without".to_owned(), |error| error.to_string())
}

impl Installation {
    /// A ring for each queue whose port asks for one, to be inherited, and what the data plane is told of it. All queues of a port go the same way.
    pub(super) fn rings(&mut self) -> Vec<(ToDataplane, OwnedFd)> {
        let mut rings = Vec::new();
        for port in &mut self.ports {
            let asked = port.spec.udp.is_some_and(|udp| udp.io_uring);
            let queues = self.queues.iter().filter(|queue| asked && queue.port == port.spec.id.0);
            let made: Result<Vec<_>, _> = queues
                .map(|of| {
                    let (ring, layout) = create(of.socket.as_fd(), ring::UDP)?;
                    fcntl_setfd(&ring, FdFlags::empty())
                        .map_err(|errno| RingError { what: "leaving to the data plane", errno })?;
                    let (port, queue, fd) = (of.port, of.queue as u16, ring.as_raw_fd());
                    Ok((ToDataplane::Ring { port, queue, fd, layout }, ring))
                })
                .collect();
            let made = made.map_err(|error: RingError| error.to_string());
            if let Err(error) = &made {
                tracing::warn!(port = port.spec.name, "goes by system calls: {error}");
            }
            port.ring = asked.then(|| made.as_ref().map(|_| ()).map_err(Clone::clone));
            rings.extend(made.unwrap_or_default());
        }
        rings
    }
}
