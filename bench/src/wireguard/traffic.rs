//! Traffic through a tunnel: the generator's packets, counted where they arrive, and iperf3.
//!
//! Keeps true: hosts are on core 0, gateways on another. What the generator sends and nobody reads costs the receiver the least
//! that it can: it is dropped behind the device's counter.

use crate::enclosure::execute;
use crate::machine::busy_time;
use crate::place;
use crate::watch::Watch;
use crate::wireguard::place::{READ, RECEIVER, SENDER, UNREAD};
use anyhow::{Context, Result, ensure};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zsync_bench_xsk::Options;
use zsync_ends::Port;
use zsync_ends::order::{Order, Phase, Rate};
use zsync_ends::sender::{NearEnd, Senders};
use zsync_ends::source::What;
use zsync_traffic::profile::Profile;

/// The core of the hosts: what sends, and what the kernel does for who receives.
pub const HOSTS: usize = 0;
/// Left out of a measurement: the first packets.
const WARM_UP: Duration = Duration::from_millis(300);
const FLOWS: u32 = 1000;
/// Bytes of iperf3's datagrams: what fits, in round numbers.
const DATAGRAM: &str = "1400";

/// What goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Our generator's UDP packets of these sizes, with FCS, as fast as one core sends them.
    Packets(&'static str),
    /// One TCP connection of iperf3.
    Tcp,
    /// iperf3's UDP datagrams, as fast as it sends them.
    Udp,
}

/// All of them.
pub const LOADS: [Load; 4] = [Load::Packets("64"), Load::Packets("imix"), Load::Tcp, Load::Udp];

impl Load {
    /// As a table has it.
    pub fn name(self) -> String {
        match self {
            Self::Packets("imix") => "IMIX".to_owned(),
            Self::Packets(size) => format!("{size} B"),
            Self::Tcp => "iperf3 TCP".to_owned(),
            Self::Udp => "iperf3 UDP".to_owned(),
        }
    }

    /// Whether it is counted in packets, and not in bits.
    pub fn is_packets(self) -> bool {
        matches!(self, Self::Packets(_))
    }
}

/// What came through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Through {
    /// Thousands of packets a second that arrived, or millions of bits.
    pub rate: f64,
    /// The part of what was sent that did not.
    pub lost: f64,
    /// How busy the gateways' core was, of 1.
    pub busy: f64,
}

/// The generator's packets through the tunnel, with so many a second, or all that go.
pub fn packets(sizes: &str) -> Result<What> {
    let text = format!(
        "src-mac=02:00:00:00:01:02 dst-mac=02:00:00:00:01:01 src=10.1.0.2 dst={UNREAD} sport=1024..{} flows={FLOWS} size={sizes}",
        1023 + FLOWS
    );
    let profile: Profile = text.parse()?;
    Ok(What::Stream { content: Arc::new(profile.content), seed: profile.seed })
}

/// Waits until packets get through the tunnel, both ways.
///
/// # Errors
/// They do not.
pub fn await_tunnel(limit: Duration, watch: &Watch) -> Result<()> {
    let start = Instant::now();
    while SENDER.execute(&format!("ping -n -q -c 1 -W 1 {READ}")).is_err() {
        ensure!(start.elapsed() < limit, "nothing comes through the tunnel after {limit:?}");
        watch.sleep(Duration::from_millis(50))?;
    }
    Ok(())
}

/// Sends for that long, and counts. `gateways` is the core that they are on.
///
/// # Errors
/// Nothing came through; iperf3 is not there or fails; the run is to stop.
pub fn send(load: Load, round: Duration, gateways: usize, watch: &Watch) -> Result<Through> {
    match load {
        Load::Packets(sizes) => generate(sizes, round, gateways, watch),
        Load::Tcp => iperf(&[], round, gateways, watch),
        Load::Udp => iperf(&["-u", "-b", "0", "-l", DATAGRAM], round, gateways, watch),
    }
}

fn generate(sizes: &str, round: Duration, gateways: usize, watch: &Watch) -> Result<Through> {
    let port = Port { device: "eth0".to_owned(), queue: 0, core: Some(HOSTS) };
    let senders = Senders::open(&[port], &Options::default(), &place::enter(SENDER))?;
    let order = Order {
        what: packets(sizes)?,
        run: 1,
        phases: vec![Phase { rate: Rate::Full, duration: 2 * WARM_UP + round }],
        packets: None,
        log: false,
        readable: None,
        patience: None,
    };
    let running = senders.start(&Arc::new(order))?;
    let look =
        || -> Result<_> { Ok((Instant::now(), RECEIVER.received("eth0")?, running.sent(), busy_time()?)) };
    watch.sleep(WARM_UP)?;
    let (from, received, sent, busy) = look()?;
    watch.sleep(round)?;
    let (to, received_then, sent_then, busy_then) = look()?;
    let (took, came, went) = ((to - from).as_secs_f64(), received_then - received, sent_then - sent);
    ensure!(came > 0, "none of {went} packets came through");
    Ok(Through {
        rate: came as f64 / took / 1e3,
        lost: (1.0 - came as f64 / went.max(1) as f64).max(0.0),
        busy: share(&busy, &busy_then, gateways, took),
    })
}

/// The part of that time that a core was busy.
fn share(before: &[Duration], after: &[Duration], core: usize, took: f64) -> f64 {
    let [before, after] = [before, after].map(|times| times.get(core).map_or(0.0, Duration::as_secs_f64));
    ((after - before) / took).clamp(0.0, 1.0)
}

/// A server of iperf3, ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn iperf(words: &[&str], round: Duration, gateways: usize, watch: &Watch) -> Result<Through> {
    let pinned = |command: &mut Command| {
        core_affinity::set_for_current(core_affinity::CoreId { id: HOSTS });
        command.spawn().context("iperf3 is needed (Debian has it in the package iperf3)")
    };
    let mut server = Command::new("iperf3");
    server.args(["--server", "--one-off"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Server(RECEIVER.run(|| pinned(&mut server))?);
    let start = Instant::now();
    while !RECEIVER.execute("ss -Hltn sport = :5201")?.contains(":5201") {
        ensure!(start.elapsed() < Duration::from_secs(5), "iperf3 does not listen");
        watch.sleep(Duration::from_millis(10))?;
    }
    let mut client = Command::new("iperf3");
    let seconds = round.as_secs_f64().max(1.0).round().to_string();
    client.args(["--json", "--client", READ, "--time", &seconds]).args(words);
    let (from, busy) = (Instant::now(), busy_time()?);
    let said = SENDER.run(|| {
        core_affinity::set_for_current(core_affinity::CoreId { id: HOSTS });
        execute(&mut client)
    })?;
    let busy = share(&busy, &busy_time()?, gateways, from.elapsed().as_secs_f64());
    let report: serde_json::Value = serde_json::from_str(&said).context("what iperf3 says")?;
    let end = &report["end"];
    let received = end.get("sum_received").or_else(|| end.get("sum")).context("iperf3 says no sum")?;
    let bits = received["bits_per_second"].as_f64().context("iperf3 says no rate")?;
    ensure!(bits > 0.0, "iperf3: nothing came through");
    let lost = end["sum"]["lost_percent"].as_f64().unwrap_or(0.0) / 100.0;
    Ok(Through { rate: bits / 1e6, lost, busy })
}

/// Packets of 64 bytes the other way, from the receiver to an address behind the near gateway.
pub fn returning() -> Result<What> {
    let text = "src-mac=02:00:00:00:02:02 dst-mac=02:00:00:00:02:01 src=10.2.0.2 dst=10.1.0.2 sport=1024..2023 flows=1000 size=64";
    let profile: Profile = text.parse()?;
    Ok(What::Stream { content: Arc::new(profile.content), seed: profile.seed })
}
