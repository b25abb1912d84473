//! An idle data plane costs almost nothing, and the first packet does not wait for it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use zsync_tests::config::{self, ROUTER};
use zsync_tests::ping::ping_with;
use zsync_tests::wireguard::{Pair, config_of, peer_of};
use zsync_tests::{Control, Shape, in_lab, ping, wait_for};
use zsync_wireguard::key::PublicKey;

/// Of the tunnel that is large.
const PEERS: usize = 10_000;

/// Time that all threads of a process ran (Documentation/scheduler/sched-stats.rst: nanoseconds, first of three).
fn ran(pid: Pid) -> Result<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().context("empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// The part of a core that a process takes over `span`.
fn load(pid: Pid, span: Duration) -> Result<f64> {
    let (before, start) = (ran(pid)?, Instant::now());
    std::thread::sleep(span);
    Ok((ran(pid)? - before).as_secs_f64() / start.elapsed().as_secs_f64())
}

#[test]
fn an_idle_engine_takes_under_2_percent_of_a_core() {
    takes_under_2_percent(ROUTER.to_owned());
}

#[test]
fn an_idle_engine_with_flows_to_forget_takes_no_more() {
    let router = config::router("").replace("[\"route.main\"]", "[\"track.flows\", \"route.main\"]");
    takes_under_2_percent(router + "[track.flows]\n");
}

/// What waits in a tunnel costs little, whoever is silent in it: 10,000 peers are looked at, and 500 of them, who answer nothing, have a handshake begun
/// every 5 s each. (`zsync-bench` cannot tell: that is the timers' own time.)
#[test]
fn an_idle_tunnel_of_ten_thousand_peers_takes_under_half_a_core() {
    in_lab(Shape::router(), |lab| {
        let ours = Pair::generate(lab.folder(), "ours.key")?;
        let config = |callers: usize| {
            let peers: Vec<_> = (0..PEERS)
                .map(|n| {
                    let (high, low) = (n / 256, n % 256);
                    let endpoint = format!("{}:{}", lab.server_addresses[0], 20_000 + n);
                    let (endpoint, more) =
                        if n < callers { (Some(&endpoint[..]), ", keepalive = \"25s\"") } else { (None, "") };
                    peer_of(&key(n as u32), endpoint, &format!("\"10.9.{high}.{low}\""), more)
                })
                .collect();
            config_of(&ours, "", &peers)
        };
        for (callers, limit) in [(0, 0.05), (500, 0.5)] {
            // The first packet to a neighbour would be the kernel's.
            ensure!(ping(&lab.router, lab.server_addresses[0], 1)?.all(), "no way");
            let control = Control::start(lab, &config(callers))?;
            let sent = || control.counts().map(|counts| counts.tx());
            // All that are due at once are begun at once; before, those that one look found too much for it waited for the next, 40 s in all.
            wait_for("the first handshakes", Duration::from_secs(15), || {
                (sent().ok()? >= callers as u64).then_some(())
            })?;
            let before = sent()?;
            let load = load(control.dataplane()?, Duration::from_secs(10))?;
            let begun = sent()? - before;
            println!(
                "{PEERS} silent peers: {:.2} % of a core, {begun} handshakes begun in 10 s",
                load * 100.0
            );
            ensure!(load < limit, "a silent tunnel takes {:.1} % of a core", load * 100.0);
            ensure!(begun >= callers as u64, "{begun} handshakes were begun");
        }
        Ok(())
    });
}

/// A public key of nobody's.
fn key(number: u32) -> String {
    let mut key = [9; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    PublicKey(key).to_string()
}

fn takes_under_2_percent(config: String) {
    in_lab(Shape::router(), move |lab| {
        let control = Control::start(lab, &config)?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        std::thread::sleep(Duration::from_millis(500));
        let (dataplane, control) = (control.dataplane()?, control.pid());
        let data = load(dataplane, Duration::from_secs(3))?;
        let rest = load(control, Duration::from_secs(1))?;
        println!("idle: data plane {:.2} % of a core, control {:.2} %", data * 100.0, rest * 100.0);
        ensure!(data < 0.02, "the idle data plane takes {:.1} % of a core", data * 100.0);
        ensure!(rest < 0.05, "the idle control process takes {:.1} % of a core", rest * 100.0);
        Ok(())
    });
}

#[test]
fn spinning_is_a_choice() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &format!("[engine]\nidle = \"spin\"\n\n{}", config::router("")))?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let load = load(control.dataplane()?, Duration::from_secs(1))?;
        println!("spinning: {:.0} % of a core", load * 100.0);
        ensure!(load > 0.3, "a spinning data plane takes {:.1} % of a core", load * 100.0);
        Ok(())
    });
}

#[test]
fn the_first_packet_after_idle_does_not_wait() {
    in_lab(Shape::router(), |lab| {
        let round = || ping_with(&lab.client, lab.server_addresses[0], 15, &["-i", "0.2"]);
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let kernel = round()?.median().context("the kernel does not forward")?;
        let _control = Control::start(lab, ROUTER)?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let outcome = round()?;
        let zsync = outcome.median().context("no replies")?;
        println!("round trip after 200 ms of nothing, median: kernel {kernel:?}, zsync {zsync:?}");
        ensure!(outcome.all(), "{outcome:?}");
        // Twice a wake-up of a worker: 100 µs each as a rule, on a machine that is shared rather more.
        ensure!(zsync < kernel + Duration::from_millis(1), "kernel {kernel:?}, zsync {zsync:?}");
        Ok(())
    });
}
