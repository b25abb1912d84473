//! Opening a port: is its netdev fit, which queues, how many frames, the XDP program, the sockets.
//!
//! Owns nothing: what it opens goes to the [installation](super::installation). Refuses netdevs that cannot be ports, all of
//! them at once, each with the limit and the remedy. Keeps true: a port that fails to open leaves what was attached before,
//! and nothing new.

use super::installation::{OpenPort, OpenQueue, Paths, Wanted, in_order, set_chain};
use super::sockets::{self, Copying, SharedMemory, SocketPlan};
use super::{packet, tun, udp};
use crate::netlink::{PortCheck, check_peer, check_port};
use crate::raw;
use crate::xdp::{self, Hook, Ingress, IpPrefix, Mode as XdpMode, PortSteering, attached_program};
use anyhow::{Result, bail};
use rustix::fd::AsFd;
use zsync_pipelines::spec::{Amount, Device, Failover, Layer, Mode, Port, Protocol, Spec, Steer};
use zsync_protocol::message::ToDataplane;

/// Frames per worker beside those that rings can hold: bursts in hand, and what lies with other workers.
const SPARE_FRAMES: u32 = 1024;

/// Asks the kernel about every port, so that all that is wrong is said at once.
pub(super) fn check_ports(spec: &Spec, paths: &Paths, mtu_limit: u32) -> Result<Vec<PortCheck>> {
    let mut checked = Vec::new();
    let mut wrong = Vec::new();
    for port in in_order(spec) {
        // Packet sockets do not mind another's program, which sees packets first.
        let without = port.device != Device::Xdp;
        let ours = |_| port.replace || without || paths.pins(&port.name).exists();
        let check = match (&port.tun, &port.udp) {
            (Some(spec), _) => tun::check(port, spec, mtu_limit),
            (None, Some(_)) => Ok(udp::check(port, mtu_limit)),
            (None, None) => check_port(&port.netdev, Some(mtu_limit), ours),
        };
        match check {
            Ok(check) => checked.push(check),
            Err(error) => wrong.push(format!("port {}: {error}", port.name)),
        }
    }
    if wrong.is_empty() { Ok(checked) } else { bail!(wrong.join("\n")) }
}

pub(super) fn served_queues(port: &Port) -> Result<u32> {
    if !port.is_taken() {
        return Ok(if let Amount::Exact(queues) = port.queues { queues } else { 1 });
    }
    let there = raw::rx_queues(&port.netdev).unwrap_or(1);
    match port.queues {
        Amount::Auto => Ok(there.min(64)),
        // The kernel shares flows out over packet sockets, whatever queues they came by.
        Amount::Exact(want) if port.device == Device::UringPacket => Ok(want),
        Amount::Exact(want) if want < there => bail!(
            "port {}: {} has {there} RX queues, and queues = {want} would leave the others to the kernel: set \
             `ethtool -L {} combined {want}`, or queues = \"auto\"",
            port.name,
            port.netdev,
            port.netdev
        ),
        Amount::Exact(want) if want > there => {
            bail!("port {}: {} has {there} RX queues, not {want}", port.name, port.netdev)
        }
        Amount::Exact(want) => Ok(want),
    }
}

/// A queue before it is opened.
pub(super) struct QueuePlan {
    pub(super) queue: u32,
    pub(super) worker: u8,
    fill: u32,
}

pub(super) fn plan_queues(spec: &Spec, queues: &[u32], workers: usize) -> Vec<Vec<QueuePlan>> {
    let plan = |port: &Port, queues: u32| {
        // What the kernel can have at once: the RX ring full, and as much in the NIC when it takes frames itself.
        let fill = if !port.has_rings() {
            0
        } else if may_zero_copy(port) {
            (port.ring_size * 2).min(1 << 16)
        } else {
            port.ring_size
        };
        (0..queues).map(|queue| QueuePlan { queue, worker: (queue as usize % workers) as u8, fill }).collect()
    };
    in_order(spec).zip(queues).map(|(port, queues)| plan(port, *queues)).collect()
}

fn may_zero_copy(port: &Port) -> bool {
    matches!(port.mode, Mode::Auto | Mode::ZeroCopy)
}

/// Frames of the arena: what was asked for, if it suffices; else what all rings can hold, and some.
pub(super) fn frames_for(spec: &Spec, plans: &[Vec<QueuePlan>], workers: usize) -> Result<u32> {
    let mut per_worker = vec![SPARE_FRAMES; workers];
    for (port, plans) in in_order(spec).zip(plans) {
        for plan in plans {
            // Filled once, and room for the TX ring; a worker may also send what another one received.
            let sent = if port.has_rings() { port.ring_size } else { 0 };
            per_worker[usize::from(plan.worker)] += plan.fill + sent;
        }
    }
    // Every worker has an equal slice, and huge pages hold a whole number of frames.
    let need = (per_worker.iter().max().copied().unwrap_or(0) * workers as u32).next_multiple_of(1024);
    match spec.engine.frames {
        Amount::Auto => Ok(need),
        Amount::Exact(frames) if frames < need => {
            bail!("engine.frames = {frames} is too few: the rings of these ports and queues need {need}")
        }
        Amount::Exact(frames) => Ok(frames),
    }
}

/// What a port is opened by.
pub(super) struct Opening<'a> {
    pub(super) wanted: Wanted<'a>,
    pub(super) port: &'a Port,
    pub(super) check: &'a PortCheck,
    pub(super) plans: &'a [QueuePlan],
    pub(super) paths: &'a Paths,
    pub(super) memory: &'a SharedMemory<'a>,
}

pub(super) fn open_port(by: &Opening<'_>, free: &mut [u32]) -> Result<(OpenPort, Vec<OpenQueue>)> {
    let &Opening { port, check, .. } = by;
    let link = &check.link;
    let mut warnings: Vec<String> = check.warnings.iter().map(ToString::to_string).collect();
    let opened = match port.device {
        Device::UringPacket => packet::open(by),
        Device::Auto => {
            let before = free.to_vec();
            open_xdp(by, free, &mut warnings).or_else(|error| {
                // What its rings would have had is nobody's.
                free.copy_from_slice(&before);
                warnings.push(format!("runs by packet sockets, without AF_XDP: {error:#}"));
                packet::open(by)
            })
        }
        _ => open_xdp(by, free, &mut warnings),
    };
    let Opened { hook, inherited, xdp, copying, queues } = opened?;
    for warning in &warnings {
        tracing::warn!(port = port.name, "{warning}");
    }
    let mac = link.mac.unwrap_or_default();
    let open = OpenPort {
        spec: port.clone(),
        ifindex: link.ifindex,
        mac,
        mtu: link.mtu,
        v4: None,
        v6: None,
        kind: link.kind.clone(),
        ingress: Some(hook),
        inherited,
        xdp,
        copying,
        ring: None,
        warnings,
    };
    Ok((open, queues))
}

/// What a port's packets are taken by, and its queues.
pub(super) struct Opened {
    hook: Hook,
    /// It was there already.
    inherited: bool,
    xdp: XdpMode,
    copying: Copying,
    queues: Vec<OpenQueue>,
}

impl Opened {
    /// With the queues that were opened; if they were not, what was not there before goes.
    pub(super) fn new(
        hook: Hook,
        inherited: bool,
        xdp: XdpMode,
        opened: Result<(Vec<OpenQueue>, Copying)>,
    ) -> Result<Self> {
        match opened {
            Ok((queues, copying)) => Ok(Self { hook, inherited, xdp, copying, queues }),
            Err(error) => {
                if !inherited {
                    let _ = hook.detach();
                }
                Err(error)
            }
        }
    }
}

/// By XDP and AF_XDP sockets.
fn open_xdp(by: &Opening<'_>, free: &mut [u32], warnings: &mut Vec<String>) -> Result<Opened> {
    let &Opening { wanted, port, check, plans, paths, memory } = by;
    let link = &check.link;
    if let Ok(Some(warning)) = check_peer(link) {
        warnings.push(warning.to_string());
    }
    let (hook, xdp, inherited) = attach(wanted, port, link.ifindex, paths, warnings)?;
    let opened = open_queues(port, link.ifindex, plans, memory, free, xdp, warnings);
    Opened::new(hook, inherited, xdp, opened)
}

/// Attaches the port's program: the one that is pinned, if it is the one that runs, so that the filters never lapse. Says
/// also whether it was there already.
fn attach(
    wanted: Wanted<'_>,
    port: &Port,
    ifindex: u32,
    paths: &Paths,
    warnings: &mut Vec<String>,
) -> Result<(Hook, XdpMode, bool)> {
    let pins = paths.pins(&port.name);
    let Wanted { spec, programs } = wanted;
    let wanted = steering(spec, port);
    let modes: &[XdpMode] = match port.mode {
        Mode::Auto => &XdpMode::BEST,
        Mode::ZeroCopy | Mode::Copy => &[XdpMode::Native],
        Mode::Generic => &[XdpMode::Generic],
    };
    if pins.exists() {
        match Ingress::adopt(&pins, ifindex) {
            Ok(mut ingress) => {
                ingress.clear_sockets()?;
                let mode = attached_program(ifindex)?.map_or(XdpMode::Native, |program| program.mode);
                let upgraded = ingress.upgrade();
                if let Err(error) = &upgraded {
                    tracing::warn!(port = port.name, %error, "the running XDP program cannot be upgraded, and is replaced");
                }
                // The best mode was tried when it was attached; only one that is not asked for is left.
                if upgraded.is_ok() && modes.contains(&mode) {
                    ingress.apply_steering(&wanted)?;
                    let mut hook = Hook::Xdp(ingress);
                    set_chain(&mut hook, port, programs)?;
                    return Ok((hook, mode, true));
                }
                ingress.detach()?;
            }
            Err(error) => {
                tracing::info!(port = port.name, %error, "the pins of an earlier run are removed");
                Ingress::remove_pins(&pins, ifindex)?;
            }
        }
    }
    if port.replace && attached_program(ifindex)?.is_some() {
        xdp::remove_netlink_program(ifindex)?;
    }
    let mut ingress = Ingress::load(&wanted)?;
    let attached = ingress.attach(ifindex, modes)?;
    warnings
        .extend(attached.refused.iter().map(|refusal| format!("runs in {} mode: {refusal}", attached.mode)));
    ingress.pin(&pins)?;
    let mut hook = Hook::Xdp(ingress);
    if let Err(error) = set_chain(&mut hook, port, programs) {
        hook.detach()?;
        return Err(error);
    }
    Ok((hook, attached.mode, false))
}

fn open_queues(
    port: &Port,
    ifindex: u32,
    plans: &[QueuePlan],
    memory: &SharedMemory<'_>,
    free: &mut [u32],
    xdp: XdpMode,
    warnings: &mut Vec<String>,
) -> Result<(Vec<OpenQueue>, Copying)> {
    let mut queues: Vec<OpenQueue> = Vec::new();
    let mut copying =
        if may_zero_copy(port) && xdp == XdpMode::Native { Copying::ZeroCopy } else { Copying::Copy };
    for plan in plans {
        let first = free[usize::from(plan.worker)];
        let share = queues.first().map(|queue| queue.socket.as_fd());
        let open = |copying: Copying| {
            // What would lie in the NIC lies nowhere when the kernel copies.
            let fill = if copying == Copying::Copy { port.ring_size } else { plan.fill };
            let socket = SocketPlan {
                netdev: &port.netdev,
                ifindex,
                queue: plan.queue,
                ring: port.ring_size,
                fill,
                worker: plan.worker,
                frames: first..first + fill,
                busy_poll: port.busy_poll,
            };
            sockets::open(&socket, memory, share, copying).map(|opened| (opened, fill))
        };
        let (opened, fill) = match open(copying) {
            Err(error) if share.is_none() && copying == Copying::ZeroCopy && port.mode == Mode::Auto => {
                warnings.push(format!("runs in copy mode: {error}"));
                copying = Copying::Copy;
                open(copying)
            }
            opened => opened,
        }?;
        free[usize::from(plan.worker)] += fill;
        queues.push(OpenQueue {
            message: ToDataplane::Queue {
                port: port.id.0,
                queue: plan.queue as u16,
                worker: plan.worker,
                rx: port.ring_size,
                tx: port.ring_size,
                fill,
                completion: fill,
                zero_copy: copying == Copying::ZeroCopy,
                busy_poll: port.busy_poll,
            },
            port: port.id.0,
            queue: plan.queue,
            worker: plan.worker,
            socket: opened,
        });
    }
    Ok((queues, copying))
}

/// What the port's program is told.
pub(super) fn steering(spec: &Spec, port: &Port) -> PortSteering {
    let prefix = |p: &zsync_pipelines::spec::Prefix| IpPrefix { addr: p.addr(), len: p.len() };
    // Those of its VLANs too: all of them are of one layer.
    let pipeline = spec
        .pipelines
        .iter()
        .find(|pipeline| pipeline.inputs.iter().any(|input| spec.device_of(*input) == port.id));
    PortSteering {
        layer3: pipeline.is_none_or(|pipeline| pipeline.layer() == Layer::L3),
        fallback_open: port.failover == Failover::Open,
        steer: match &port.steer {
            // Nobody takes the packets of a port without a pipeline, so the kernel keeps them.
            _ if pipeline.is_none() => xdp::Steer::Prefixes(Vec::new()),
            Steer::All => xdp::Steer::All,
            Steer::Prefixes(prefixes) => xdp::Steer::Prefixes(prefixes.iter().map(prefix).collect()),
            Steer::Services(services) => xdp::Steer::Ports(
                services.iter().map(|s| (protocol_number(s.protocol()), s.port())).collect(),
            ),
        },
        block: port.block.iter().map(prefix).collect(),
    }
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}
