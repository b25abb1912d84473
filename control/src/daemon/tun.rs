//! Ports that are TUN and TAP devices: made, given their addresses, their queues opened for the data plane.
//!
//! Owns nothing: the descriptors go to the [installation](super::installation), which keeps them while others are opened anew, so that
//! the kernel's routes by the device stay. Refuses: a name that another kind of device has, an MTU that no frame holds. Keeps true: at a
//! TAP device whose packets are routed the host asks nobody for neighbours, for it is alone there; at one that is a wire it does.

use super::installation::{OpenPort, OpenQueue};
use super::ports::QueuePlan;
use super::sockets::Copying;
use crate::netlink::{
    Link, PortCheck, PortError, add_address, ask_neighbours, bring_up, links_now, remove_address,
};
use crate::raw;
use crate::xdp::Mode as XdpMode;
use anyhow::{Context as _, Result, anyhow};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::BTreeMap;
use zsync_pipelines::spec::{Device, Port, Spec, TunSpec};
use zsync_protocol::message::{ToDataplane, TunOffload};

/// The address that packets of a TUN device seem to be sent to. It is nobody's: the header that it stands in never leaves the host.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];

/// `struct virtio_net_hdr` of include/uapi/linux/virtio_net.h, in bytes.
const HEADER_LEN: i32 = 10;

/// The queues of such devices that are open, by the device's name.
pub(super) type Tuns = BTreeMap<String, Vec<OwnedFd>>;

/// The kind of a port's device, as it is called.
fn kind(port: &Port) -> &'static str {
    if port.device == Device::Tap { "TAP" } else { "TUN" }
}

/// What kind of device a link is. The kernel calls both "tun".
fn kind_of(link: &Link) -> &str {
    match (link.kind.as_deref(), link.mac) {
        (Some("tun"), None) => "TUN",
        (Some("tun"), Some(_)) => "TAP",
        (kind, _) => kind.unwrap_or("no kind"),
    }
}

/// Whether the port's device can be made, or is there and can be taken; as what it will be.
///
/// # Errors
/// It cannot.
pub(super) fn check(port: &Port, tun: &TunSpec, mtu_limit: u32) -> Result<PortCheck, PortError> {
    let name = port.netdev.clone();
    if tun.mtu > mtu_limit {
        return Err(PortError::Mtu { name, mtu: tun.mtu, limit: mtu_limit });
    }
    let link = links_now()?.into_iter().find(|link| link.name == name);
    if let Some(other) = link.as_ref().map(kind_of).filter(|other| *other != kind(port)) {
        return Err(PortError::OtherKind { name, kind: other.to_owned(), wanted: kind(port) });
    }
    let link = link.unwrap_or_else(|| Link { name, mtu: tun.mtu, ..Link::default() });
    Ok(PortCheck { link, warnings: Vec::new() })
}

/// Opens a port of `spec` by the queues that are open already, or else anew.
///
/// # Errors
/// What the kernel refused.
pub(super) fn open(
    spec: &Spec,
    port: &Port,
    tun: &TunSpec,
    plans: &[QueuePlan],
    open: Option<Vec<OwnedFd>>,
) -> Result<(OpenPort, Vec<OpenQueue>, Vec<OwnedFd>)> {
    let (name, kind, frames) = (&port.netdev, kind(port), port.device == Device::Tap);
    let fds = match open.filter(|fds| fds.len() == plans.len()) {
        Some(fds) => fds,
        None => {
            let opened: Result<Vec<_>, Errno> =
                plans.iter().map(|_| open_queue(name, frames, plans.len())).collect();
            opened.map_err(|errno| {
                anyhow!("opening the {kind} device {name}: {errno} (is /dev/net/tun there, and the name nobody else's?)")
            })?
        }
    };
    let link = links_now()?.into_iter().find(|link| link.name == *name);
    let link = link.with_context(|| format!("the {kind} device {name} is gone"))?;
    let wire = spec.is_wire(port.id);
    if frames {
        ask_neighbours(link.ifindex, !wire)
            .with_context(|| format!("saying whether neighbours are asked for at {name}"))?;
    }
    // Of a device that is routed the kernel would make up an address of its own for IPv6, and ask for routers by it. Without IPv6 there is
    // nothing to say.
    let mode = |of: &str| format!("/proc/sys/net/ipv6/conf/{of}/addr_gen_mode");
    if !wire {
        let _ = std::fs::write(mode(name), "1");
    } else if std::fs::read_to_string(mode(name)).is_ok_and(|was| was.trim() == "1") {
        // It was routed: what the host says of devices that are new is said of this one again.
        let _ = std::fs::read(mode("default")).and_then(|new| std::fs::write(mode(name), new));
    }
    bring_up(link.ifindex, tun.mtu)
        .with_context(|| format!("bringing {name} up with an MTU of {}", tun.mtu))?;
    address(link.ifindex, None, tun)?;
    let offload = fds.first().map_or(Ok(TunOffload::None), take_offload);
    let offload = offload.with_context(|| format!("asking the {kind} device {name} for its form"))?;
    tracing::info!(device = name, ?offload, "{kind} device");
    let queues = plans.iter().zip(&fds).map(|(plan, fd)| {
        let message = ToDataplane::Tun {
            port: port.id.0,
            queue: plan.queue as u16,
            worker: plan.worker,
            offload,
            frames,
        };
        let (queue, worker) = (plan.queue, plan.worker);
        Ok(OpenQueue { message, port: port.id.0, queue, worker, socket: fd.try_clone()? })
    });
    let queues = queues.collect::<Result<_>>()?;
    let mac = link.mac.unwrap_or(MAC);
    Ok((OpenPort { mac, ..opened(port, link.ifindex, tun.mtu) }, queues, fds))
}

/// Devices that somebody has made to stay have one queue, or may have several.
fn open_queue(name: &str, frames: bool, count: usize) -> Result<OwnedFd, Errno> {
    match raw::open_tun_queue(name, frames, true) {
        Err(Errno::INVAL) if count == 1 => raw::open_tun_queue(name, frames, false),
        opened => opened,
    }
}

/// Takes from the kernel what it can leave to the data plane, by one queue for all of the device. Queues that were opened by a process
/// that did not ask for headers go on without.
fn take_offload(queue: &OwnedFd) -> Result<TunOffload, Errno> {
    if !raw::has_header(queue)? {
        return Ok(TunOffload::None);
    }
    raw::set_header_len(queue, HEADER_LEN)?;
    if raw::take_offload(queue, true).is_ok() {
        return Ok(TunOffload::TcpUdp);
    }
    raw::take_offload(queue, false)?;
    Ok(TunOffload::Tcp)
}

/// The port of a device that is open; a TAP device has another address.
pub(super) fn opened(port: &Port, ifindex: u32, mtu: u32) -> OpenPort {
    OpenPort {
        spec: port.clone(),
        ifindex,
        mac: MAC,
        mtu,
        v4: None,
        v6: None,
        kind: Some(kind(port).to_ascii_lowercase()),
        ingress: None,
        inherited: false,
        xdp: XdpMode::Generic,
        copying: Copying::Copy,
        ring: None,
        warnings: Vec::new(),
    }
}

/// Gives the host the addresses of `new` on the device, and takes away those that only `old` has.
///
/// # Errors
/// The first that the kernel refuses.
pub(super) fn address(ifindex: u32, old: Option<&TunSpec>, new: &TunSpec) -> Result<()> {
    for gone in old.iter().flat_map(|old| &old.addresses).filter(|gone| !new.addresses.contains(gone)) {
        // The operator may have taken it away already.
        let _ = remove_address(ifindex, gone.address, gone.length);
    }
    for wanted in &new.addresses {
        add_address(ifindex, wanted.address, wanted.length).with_context(|| format!("adding {wanted}"))?;
    }
    Ok(())
}
