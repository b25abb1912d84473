//! How fast one core sends over a bare veth pair: this crate's transmitter and trafgen (netsniff-ng), in turns. A
//! measurement, not a test: `cargo nextest run -p zsync-bench-xsk --release --run-ignored only --no-capture`.

mod common;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use common::{MAGIC, MAGIC_AT, SIZE, in_namespace, ip, received, write};
use zsync_bench_xsk::{Action, Match, Options, Rate, Sink, Transmitter, Until, spawn_pinned};

const ROUNDS: usize = 2;
const TIME: Duration = Duration::from_secs(1);
/// trafgen's number of packets: about as long.
const TRAFGEN: u64 = 500_000;

fn xsk(options: Options) -> f64 {
    // The thread that opens it has this one's network namespace.
    let (before, start) = (received("vb").0, Instant::now());
    let sent = spawn_pinned(0, move || {
        let mut transmitter = Transmitter::open("va", 0, &options)?;
        let mut next = 0;
        transmitter.send_until(Rate::Full, Until::elapsed(TIME), |frame| {
            next += 1;
            write(frame, next)
        })
    });
    let sent = sent.join().unwrap().unwrap();
    let (arrived, all) = (received("vb").0 - before, start.elapsed());
    let time = (sent.last - sent.first) as f64 / 1e9;
    println!(
        "    {} handed over, {} refused, {arrived} arrived, {time:.2} of {all:.2?}",
        sent.packets, sent.refused
    );
    arrived as f64 / time
}

/// trafgen does not say its time exactly: its start is in the figure, some ten milliseconds.
fn trafgen(packet: &str) -> Option<f64> {
    let (before, start) = (received("vb").0, Instant::now());
    let number = TRAFGEN.to_string();
    let output = Command::new("trafgen")
        .args(["--dev", "va", "--conf", packet, "--cpus", "1", "--num", &number, "--no-cpu-stats"])
        .output();
    let elapsed = start.elapsed().as_secs_f64();
    match output {
        Ok(output) if output.status.success() => {
            println!("    {elapsed:.2} s");
        }
        Ok(output) => println!("trafgen: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            println!("trafgen: {error}");
            return None;
        }
    }
    Some((received("vb").0 - before) as f64 / elapsed)
}

#[test]
#[ignore = "a measurement of a quiet machine"]
fn sending_at_full_rate_beside_trafgen() {
    in_namespace(|| {
        let path = std::env::temp_dir().join(format!("zsync-trafgen-{}", std::process::id()));
        let mut frame = [0; 128];
        let length = write(&mut frame, 0);
        let bytes: Vec<String> = frame[..length].iter().map(|b| format!("{b:#04x}")).collect();
        std::fs::write(&path, format!("{{ {} }}\n", bytes.join(", "))).unwrap();
        let packet = path.to_str().unwrap().to_owned();
        for far in ["bare", "gro", "count"] {
            let ours = Match::Bytes { at: MAGIC_AT as u8, mask: [0xff; 8], value: MAGIC };
            let sink = (far == "count").then(|| Sink::attach("vb", Action::Count, ours).unwrap());
            if far == "gro" {
                assert!(Command::new("ethtool").args(["-K", "vb", "gro", "on"]).status().unwrap().success());
            }
            for _ in 0..ROUNDS {
                let rate = trafgen(&packet);
                println!("{far}: trafgen {:.0} packets/s", rate.unwrap_or(f64::NAN));
                println!("{far}: xsk-rs {:.0} packets/s of {SIZE} bytes", xsk(Options::default()));
            }
            drop(sink);
            if far == "gro" {
                assert!(Command::new("ethtool").args(["-K", "vb", "gro", "off"]).status().unwrap().success());
            }
        }
        std::fs::remove_file(&path).unwrap();
        ip("link del va");
    });
}
