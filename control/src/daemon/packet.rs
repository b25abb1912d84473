//! Ports without AF_XDP: packet sockets, one for each queue, opened, given their filter and bound.
//!
//! Owns nothing: the sockets go to the [installation](super::installation). Refuses what the kernel does, with the remedy. Keeps true: no
//! socket receives before it has its filter, nor what the host itself sends.

use super::installation::OpenQueue;
use super::ports::{Opened, Opening, steering};
use super::sockets::Copying;
use crate::raw::{bind_packet, numbers, set_option};
use crate::xdp::{Hook, Ingress, Mode as XdpMode, Tap};
use anyhow::{Context as _, Result, anyhow};
use libc::{SOL_PACKET, SOL_SOCKET};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use zsync_protocol::message::ToDataplane;

/// Bytes that may wait in a socket, each way. A small packet takes some 800 of them (`skb->truesize`), so these are 20,000 packets: 10 ms
/// of 2 million a second, which a data plane takes to be started anew.
const BUFFER: i32 = 16 << 20;

/// `PACKET_IGNORE_OUTGOING` (include/uapi/linux/if_packet.h, Linux 4.20).
const IGNORE_OUTGOING: i32 = 23;
/// Of `PACKET_FANOUT`, above its group's number: by the hash of a packet's flow, the same in both directions (`fanout_demux_hash`); that
/// the kernel is to find a number that no other group of the network namespace has; and what [`IGNORE_OUTGOING`] is for a socket of no
/// group: a group has a hook of its own, which knows nothing of what its sockets ignore (`fanout_add`; Linux 4.20).
const BY_HASH: i32 = 0;
const UNIQUE: i32 = 0x2000 << 16;
const GROUP_IGNORES_OUTGOING: i32 = 0x4000 << 16;
/// Numbers of `SO_MEMINFO`, and which one says what found no room (include/uapi/linux/sock_diag.h).
const MEMORY: usize = 9;
const DROPS: usize = 8;

/// Opens a port over the programs that are pinned, if they are on the device, so that the filters never lapse, else over new ones.
///
/// # Errors
/// What the kernel refused; what was attached before is so still, and nothing new.
pub(super) fn open(by: &Opening<'_>) -> Result<Opened> {
    let Opening { wanted, port, check, paths, .. } = by;
    let (pins, ifindex) = (paths.pins(&port.name), check.link.ifindex);
    let steering = steering(wanted.spec, port);
    let pinned = pins.exists().then(|| Tap::adopt(&pins, ifindex));
    let (tap, inherited) = match pinned {
        Some(Ok(mut tap)) => {
            tap.clear_sockets()?;
            tap.apply_steering(&steering)?;
            (tap, true)
        }
        gone => {
            if let Some(Err(error)) = gone {
                tracing::info!(port = port.name, %error, "the pins of an earlier run are removed");
                Ingress::remove_pins(&pins, ifindex)?;
            }
            (Tap::attach(&steering, ifindex, &pins)?, false)
        }
    };
    let queues = open_queues(by, &tap).map(|queues| (queues, Copying::Copy));
    Opened::new(Hook::Tap(tap), inherited, XdpMode::Generic, queues)
}

fn open_queues(by: &Opening<'_>, tap: &Tap) -> Result<Vec<OpenQueue>> {
    let &Opening { port, check, plans, .. } = by;
    let mut group = None;
    let mut queues = Vec::new();
    for plan in plans {
        let (queue, worker) = (plan.queue, plan.worker);
        let refused =
            |what| move |errno| anyhow!("{}, queue {queue}: {what}: {errno}{}", port.netdev, remedy(errno));
        let socket = open_socket().map_err(refused("opening a packet socket"))?;
        tap.let_in(&socket).with_context(|| format!("{}, queue {queue}: setting the filter", port.netdev))?;
        bind_packet(&socket, check.link.ifindex).map_err(refused("binding a packet socket"))?;
        if plans.len() > 1 {
            group = Some(join(&socket, group).map_err(refused("sharing the netdev's packets out"))?);
        }
        let message = ToDataplane::Packet { port: port.id.0, queue: queue as u16, worker };
        queues.push(OpenQueue { message, port: port.id.0, queue, worker, socket });
    }
    Ok(queues)
}

fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => " (CAP_NET_RAW or CAP_NET_ADMIN is missing)",
        Errno::NETDOWN | Errno::INVAL => {
            " (it must be up where it has several queues: `ip link set … up`, or queues = 1)"
        }
        Errno::AFNOSUPPORT => " (this kernel was built without CONFIG_PACKET)",
        _ => "",
    }
}

/// A socket that receives nothing yet, for it has no protocol. Frames come with a header of virtio and with their VLAN tags; they go past the
/// queueing disciplines, as those of AF_XDP do.
fn open_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    for (level, option, value) in [
        (SOL_PACKET, libc::PACKET_VNET_HDR, 1),
        (SOL_PACKET, libc::PACKET_AUXDATA, 1),
        (SOL_PACKET, IGNORE_OUTGOING, 1),
        (SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1),
        (SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER),
        (SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER),
    ] {
        set_option(&socket, level, option, value)?;
    }
    Ok(socket)
}

/// Puts the socket into a group that shares a netdev's packets out by their flows: a new one, or `group`. Returns the group.
fn join(socket: &OwnedFd, group: Option<i32>) -> Result<i32, Errno> {
    let group = group.unwrap_or(BY_HASH | UNIQUE | GROUP_IGNORES_OUTGOING);
    set_option(socket, SOL_PACKET, libc::PACKET_FANOUT, group)?;
    numbers::<1>(socket, SOL_PACKET, libc::PACKET_FANOUT).map(|[group]| group)
}

/// Packets that found no room in a socket, since it was opened.
pub(super) fn drops(socket: impl AsFd) -> u64 {
    let memory = numbers::<MEMORY>(socket, SOL_SOCKET, libc::SO_MEMINFO);
    memory.map_or(0, |memory| u64::from(memory[DROPS] as u32))
}
