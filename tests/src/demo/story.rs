//! What is shown, in order. Each step says what it does, and what it came to as a row of the table.

use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::Value;

use super::account::{Account, Outcome, grouped, listed};
use super::{load, wireguard};
use crate::config::ROUTER;
use crate::control::dataplanes;
use crate::iperf::Iperf;
use crate::{Control, Flow, Lab, Report, Shape, netns, ping};

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
/// Echo requests for each family.
const PINGS: u32 = 20;
/// Seconds of each run of iperf3.
const SECONDS: &str = "2";
/// What TCP must reach, bits a second: one busy core in copy mode does ten times that.
const TCP_AT_LEAST: f64 = 100e6;
/// UDP that is offered, as iperf3 has it.
const UDP_OFFERED: &str = "100M";
/// How long the full rate is kept up, and the packets a second that must arrive.
const FULL_RATE: (Duration, f64) = (Duration::from_secs(3), 100e3);
/// The flow that the kills are measured by, packets a second.
const PACED: u32 = 20_000;
/// Kills of each process.
const KILLS: usize = 5;
/// Between two kills.
const REST: Duration = Duration::from_millis(400);
/// How soon packets must flow again after the data plane's death.
const SILENCE: Duration = Duration::from_millis(100);

/// The process that tells the story. On failure it leaves all as it is: the guard keeps the logs and removes the rest.
pub fn main() -> ExitCode {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    println!("zsync demo: a router between two network namespaces, under real traffic and kill -9\n");
    let lab = match netns::permitted().and_then(|()| Lab::build(Shape::router())) {
        Ok(lab) => lab,
        Err(error) => {
            eprintln!("zsync-demo: cannot make three network namespaces: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut account = Account::begin();
    let told = tell(&lab, &mut account);
    println!("\n{account}");
    match told {
        Ok(()) if account.held() => return ExitCode::SUCCESS,
        Ok(()) => {}
        Err(error) => eprintln!("zsync-demo: {error:#}"),
    }
    std::mem::forget(lab);
    ExitCode::FAILURE
}

fn tell(lab: &Lab, account: &mut Account) -> Result<()> {
    account.now("three network namespaces:  client ─── eth1 zsync eth2 ─── server");
    account.now("start zsync-control with pipelines/examples/router.toml; it starts zsync-dataplane");
    let start = Instant::now();
    let mut control = Control::start(lab, ROUTER)?;
    account.more(&format!("forwarding after {} ms{}", start.elapsed().as_millis(), ports(&control)));
    account.row("data plane's privileges", sandbox(&control));

    account.now("ping from client to server");
    for (family, target) in FAMILIES.into_iter().zip(lab.server_addresses) {
        account.row(
            &format!("ping, {family}"),
            ping(&lab.client, target, PINGS).map(|ping| Outcome {
                result: format!(
                    "{} of {} answered, median {:.2} ms",
                    ping.received,
                    ping.sent,
                    ping.median().unwrap_or_default().as_secs_f64() * 1000.0
                ),
                held: ping.all(),
            }),
        );
    }
    account.now("iperf3 from client to server");
    for (family, target) in FAMILIES.into_iter().zip(lab.server_addresses) {
        account.row(&format!("TCP, {family}"), tcp(lab, target));
        let outcome = udp(lab, target, account);
        account.row(&format!("UDP, {family}"), outcome);
    }
    account.now("64 flows of 60-byte packets, as fast as one core can make them");
    account.row("full rate", full_rate(lab, &control));

    account.now(&format!(
        "kill -9 of zsync-dataplane, {KILLS} times, under {} packets/s",
        grouped(PACED.into())
    ));
    let outcome = kill_dataplane(lab, &mut control, account);
    account.row("kill -9 data plane", outcome);
    account
        .now(&format!("kill -9 of zsync-control, {KILLS} times, under {} packets/s", grouped(PACED.into())));
    let outcome = kill_control(lab, &mut control, account);
    account.row("kill -9 control", outcome);

    account.now("count packets and frames: zsyncctl show ledger, zsyncctl show counters");
    account.row("ledger", ledger(&control));
    account.now("stop zsync-control (SIGTERM)");
    account.row("stop", stop(lab, &mut control));
    drop(control);
    wireguard::rows(lab, account);
    Ok(())
}

/// How the ports are opened: `; wan is eth1 (copy, native XDP), …`.
fn ports(control: &Control<'_>) -> String {
    let Ok(Value::Array(ports)) = control.ctl(&["show", "ports"]) else { return String::new() };
    let word = |port: &Value, key: &str| port[key].as_str().unwrap_or("?").to_owned();
    ports
        .iter()
        .map(|port| {
            format!(
                "; {} is {} ({}, {} XDP)",
                word(port, "name"),
                word(port, "netdev"),
                word(port, "mode"),
                word(port, "xdp")
            )
        })
        .collect()
}

/// What the kernel says of the data plane's process (proc_pid_status(5)).
fn sandbox(control: &Control<'_>) -> Result<Outcome> {
    let text = fs::read_to_string(format!("/proc/{}/status", control.dataplane()?.as_raw_nonzero()))?;
    let field = |name: &str| -> Result<&str> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {name} in {text}"))
    };
    let uid = field("Uid:")?;
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"]
        .map(|set| field(set).map(|mask| u64::from_str_radix(mask, 16)));
    let none = sets.into_iter().all(|set| matches!(set, Ok(Ok(0))));
    let (no_new_privs, filtered) = (field("NoNewPrivs:")? == "1", field("Seccomp:")? == "2");
    let say = |yes: bool, what| if yes { what } else { "MISSING" };
    Ok(Outcome {
        result: format!(
            "uid {uid}, {}, {}",
            say(none, "no capability"),
            say(no_new_privs && filtered, "seccomp filter")
        ),
        held: uid != "0" && none && no_new_privs && filtered,
    })
}

fn tcp(lab: &Lab, target: IpAddr) -> Result<Outcome> {
    let got = Iperf::serve(lab)?.run(target, &["-t", SECONDS])?;
    Ok(Outcome {
        result: format!("{:.0} Mbit/s", got.bits_per_second / 1e6),
        held: got.bits_per_second >= TCP_AT_LEAST,
    })
}

fn udp(lab: &Lab, target: IpAddr, account: &Account) -> Result<Outcome> {
    let iperf = Iperf::serve(lab)?;
    let before = load::overruns(&lab.server)?;
    let got = iperf.run(target, &["-t", SECONDS, "-u", "-b", UDP_OFFERED, "-l", "1400"])?;
    // A busy machine may not run iperf3 for a while; what overruns its socket meanwhile has arrived.
    let overran = load::overruns(&lab.server)? - before;
    if overran > 0 {
        account.more(&format!("{overran} packets arrived and overran iperf3's own socket"));
    }
    let lost = got.lost.saturating_sub(overran);
    Ok(Outcome {
        result: format!("{} packets, {} lost on the way", grouped(got.packets), grouped(lost)),
        held: got.packets > 0 && lost * 1000 < got.packets,
    })
}

fn full_rate(lab: &Lab, control: &Control<'_>) -> Result<Outcome> {
    let (time, at_least) = FULL_RATE;
    let before = control.dataplane()?;
    // Not on the worker's core: one of the first two is free.
    let worker = control.ctl(&["show", "workers"])?[0]["core"].as_u64();
    let rates = load::full_rate(lab, lab.server_addresses[0], u64::from(worker == Some(0)), time)?;
    Ok(Outcome {
        result: format!("{:.2} M packets/s arrive, of {:.2} M sent", rates.received / 1e6, rates.sent / 1e6),
        held: rates.received >= at_least && control.dataplane()? == before,
    })
}

fn kill_dataplane(lab: &Lab, control: &mut Control<'_>, account: &Account) -> Result<Outcome> {
    let drill = drill(lab, || {
        let killed = control.kill9_dataplane()?;
        control.wait_successor(killed)?;
        Ok(())
    })?;
    account.more(&format!("a successor took over its rings each time; longest gaps {}", drill.waits()));
    let longest = drill.silences.iter().max().copied().unwrap_or_default();
    let mut lost = drill.lost.clone();
    lost.sort_unstable();
    Ok(Outcome {
        result: format!("lost {}; longest gap {} ms", listed(&drill.lost), milliseconds(longest)),
        held: lost.get(KILLS / 2) == Some(&0) && longest <= SILENCE && drill.report.duplicated() == 0,
    })
}

fn kill_control(lab: &Lab, control: &mut Control<'_>, account: &Account) -> Result<Outcome> {
    let dataplane = control.dataplane()?;
    let drill = drill(lab, || {
        control.kill9()?;
        control.revive()?;
        control.wait_ready()
    })?;
    account.more(&format!("the next one adopted the data plane each time; longest gaps {}", drill.waits()));
    Ok(Outcome {
        result: format!(
            "lost {}; same data plane: {}",
            listed(&drill.lost),
            if control.dataplane()? == dataplane { "yes" } else { "NO" }
        ),
        held: drill.report.lost() == 0 && drill.report.duplicated() == 0 && control.dataplane()? == dataplane,
    })
}

/// What became of a flow during some kills.
struct Drill {
    report: Report,
    /// Packets lost at each kill.
    lost: Vec<u64>,
    /// The longest time without an arrival at each kill.
    silences: Vec<Duration>,
}

impl Drill {
    fn waits(&self) -> String {
        format!("{} ms", listed(self.silences.iter().map(|silence| milliseconds(*silence))))
    }
}

/// Runs the paced flow, and `kill` every so often.
fn drill(lab: &Lab, mut kill: impl FnMut() -> Result<()>) -> Result<Drill> {
    // What was sent just before a kill may be what it loses.
    const BEFORE: Duration = Duration::from_millis(5);
    let flow = Flow::to_server(lab, PACED, 7000)?;
    let mut marks = Vec::new();
    for _ in 0..KILLS {
        std::thread::sleep(REST);
        marks.push(flow.now().saturating_sub(BEFORE));
        kill()?;
    }
    std::thread::sleep(REST);
    let report = flow.finish()?;
    let ends = marks.iter().skip(1).copied().chain([Duration::MAX]);
    let spans: Vec<_> = marks.iter().copied().zip(ends).map(|(start, end)| start..end).collect();
    Ok(Drill {
        lost: spans.iter().map(|span| report.lost_in(span.clone())).collect(),
        silences: spans.iter().map(|span| report.longest_silence(span.clone())).collect(),
        report,
    })
}

fn ledger(control: &Control<'_>) -> Result<Outcome> {
    let books = control.balanced()?;
    let counts = &books.counts;
    let away = counts.dropped_in_all() + counts.punted() + books.lost_in_crashes();
    Ok(Outcome {
        result: format!(
            "{} in = {} out + {} dropped or punted",
            grouped(counts.rx()),
            grouped(counts.tx()),
            grouped(away)
        ),
        held: counts.rx() == counts.tx() + away,
    })
}

fn stop(lab: &Lab, control: &mut Control<'_>) -> Result<Outcome> {
    let status = control.stop()?;
    let left = dataplanes(lab).len();
    let attached = lab.router.ip("-d link show")?.matches("prog/xdp").count();
    Ok(Outcome {
        result: format!("{left} processes left, {attached} XDP programs left"),
        held: status.success() && left == 0 && attached == 0,
    })
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
