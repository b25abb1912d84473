//! Who forwards between the two devices, in a thread on the measured core.
//!
//! Owns: the thread, ended by [`Forwarder::stop`]. The loop is what a program writes that knows nothing better: wait, read a packet, write it.

use super::{Kind, MTU};
use crate::machine::{core_time, measured_core};
use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use zsync_control::raw;
use zsync_engine::exchange::{Mailbox, Order};
use zsync_engine::manager::clock;
use zsync_engine::runner::Runner;
use zsync_engine::worker::{Output, Parts, Queue, Worker};
use zsync_io::tun::Tun;
use zsync_io::virtio;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::FrameSize;
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec;
use zsync_pipelines::tables::fib::{FibLayout, FibWriter, Target};
use zsync_protocol::message::Idle;
use zsync_protocol::stats::{StatsLayout, WorkerStats};
use zsync_runtime::Seat;

/// Frames of the worker's pool.
const FRAMES: u32 = 4096;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];

const ROUTE: &str = r#"
    [port.near]
    device = "tun"
    netdev = "near"
    [port.far]
    device = "tun"
    netdev = "far"
    [pipeline.forward]
    input  = ["near", "far"]
    stages = ["route.main"]
    [route.main]
    table = 254
"#;

/// A thread that forwards.
pub(super) struct Forwarder {
    thread: JoinHandle<()>,
    number: u32,
    end: End,
}

/// How it is told to end.
enum End {
    Worker(Arc<Mailbox>),
    Loop(Arc<AtomicBool>),
}

/// Opens `tun0` in the calling thread's namespace, in the form that this kind reads and writes.
pub(super) fn open(kind: Kind) -> Result<OwnedFd> {
    if kind != Kind::Offload {
        return raw::open_tun("tun0").context("opening a TUN device");
    }
    let queue = raw::open_tun_queue("tun0", false, false).context("opening a TUN device")?;
    raw::set_header_len(&queue, virtio::HEADER_LEN as i32)?;
    raw::take_offload(&queue, true).context("offload of TUN devices, UDP too: Linux 6.2 has it")?;
    Ok(queue)
}

impl Forwarder {
    /// Starts it between the near device and the far one.
    pub(super) fn start(kind: Kind, devices: [OwnedFd; 2]) -> Result<Self> {
        if kind == Kind::Loop {
            let stop = Arc::new(AtomicBool::new(false));
            let end = End::Loop(stop.clone());
            let (thread, number) = on_core(move || copy(&devices, &stop))?;
            return Ok(Self { thread, number, end });
        }
        let [near, far] = devices;
        let device = |queue, port| match kind {
            Kind::Offload => Tun::with_header(queue, port, MAC, MTU, true),
            _ => Tun::new(queue, port, MAC, MTU),
        };
        let shared = Region::heap(StatsLayout::bytes(1));
        StatsLayout::format(&shared, 1)?;
        let seat = Seat::new()?;
        let mailbox = Mailbox::new(seat.remote().bell());
        let queues = [(near, PortId(0)), (far, PortId(1))];
        let parts = Parts {
            pool: Pool::heap(FrameSize::K2, FRAMES, 1)?.remove(0),
            queues: queues.into_iter().map(|(queue, port)| Queue::new(device(queue, port), port)).collect(),
            outputs: vec![Output::Own(0), Output::Own(1)],
            mailbox: mailbox.clone(),
            peers: vec![mailbox.clone()],
            stats: WorkerStats::open(&shared, 0)?,
            punt: None,
        };
        let worker = Worker::new(parts, Box::new(snapshot()?));
        // Waiting is not to count as work, on either side.
        let (thread, number) = on_core(move || Runner::new(worker, seat, clock()).run(Idle::Block, clock))?;
        Ok(Self { thread, number, end: End::Worker(mailbox) })
    }

    /// How long it was running.
    pub(super) fn core_time(&self) -> Result<Duration> {
        Ok(core_time(std::process::id(), self.number)?)
    }

    /// Ends it, and its devices with it.
    pub(super) fn stop(self) -> Result<()> {
        let told = match &self.end {
            End::Worker(mailbox) => mailbox.order(Order::Stop).is_ok(),
            End::Loop(stop) => {
                stop.store(true, Relaxed);
                true
            }
        };
        ensure!(told && self.thread.join().is_ok(), "who forwards does not stop");
        Ok(())
    }
}

/// Starts a thread on the measured core; its number too.
fn on_core(work: impl FnOnce() + Send + 'static) -> Result<(JoinHandle<()>, u32)> {
    let (tell, told) = mpsc::sync_channel(1);
    let pinned = move || {
        let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: measured_core() });
        let _ = tell.send((rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(), pinned));
        work();
    };
    let thread = std::thread::Builder::new().name("forwarder".to_owned()).spawn(pinned)?;
    let (number, pinned) = told.recv()?;
    ensure!(pinned, "who forwards could not be pinned to core {}", measured_core());
    Ok((thread, number))
}

/// From either device to the other, a packet after the other.
fn copy(devices: &[OwnedFd; 2], stop: &AtomicBool) {
    let mut packet = [0; 2048];
    let patience = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    while !stop.load(Relaxed) {
        let mut there = devices.each_ref().map(|device| PollFd::new(device, PollFlags::IN));
        if poll(&mut there, Some(&patience)).is_err() {
            continue;
        }
        for (from, to) in [(0, 1), (1, 0)] {
            while let Ok(len) = rustix::io::read(&devices[from], &mut packet) {
                let _ = rustix::io::write(&devices[to], &packet[..len]);
            }
        }
    }
}

/// Two networks, each behind its port.
fn snapshot() -> Result<Snapshot> {
    let parsed = spec::parse(ROUTE, "benchmark").ok().context("the benchmark's configuration is wrong")?;
    let layout = FibLayout { adjacencies: 64, ..FibLayout::SMALL };
    let mut writer = FibWriter::create(Region::heap(layout.bytes()), layout)?;
    for port in 0..2 {
        let network = IpAddr::from(Ipv4Addr::new(10, port as u8 + 1, 0, 0));
        let link = writer.adjacency(port, network)?;
        writer.link(link);
        writer.insert(network, 24, Target::Hops(vec![(link, 1)]))?;
    }
    let facts = PortFacts { mac: MAC, mtu: u32::from(MTU), of_host: true, ..PortFacts::default() };
    let resources = Resources {
        ports: vec![facts; 2],
        fibs: BTreeMap::from([(254, writer.reader())]),
        hash_key: HashKey::from_seed(1),
        workers: 1,
        states: [].into(),
    };
    Ok(compile(&parsed.spec, 1, &resources)?)
}
