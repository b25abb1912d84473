//! An installation as the data plane gives it back.

use super::super::rings::lacking;
use super::super::sockets::Copying;
use super::super::tun::{self, Tuns};
use super::super::udp::{self, Udps};
use super::{Installation, OpenPort, OpenQueue, Paths, in_order};
use crate::netlink::check_port;
use crate::xdp::{Hook, Ingress, Mode as XdpMode, Tap, attached_program};
use anyhow::{Result, anyhow};
use rustix::fd::{AsFd as _, OwnedFd};
use zsync_pipelines::spec::{Device, Spec};
use zsync_protocol::message::ToDataplane;
use zsync_protocol::shm::{Access, map};
use zsync_protocol::stats::{StatsLayout, WorkerStats};

/// Of a port that was to have the better one: the reason was known to the process that opened it.
const WITHOUT_XDP: &str =
    "runs by packet sockets, without AF_XDP: the control process that opened it said why in its log";

impl Installation {
    /// Takes back what a running data plane was given, from its own mouth, and the programs from their pins.
    ///
    /// # Errors
    /// Something is missing or does not fit; the data plane then goes on, and somebody has to look.
    pub fn adopt(spec: &Spec, paths: &Paths, given: Vec<(ToDataplane, Vec<OwnedFd>)>) -> Result<Self> {
        let (mut layout, mut memory, mut punt) = (None, None, None);
        let (mut facts, mut queues, mut tuns, mut udps) =
            (Vec::new(), Vec::new(), Tuns::new(), Udps::default());
        let mut rings = Vec::new();
        for (message, mut fds) in given {
            match message {
                ToDataplane::Hello { layout: had, .. } => {
                    let four: [OwnedFd; 4] =
                        fds.try_into().map_err(|_| anyhow!("the data plane did not return its memory"))?;
                    (layout, memory) = (Some(had), Some(four));
                }
                ToDataplane::Port { id, ifindex, mac, mtu, v4, v6, .. } => {
                    facts.push((id, ifindex, mac, mtu, v4, v6));
                }
                ToDataplane::Queue { port, queue, worker, .. } => {
                    let socket = fds.pop().ok_or_else(|| anyhow!("a queue came without its socket"))?;
                    let queue = u32::from(queue);
                    queues.push(OpenQueue { message, port, queue, worker, socket });
                }
                ToDataplane::Packet { port, queue, worker } => {
                    let socket = fds.pop().ok_or_else(|| anyhow!("a queue came without its socket"))?;
                    queues.push(OpenQueue { message, port, queue: queue.into(), worker, socket });
                }
                ToDataplane::Tun { port, queue, worker, .. } => {
                    let socket = fds.pop().ok_or_else(|| anyhow!("a TUN device came without its queue"))?;
                    let own = in_order(spec).find(|of| of.id.0 == port && of.tun.is_some());
                    let netdev = own.map(|port| port.netdev.clone());
                    let netdev = netdev.ok_or_else(|| anyhow!("port {port} is no TUN device"))?;
                    tuns.entry(netdev).or_default().push(socket.try_clone()?);
                    queues.push(OpenQueue { message, port, queue: queue.into(), worker, socket });
                }
                ToDataplane::Udp { port, queue, worker, local } => {
                    let socket = fds.pop().ok_or_else(|| anyhow!("a UDP port came without its socket"))?;
                    udps.open.entry(local).or_default().push(socket.try_clone()?);
                    queues.push(OpenQueue { message, port, queue: queue.into(), worker, socket });
                }
                ToDataplane::Ring { port, .. } => rings.push(port),
                ToDataplane::Punt => punt = fds.pop(),
                _ => {}
            }
        }
        let layout = layout.ok_or_else(|| anyhow!("the data plane did not say what it is made of"))?;
        let memory = memory.ok_or_else(|| anyhow!("the data plane did not return its memory"))?;
        let punt = punt.ok_or_else(|| anyhow!("the data plane did not return the punt device"))?;
        let workers = layout.workers.len();
        let region = map(memory[2].as_fd(), StatsLayout::bytes(workers), Access::ReadWrite)?;
        let stats = (0..workers).map(|w| WorkerStats::open(&region, w)).collect::<Result<_, _>>()?;
        let mut ports = Vec::new();
        for port in in_order(spec) {
            let (_, ifindex, mac, mtu, v4, v6) = facts
                .iter()
                .find(|(id, ..)| *id == port.id.0)
                .ok_or_else(|| anyhow!("the data plane has no port {}", port.name))?;
            if port.tun.is_some() {
                ports.push(OpenPort { mac: *mac, v4: *v4, v6: *v6, ..tun::opened(port, *ifindex, *mtu) });
                continue;
            }
            if let Some(udp) = &port.udp {
                let ring = match rings.contains(&port.id.0) {
                    true => Ok(()),
                    false => Err(lacking(queues.iter().find(|queue| queue.port == port.id.0))),
                };
                ports.push(OpenPort { ring: udp.io_uring.then_some(ring), ..udp::opened(port, *mtu) });
                continue;
            }
            let mut warnings = Vec::new();
            let own = || queues.iter().filter(|queue| queue.port == port.id.0);
            let (hook, xdp) = if own().any(|queue| matches!(queue.message, ToDataplane::Packet { .. })) {
                let tap = Tap::adopt(&paths.pins(&port.name), *ifindex)?;
                own().try_for_each(|queue| tap.let_in(&queue.socket))?;
                if port.device == Device::Auto {
                    warnings.push(WITHOUT_XDP.to_owned());
                }
                (Hook::Tap(tap), XdpMode::Generic)
            } else {
                let mut ingress = Ingress::adopt(&paths.pins(&port.name), *ifindex)?;
                if let Err(error) = ingress.upgrade() {
                    tracing::warn!(port = port.name, %error, "the running XDP program stays: this build's was refused");
                }
                let xdp = attached_program(*ifindex)?.map_or(XdpMode::Native, |program| program.mode);
                (Hook::Xdp(ingress), xdp)
            };
            let copying = match own().next().map(|queue| &queue.message) {
                Some(ToDataplane::Queue { zero_copy: true, .. }) => Copying::ZeroCopy,
                _ => Copying::Copy,
            };
            let kind = check_port(&port.netdev, None, |_| true).ok().and_then(|check| check.link.kind);
            ports.push(OpenPort {
                spec: port.clone(),
                ifindex: *ifindex,
                mac: *mac,
                mtu: *mtu,
                v4: *v4,
                v6: *v6,
                kind,
                ingress: Some(hook),
                inherited: true,
                xdp,
                copying,
                ring: None,
                warnings,
            });
        }
        Ok(Self { layout, memory, stats, ports, queues, punt, tuns, udps, pages: "as before".to_owned() })
    }
}
