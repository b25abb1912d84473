//! The kernel's table of connections in the network namespace of the calling thread: how full it is, and emptying it.
//!
//! By netlink's own message (net/netfilter/nf_conntrack_netlink.c, `ctnetlink_del_conntrack`), so that it takes no program
//! that may not be installed. Keeps true: emptied is emptied, also of what the kernel frees a little later.

use anyhow::{Context, Result, ensure};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use std::time::{Duration, Instant};

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_DELETE` (include/uapi/linux/netfilter).
const DELETE: u16 = 1 << 8 | 2;
/// `NLM_F_REQUEST | NLM_F_ACK` (include/uapi/linux/netlink.h).
const REQUEST: u16 = 1 | 4;
/// `NLMSG_ERROR`, which an acknowledgement is, too: of error 0.
const ERROR: u16 = 2;
/// Bytes of `struct nlmsghdr`, and of `struct nfgenmsg` behind it.
const LENGTH: u32 = 16 + 4;
/// How long the kernel may take to free what was deleted.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many connections there are; `None` where the kernel tracks none at all.
///
/// # Errors
/// The count cannot be read.
pub fn count() -> Result<Option<u64>> {
    let text = match std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    Ok(Some(text.trim().parse().with_context(|| format!("{text:?} connections"))?))
}

/// Empties the table, and returns when it is empty.
///
/// # Errors
/// Missing capabilities; the kernel refuses; connections stay, or come anew.
pub fn clear() -> Result<()> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))
            .context("a netlink socket for the kernel's connections")?;
    let mut message = Vec::with_capacity(LENGTH as usize);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(DELETE.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Sequence and port number: there is one message, and the kernel knows the port.
    message.extend([0; 8]);
    // Any family, version 0, and no resource: without a tuple it means all of them.
    message.extend([0; 4]);
    send(&socket, &message, SendFlags::empty()).context("asking for the connections' end")?;
    let mut answer = [0; 512];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let word = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes);
    ensure!(length >= 20 && kind == ERROR, "the kernel answered {length} bytes of kind {kind}");
    let errno = word(16).map_or(0, i32::from_ne_bytes);
    let refusal = std::io::Error::from_raw_os_error(-errno);
    ensure!(errno == 0, "the kernel does not empty its table of connections: {refusal}");
    let start = Instant::now();
    while let Some(left @ 1..) = count()? {
        ensure!(
            start.elapsed() < PATIENCE,
            "{left} connections stay in the kernel's table after {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
