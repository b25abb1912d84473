//! `tun-tcp` and `tun-packets`: forwarding between two TUN devices, beside a plain loop of read and write.
//!
//! ```text
//!   near                     this process, on the measured core                far
//!   10.1.0.2 ── tun0 ──▶ a worker with the `route` pipeline, or a loop ──▶ tun0 ── 10.2.0.2
//! ```
//!
//! In each round all take their turn, over devices made anew: the worker with what the kernel can leave to it, the worker over bare
//! packets, the loop. Both hosts share core 0. Lies in an [enclosure](crate::enclosure). Keeps true: what is counted is what the far host's
//! sockets were given, whoever cut it; for a second of the forwarding thread's time, since the hosts' core is the limit of what is sent.
//! The far host's stack runs in that thread up to its socket, for all of them: a device receives in the call that writes.

use crate::machine::measured_core;
use crate::place::Part;
use crate::report::{Rate, Ratio, Report};
use crate::watch::{Rounds, Watch};
use anyhow::{Context, Result, ensure};
use forwarder::Forwarder;
use rustix::fd::OwnedFd;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use zsync_report::spread::Spread;

mod forwarder;

/// The hosts, and their addresses.
const HOSTS: [(Part, [u8; 4]); 2] =
    [(Part::Named("near"), [10, 1, 0, 2]), (Part::Named("far"), [10, 2, 0, 2])];
/// MTU of both devices.
const MTU: u16 = 1500;
/// The core of the hosts.
const CORE: usize = 0;
/// Left out of a measurement: devices come up, TCP starts slowly.
const WARM_UP: Duration = Duration::from_millis(500);
/// Bytes of a small datagram's payload: with its headers it would be 64 on Ethernet.
const SMALL: usize = 18;
const PORT: u16 = 5000;

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A worker over devices with a header.
    Offload,
    /// A worker over bare packets.
    Bare,
    /// A loop that reads a packet and writes it.
    Loop,
}

const KINDS: [(Kind, &str); 3] = [
    (Kind::Offload, "zsync, with offload"),
    (Kind::Bare, "zsync, bare packets"),
    (Kind::Loop, "read and write"),
];

/// `tun-tcp`: bits of one TCP connection.
///
/// # Errors
/// The place cannot be built, or nothing comes through.
pub fn tcp(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    let report = Report { unit: "bit", of_core_time: true, ..Report::new("tun-tcp") };
    run(report, rounds, budget, watch, stream)
}

/// `tun-packets`: datagrams of 64 bytes, each sent by itself.
///
/// # Errors
/// As [`tcp`].
pub fn packets(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    let report = Report { of_core_time: true, ..Report::new("tun-packets") };
    run(report, rounds, budget, watch, datagrams)
}

fn run(
    mut report: Report,
    rounds: usize,
    budget: Duration,
    watch: &Watch,
    measure: fn(&Forwarder, Duration, &Watch) -> Result<Came>,
) -> Result<Report> {
    ensure!(measured_core() != CORE, "it takes two cores: one for the hosts, one for who forwards");
    build()?;
    let turns = rounds * KINDS.len();
    let turn = (budget / turns.max(1) as u32).saturating_sub(WARM_UP).max(Duration::from_millis(500));
    let mut rates = KINDS.map(|(_, name)| Rate { name: name.to_owned(), samples: vec![] });
    let mut walls = KINDS.map(|_| Vec::new());
    let Rounds { done, note } = watch.rounds(rounds, Duration::MAX, |round| {
        for (n, (kind, name)) in KINDS.into_iter().enumerate() {
            watch.step(round * KINDS.len() + n, turns, &format!("round {} of {rounds}, {name}", round + 1));
            let forwarder = Forwarder::start(kind, devices(kind)?)?;
            let came = measure(&forwarder, turn, watch).context(name)?;
            rates[n].samples.push(came.of_core_time);
            walls[n].push(came.of_wall_time);
            forwarder.stop()?;
        }
        Ok(())
    })?;
    rates.iter_mut().for_each(|rate| rate.samples.truncate(done));
    report.ratios = rates[1..].iter().map(|theirs| Ratio::of(&rates[0], theirs)).collect();
    report.rates = rates.into();
    let walls = KINDS.iter().zip(&walls).filter_map(|((_, name), wall)| Some((name, Spread::of(wall)?)));
    let walls: Vec<_> =
        walls.map(|(name, wall)| format!("{name} {:.3} M {}s/s", wall.median / 1e6, report.unit)).collect();
    report.notes.push(format!("of time on the wall, with what the hosts' core sent: {}", walls.join(", ")));
    report.notes.extend(note);
    report.notes.push(format!(
        "hosts on core {CORE}, who forwards on core {}, MTU {MTU}; {:.1} s a turn",
        measured_core(),
        turn.as_secs_f64()
    ));
    Ok(report)
}

/// Makes the hosts' namespaces, unless another benchmark of this run has.
fn build() -> Result<()> {
    if std::path::Path::new("/run/netns/near").exists() {
        return Ok(());
    }
    let parts = HOSTS.map(|(part, _)| part);
    crate::place::lay_out("netns add near\nnetns add far", &parts, &[])
}

/// A device in each namespace, made anew, up and routed to.
fn devices(kind: Kind) -> Result<[OwnedFd; 2]> {
    let open = |(part, address): (Part, [u8; 4])| -> Result<OwnedFd> {
        let queue = part.run(|| forwarder::open(kind))?;
        let address = Ipv4Addr::from(address);
        for words in [
            "link set lo up".to_owned(),
            format!("link set tun0 mtu {MTU} up"),
            format!("addr add {address}/32 dev tun0"),
            "route add default dev tun0".to_owned(),
        ] {
            part.execute(&format!("ip {words}"))?;
        }
        Ok(queue)
    };
    let [near, far] = HOSTS.map(open);
    Ok([near?, far?])
}

/// What the far host was given a second: of the forwarding thread's time, and of all time.
struct Came {
    of_core_time: f64,
    of_wall_time: f64,
}

fn pin() {
    core_affinity::set_for_current(core_affinity::CoreId { id: CORE });
}

/// Bits of a TCP connection from the near host to the far one.
fn stream(forwarder: &Forwarder, turn: Duration, watch: &Watch) -> Result<Came> {
    let [(near, _), (far, address)] = HOSTS;
    let target = SocketAddrV4::new(address.into(), PORT);
    let listener = far.run(|| Ok(TcpListener::bind(target)?))?;
    let connection = near.run(|| {
        let connection = TcpStream::connect_timeout(&target.into(), Duration::from_secs(5));
        connection.context("nothing comes through")
    })?;
    let (mut read, _) = listener.accept()?;
    let came = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin();
            let mut bytes = vec![0; 256 << 10];
            while let Ok(len @ 1..) = read.read(&mut bytes) {
                came.fetch_add(len as u64, Relaxed);
            }
        });
        let mut write = connection.try_clone()?;
        scope.spawn(move || {
            pin();
            let bytes = vec![7; 256 << 10];
            while write.write_all(&bytes).is_ok() {}
        });
        let bits = per_second(forwarder, turn, watch, || Ok(8 * came.load(Relaxed)));
        // Ends both.
        let _ = connection.shutdown(std::net::Shutdown::Both);
        bits
    })
}

/// Small datagrams that the far host's socket was given; nobody reads them, so most of them are counted as too many.
fn datagrams(forwarder: &Forwarder, turn: Duration, watch: &Watch) -> Result<Came> {
    let [(near, own), (far, address)] = HOSTS;
    let _socket = far.run(|| Ok(UdpSocket::bind((Ipv4Addr::from(address), PORT))?))?;
    let sender = near.run(|| Ok(UdpSocket::bind((Ipv4Addr::from(own), 0))?))?;
    sender.connect((Ipv4Addr::from(address), PORT))?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin();
            while !stop.load(Relaxed) {
                let _ = sender.send(&[7; SMALL]);
            }
        });
        let rate = per_second(forwarder, turn, watch, || far.run(delivered));
        stop.store(true, Relaxed);
        rate
    })
}

/// Datagrams that the sockets of the calling thread's namespace were given, read or not.
fn delivered() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Udp: ")).map(str::split_whitespace);
    let (names, values) = (rows.next().context("no names")?, rows.next().context("no values")?);
    let of = |(name, value): (&str, &str)| match name {
        "InDatagrams" | "InErrors" => value.parse::<u64>().ok(),
        _ => None,
    };
    Ok(names.zip(values).filter_map(of).sum::<u64>())
}

/// How much `count` grows a second, in that time behind the first moments.
fn per_second(
    forwarder: &Forwarder,
    turn: Duration,
    watch: &Watch,
    count: impl Fn() -> Result<u64>,
) -> Result<Came> {
    watch.sleep(WARM_UP)?;
    let (from, ran, before) = (Instant::now(), forwarder.core_time()?, count()?);
    watch.sleep(turn)?;
    let (came, ran) = (count()? - before, forwarder.core_time()? - ran);
    ensure!(came > 0, "nothing came through");
    let [of_core_time, of_wall_time] = [ran, from.elapsed()].map(|time| came as f64 / time.as_secs_f64());
    Ok(Came { of_core_time, of_wall_time })
}
