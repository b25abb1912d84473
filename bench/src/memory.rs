//! The engine's own worker between two null devices: what a packet costs when the devices cost nothing.
//!
//! Everything of a worker is there: its loop with its clock, the snapshot, compiled from a configuration, the ledger, the
//! counters in shared memory. Only the devices are not: a [`Null`] gives packets that lie in free frames (or copies them
//! there, where the pipeline rewrites them), and takes what is sent back at once. Keeps true: a round in which a packet was
//! dropped is an error, not a figure.

mod tasks;

pub use tasks::tasks;

use crate::hugepages;
use crate::machine::{core_time, measured_core};
use crate::report::{Rate, Report};
use crate::testpmd::Testpmd;
use crate::traffic::{Family, Seeded, Table, udp_frame};
use crate::watch::Watch;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;
use zsync_engine::exchange::{Mailbox, Order};
use zsync_engine::manager::clock;
use zsync_engine::runner::Runner;
use zsync_engine::worker::{Output, Parts, Queue, Worker};
use zsync_io::memory::Null;
use zsync_packet::burst::BURST;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::FrameSize;
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec;
use zsync_pipelines::tables::fib::Fib;
use zsync_protocol::message::Idle;
use zsync_protocol::stats::{StatsLayout, WorkerStats};
use zsync_runtime::Seat;

/// Bytes of a packet.
const PACKET: usize = 64;
/// Frames of the pool: more than one burst, fewer than a cache; a null device holds none of them.
const FRAMES: u32 = 4096;
/// Flows that routed packets are of, at each port.
const FLOWS: u64 = 10_000;
/// A thread's first milliseconds, with cold caches and page faults, are not measured.
const WARM_UP: Duration = Duration::from_millis(50);
/// The MAC addresses of the two ports.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

/// Routes in the tables of `memory-route`.
pub const ROUTES: [usize; 3] = [1, 1_000, 100_000];

const PATCH: &str = r#"
    [port.left]
    netdev = "left"
    [port.right]
    netdev = "right"
    [pipeline.wire]
    input  = ["left", "right"]
    stages = ["patch.wire"]
    [patch.wire]
    pairs = [["left", "right"]]
"#;
const MACSWAP: &str = r#"
    [port.left]
    netdev = "left"
    [port.right]
    netdev = "right"
    [pipeline.reflect]
    input  = ["left", "right"]
    stages = ["macswap", "patch.wire"]
    [patch.wire]
    pairs = [["left", "right"]]
"#;
const ROUTE: &str = r#"
    [port.left]
    netdev = "left"
    [port.right]
    netdev = "right"
    [pipeline.forward]
    input  = ["left", "right"]
    stages = ["route.main"]
    [route.main]
    table = 254
"#;

/// `memory-patch`: two ports patched together, beside testpmd in io mode, A B A B.
///
/// # Errors
/// A round that cannot be measured. A testpmd that is not there is a note in the report.
pub fn patch(rounds: usize, round: Duration, watch: &Watch) -> Result<Report> {
    let ours = || measure(&snapshot(PATCH, None)?, printed, round, watch);
    let names = ["zsync patch", "testpmd io"];
    beside("memory-patch", names, (rounds, round), ours, Testpmd::between_null_devices(), watch)
}

/// `memory-macswap`: two ports patched together and MAC addresses swapped, each packet copied in and out, beside testpmd
/// in macswap mode with null devices that copy, A B A B.
///
/// # Errors
/// As [`patch`].
pub fn macswap(rounds: usize, round: Duration, watch: &Watch) -> Result<Report> {
    let ours = || measure(&snapshot(MACSWAP, None)?, through, round, watch);
    let testpmd = Testpmd::swapping_between_copying_devices(PACKET, BURST);
    let names = ["zsync macswap", "testpmd macswap"];
    let mut report = beside("memory-macswap", names, (rounds, round), ours, testpmd, watch)?;
    report.notes.push(format!(
        "{PACKET} bytes a packet, bursts of {BURST} on both sides; each packet is copied into its frame when it is \
         received, and out of it when it is sent"
    ));
    Ok(report)
}

/// Rounds of ours and of testpmd's, in turn.
fn beside(
    name: &'static str,
    names: [&str; 2],
    (rounds, round): (usize, Duration),
    measure_ours: impl Fn() -> Result<f64>,
    testpmd: Result<Testpmd>,
    watch: &Watch,
) -> Result<Report> {
    let mut report = Report { of_core_time: true, ..Report::new(name) };
    let [mut ours, mut theirs] = names.map(|name| Rate { name: name.to_owned(), samples: vec![] });
    let mut testpmd = match testpmd {
        Ok(testpmd) => Some(testpmd),
        Err(error) => {
            report.notes.push(format!("no testpmd beside it: {error:#}"));
            None
        }
    };
    let done = watch.rounds(rounds, Duration::MAX, |number| {
        let step = |turn: usize, name: &str| {
            let what = format!("round {} of {rounds}, {name}", number + 1);
            watch.step(2 * number + turn, 2 * rounds, &what)
        };
        step(0, &ours.name);
        ours.samples.push(measure_ours()?);
        if let Some(testpmd) = &mut testpmd {
            step(1, &theirs.name);
            theirs.samples.push(testpmd.measure(round, WARM_UP, watch)?);
        }
        Ok(())
    })?;
    [&mut ours, &mut theirs].into_iter().for_each(|rate| rate.samples.truncate(done.done));
    report.notes.extend(done.note);
    if !hugepages::are_reserved() {
        report.notes.push("testpmd is on plain pages, which costs it about half of its rate".to_owned());
    }
    if testpmd.is_some() {
        report.compare(ours, theirs)
    } else {
        report.rates.push(ours)
    }
    report.notes.push(OF_CORE_TIME.to_owned());
    Ok(report)
}

/// What a rate in memory means.
const OF_CORE_TIME: &str = "packets per second that the forwarding thread was running (the kernel's account of its core \
                            time), so what else the machine does costs only what it does to the caches; between null devices \
                            nothing can be lost, so the rate is the rate without loss, too";

/// `memory-route`: two ports, and the `route` pipeline over tables of [`ROUTES`] prefixes of both families.
///
/// # Errors
/// A round that cannot be measured.
pub fn route(rounds: usize, round: Duration, watch: &Watch) -> Result<Report> {
    let mut report = Report { of_core_time: true, ..Report::new("memory-route") };
    let mut seeded = Seeded::new(1);
    let wire = snapshot(PATCH, None)?;
    let mut cases = Vec::new();
    let total = rounds * (2 * ROUTES.len() + 1);
    watch.step(0, total, "tables");
    for family in [Family::V4, Family::V6] {
        for routes in ROUTES {
            let table = Table::random(family, routes, &mut seeded)?;
            let flows = [(); 2].map(|()| destinations(&table, &mut seeded));
            let snapshot = snapshot(ROUTE, Some(table.fib))?;
            let name = format!("{} route, {routes} prefixes", family.name());
            cases.push((Rate { name, samples: vec![] }, snapshot, flows));
        }
    }
    let mut copied = Rate { name: "the null device's copy (patch)".to_owned(), samples: vec![] };
    let mut turn = 0;
    let done = watch.rounds(rounds, Duration::MAX, |number| {
        let mut step = |name: &str| {
            watch.step(turn, total, &format!("round {} of {rounds}, {name}", number + 1));
            turn += 1;
        };
        for (n, (rate, snapshot, flows)) in cases.iter_mut().enumerate() {
            let devices = |_: &mut Pool| copies(flows);
            if n == 0 {
                step(&copied.name);
                copied.samples.push(measure(&wire, devices, round, watch)?);
            }
            step(&rate.name);
            rate.samples.push(measure(snapshot, devices, round, watch)?);
        }
        Ok(())
    })?;
    report.notes.extend(done.note);
    report.rates.push(copied);
    report.rates.extend(cases.into_iter().map(|(rate, ..)| rate));
    report.rates.iter_mut().for_each(|rate| rate.samples.truncate(done.done));
    report.notes.push(OF_CORE_TIME.to_owned());
    report.notes.push(format!(
        "{FLOWS} flows at each port, random destinations; each packet is copied into its frame first (the stage rewrites \
         it), which the first row measures by itself"
    ));
    Ok(report)
}

fn snapshot(config: &str, fib: Option<Fib>) -> Result<Snapshot> {
    let Ok(parsed) = spec::parse(config, "benchmark") else {
        bail!("the benchmark's configuration is wrong")
    };
    let facts = |mac| PortFacts { mac, mtu: 1500, complete_checksums: false, ..PortFacts::default() };
    let fibs = fib.map_or_else(BTreeMap::new, |fib| BTreeMap::from([(254, fib)]));
    let resources = Resources {
        ports: MACS.map(facts).to_vec(),
        fibs,
        hash_key: HashKey::from_seed(1),
        workers: 1,
        states: [].into(),
    };
    Ok(compile(&parsed.spec, 1, &resources)?)
}

/// Two devices that give the same packet for ever.
fn printed(pool: &mut Pool) -> Result<[Null; 2]> {
    let frame = any_packet()?;
    let mut device =
        |port| Null::printed(PortId(port), pool, &frame).context("a packet too long for its frame");
    Ok([device(0)?, device(1)?])
}

/// The same, copied into each frame and out of it.
fn through(pool: &mut Pool) -> Result<[Null; 2]> {
    let frame = any_packet()?;
    let device = |port| Null::through(PortId(port), pool, &frame).context("a packet too long for its frame");
    Ok([device(0)?, device(1)?])
}

fn any_packet() -> Result<Vec<u8>> {
    let (source, destination) = ((Ipv4Addr::new(192, 0, 2, 1), 1024), (Ipv4Addr::new(198, 18, 0, 1), 9));
    udp_frame((MACS[1], MACS[0]), source.into(), destination.into(), PACKET)
        .context("a packet too short for its headers")
}

fn destinations(table: &Table, seeded: &mut Seeded) -> Vec<IpAddr> {
    (0..FLOWS).map(|_| table.destination(seeded)).collect()
}

/// Two devices that give one packet to each of these addresses, in turn.
fn copies(flows: &[Vec<IpAddr>; 2]) -> Result<[Null; 2]> {
    let device = |port: u16| -> Result<Null> {
        let mac = MACS[usize::from(port)];
        let frame = |(flow, &destination): (usize, &IpAddr)| {
            let source: IpAddr = match destination {
                IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
                IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            };
            let ports = (1024 + flow as u16, 9);
            let (source, destination) =
                (SocketAddr::new(source, ports.0), SocketAddr::new(destination, ports.1));
            let frame = udp_frame(([2, 0, 0, 9, 9, 9], mac), source, destination, PACKET);
            frame.map(Vec::into_boxed_slice).context("a packet too short for its headers")
        };
        let frames = flows[usize::from(port)].iter().enumerate().map(frame).collect::<Result<Vec<_>>>()?;
        Ok(Null::copied(PortId(port), frames))
    };
    Ok([device(0)?, device(1)?])
}

/// One round: packets per second of core time of a worker on the measured core.
fn measure(
    snapshot: &Snapshot,
    devices: impl FnOnce(&mut Pool) -> Result<[Null; 2]>,
    round: Duration,
    watch: &Watch,
) -> Result<f64> {
    measure_beside(snapshot, devices, |_| (), round, watch)
}

/// The same beside what `spawn` has spawned.
fn measure_beside(
    snapshot: &Snapshot,
    devices: impl FnOnce(&mut Pool) -> Result<[Null; 2]>,
    spawn: impl FnOnce(&Runner<Null>) + Send + 'static,
    round: Duration,
    watch: &Watch,
) -> Result<f64> {
    let mut pool = Pool::heap(FrameSize::K2, FRAMES, 1)?.remove(0);
    let devices = devices(&mut pool)?;
    let shared = Region::heap(StatsLayout::bytes(1));
    StatsLayout::format(&shared, 1)?;
    let stats = WorkerStats::open(&shared, 0)?;
    let seat = Seat::new()?;
    let mailbox = Mailbox::new(seat.remote().bell());
    let queues = (0..).zip(devices).map(|(port, device)| Queue::new(device, PortId(port))).collect();
    let parts = Parts {
        pool,
        queues,
        outputs: vec![Output::Own(0), Output::Own(1)],
        mailbox: mailbox.clone(),
        peers: vec![mailbox.clone()],
        stats: WorkerStats::open(&shared, 0)?,
        punt: None,
    };
    let worker = Worker::new(parts, Box::new(snapshot.clone()));
    let (tell, told) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
        let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: measured_core() });
        let _ = tell.send((rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(), pinned));
        let runner = Runner::new(worker, seat, clock());
        spawn(&runner);
        runner.run(Idle::Spin, clock);
    })?;
    let (id, pinned) = told.recv()?;
    ensure!(pinned, "the worker could not be pinned to core {}", measured_core());
    let look = || -> Result<_> {
        let counters = stats.read().context("the worker laps its reader")?;
        Ok((counters.tx_packets, core_time(std::process::id(), id)?, counters.drops.iter().sum::<u64>()))
    };
    let measured = || -> Result<_> {
        watch.sleep(WARM_UP)?;
        let (packets, time, _) = look()?;
        watch.sleep(round)?;
        look().map(|(p, t, drops)| (p - packets, t - time, drops))
    };
    let measured = measured();
    let stopped = mailbox.order(Order::Stop).is_ok();
    ensure!(stopped && thread.join().is_ok(), "the worker does not stop");
    let (packets, time, drops) = measured?;
    ensure!(drops == 0, "the worker dropped {drops} packets: what it measured is not forwarding");
    Ok(packets as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_between_null_devices_forwards_everything() {
        let (round, watch) = (Duration::from_millis(30), Watch::silent());
        assert!(measure(&snapshot(PATCH, None).unwrap(), printed, round, &watch).unwrap() > 0.0);
        assert!(measure(&snapshot(MACSWAP, None).unwrap(), through, round, &watch).unwrap() > 0.0);
        let mut seeded = Seeded::new(1);
        for family in [Family::V4, Family::V6] {
            let table = Table::random(family, 1000, &mut seeded).unwrap();
            let flows = [(); 2].map(|()| destinations(&table, &mut seeded));
            let snapshot = snapshot(ROUTE, Some(table.fib)).unwrap();
            assert!(measure(&snapshot, |_| copies(&flows), round, &watch).unwrap() > 0.0);
        }
    }

    #[test]
    fn a_round_with_drops_is_an_error() {
        let nowhere = snapshot(
            &ROUTE.replace("route.main\"", "drop\"").replace("[route.main]", "").replace("table = 254", ""),
            None,
        );
        let error =
            measure(&nowhere.unwrap(), printed, Duration::from_millis(10), &Watch::silent()).unwrap_err();
        assert!(error.to_string().contains("dropped"), "{error}");
    }
}
