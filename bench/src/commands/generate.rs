//! `generate`: packets out of a device, from one core or several, and what was reached of what was asked for.

use super::traffic::{Packets, Sockets, here, stream};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use zsync_bench::generator::Generator;
use zsync_bench::watch::Watch;
use zsync_bench::{interrupt, live};
use zsync_ends::memory;
use zsync_ends::order::{Order, Phase, Rate, Sent};
use zsync_ends::sender::{NearEnd, Senders};
use zsync_ends::source::What;
use zsync_search::trial::{Rate as Scaled, TOLERANCE};
use zsync_traffic::profile::Profile;
use zsync_traffic::replay::{FOR_EVER, Timing};

/// How often there is a live line.
const LINE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// AF_XDP, by sockets that share no code with zsync's own.
    Xsk,
    /// The kernel itself, at full rate: UDP without numbers or times in it.
    Live,
    /// From memory to memory, read by the sink: what this host can make and read at best.
    Memory,
}

#[derive(Args)]
pub struct Generate {
    /// Device that packets leave by; several share the packets.
    #[arg(long, value_delimiter = ',')]
    netdev: Vec<String>,
    /// What sends.
    #[arg(long, value_enum, default_value = "xsk")]
    engine: Engine,
    #[command(flatten)]
    packets: Packets,
    #[command(flatten)]
    sockets: Sockets,
    /// Cores to send from, one for each queue of each device.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// As many as go, instead of the profile's rate.
    #[arg(long, conflicts_with = "pcap")]
    full: bool,
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Ends after as many packets.
    #[arg(long)]
    count: Option<u64>,
    /// Sends a capture (pcap, pcapng) instead, byte for byte, with its own timing.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// The capture so many times as fast.
    #[arg(long, default_value_t = 1.0, requires = "pcap")]
    speed: f64,
    /// The capture so often; without it, until the time is over.
    #[arg(long, requires = "pcap")]
    rounds: Option<u64>,
    /// What was sent as an object of JSON.
    #[arg(long)]
    json: bool,
}

/// Sends for as long as it is asked, and says how much that was. Fails where it was less than was asked for.
pub fn generate(what: &Generate) -> Result<ExitCode> {
    let time = Duration::try_from_secs_f64(what.seconds)?;
    ensure!(
        what.engine == Engine::Memory || !what.netdev.is_empty(),
        "which device? --netdev NAME, or --engine memory"
    );
    let profile = what.packets.profile(what.netdev.first().map(String::as_str))?;
    if what.engine == Engine::Live {
        return from_the_kernel(what, &profile, time);
    }
    let packets = match &what.pcap {
        None => stream(&profile),
        Some(path) => What::Capture {
            path: path.clone(),
            timing: if what.speed == 1.0 { Timing::Original } else { Timing::Scaled(what.speed) },
            rounds: what.rounds.unwrap_or(FOR_EVER),
        },
    };
    let rate = if what.full { Rate::Full } else { Rate::Shaped(profile.rate, profile.shape) };
    let order = Order {
        what: packets,
        run: profile.content.run,
        phases: vec![Phase { rate, duration: time }],
        packets: what.count,
        log: false,
        readable: None,
        patience: None,
    };
    interrupt::listen();
    if what.engine == Engine::Memory {
        return in_memory_only(what, &order);
    }
    let ports = what.sockets.ports(&what.netdev, &what.cores)?;
    let senders = Senders::open(&ports, &what.sockets.options(), &here())?;
    let mut running = senders.start(&Arc::new(order))?;
    let (watch, mut since, mut before) = (Watch::new("generate"), Instant::now(), 0);
    let sent = loop {
        if let Some(sent) = running.wait(Duration::from_millis(50))? {
            break sent;
        }
        if since.elapsed() >= LINE {
            let now = running.sent();
            let rate = (now - before) as f64 / since.elapsed().as_secs_f64();
            (since, before) = (Instant::now(), now);
            watch.say(&format!("sent {now}  {}", Scaled(rate)));
        }
        if watch.is_cancelled() {
            running.stop();
        }
    };
    watch.clear();
    Ok(report(what, &sent, watch.is_cancelled()))
}

/// What was sent, in words or as JSON.
fn report(what: &Generate, sent: &Sent, interrupted: bool) -> ExitCode {
    let (asked, packets, seconds) = (sent.asked(), sent.packets(), sent.duration().as_secs_f64());
    let short = (packets as f64) < asked as f64 * (1.0 - TOLERANCE);
    if what.json {
        let object = serde_json::json!({
            "asked": asked, "sent": packets, "seconds": seconds, "packets_per_second": sent.rate(),
            "skipped": sent.skipped, "refused": sent.refused, "pending": sent.pending, "latest_ns": sent.late_ns,
            "short": short,
        });
        println!("{object}");
    } else {
        println!("{packets} packets in {seconds:.3} s: {}", Scaled(sent.rate()));
        println!("the latest was {:.1} µs late", sent.late_ns as f64 / 1e3);
        for (count, why) in
            [(sent.refused, "the device refused"), (sent.pending, "the kernel has not sent yet")]
        {
            if count > 0 {
                println!("{count} of them {why}");
            }
        }
        if short && !interrupted {
            println!(
                "the generator was the bottleneck: {asked} were asked of it; ask for less, or give it more cores"
            );
        }
    }
    match (interrupted, short) {
        (true, _) => ExitCode::from(interrupt::STATUS),
        (_, true) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn in_memory_only(what: &Generate, order: &Order) -> Result<ExitCode> {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let watch = Watch::new("generate");
    let (sent, seen) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| memory::run(order, &stop, &count));
        let (mut since, mut before) = (Instant::now(), 0);
        while !sending.is_finished() {
            if watch.sleep(Duration::from_millis(50)).is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            if since.elapsed() >= LINE {
                let now = count.load(Ordering::Relaxed);
                let rate = (now - before) as f64 / since.elapsed().as_secs_f64();
                (since, before) = (Instant::now(), now);
                watch.say(&format!("sent {now}  {}", Scaled(rate)));
            }
        }
        sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    watch.clear();
    let status = report(what, &sent, watch.is_cancelled());
    if !what.json {
        println!("written and read by one core: {:.1} ns a packet", 1e9 / sent.rate());
        print!("{}", seen.text);
    }
    Ok(status)
}

/// The kernel's own generator.
fn from_the_kernel(what: &Generate, profile: &Profile, time: Duration) -> Result<ExitCode> {
    ensure!(what.pcap.is_none(), "the live engine sends no captures: --engine xsk does");
    ensure!(what.full, "the live engine has one rate, as fast as it goes: say --full, or take --engine xsk");
    let [device] = &what.netdev[..] else { bail!("the live engine has one device: start it once for each") };
    let output = zsync_bench::enclosure::execute(
        std::process::Command::new("ip").args(["-j", "link", "show", "dev", device]),
    )?;
    let links: serde_json::Value = serde_json::from_str(&output)?;
    let ifindex = links[0]["ifindex"].as_u64().and_then(|index| index.try_into().ok());
    let traffic = live::traffic(profile, ifindex.with_context(|| format!("there is no device {device}"))?)?;
    let generator = Arc::new(Generator::load(&traffic)?);
    let cores = if what.cores.is_empty() { vec![0] } else { what.cores.clone() };
    let (watch, start) = (Watch::new("generate"), Instant::now());
    let running: Vec<_> = cores.iter().map(|&core| generator.spawn(core, time, || Ok(()))).collect();
    let stopped = watch.sleep(time).is_err();
    let ends = running.into_iter().map(|running| if stopped { running.finish() } else { running.join() });
    let made: u64 = ends.collect::<Result<Vec<_>>>()?.iter().sum();
    let seconds = start.elapsed().as_secs_f64();
    let rate = made as f64 / seconds;
    if what.json {
        println!("{}", serde_json::json!({ "sent": made, "seconds": seconds, "packets_per_second": rate }));
    } else {
        println!("{made} packets in {seconds:.3} s: {}", Scaled(rate));
        println!("made by the kernel: what the device did not take is among them; count at the far end");
    }
    Ok(if stopped { ExitCode::from(interrupt::STATUS) } else { ExitCode::SUCCESS })
}
