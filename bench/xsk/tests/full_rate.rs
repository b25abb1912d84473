//! How fast one core sends over a bare veth pair: this crate's transmitter, with packets that differ in a number and with
//! those of a stream, and trafgen (netsniff-ng), in turns; and the ratios of what arrived, turn by turn. A measurement,
//! not a test:
//! `cargo nextest run -p zsync-bench-xsk --cargo-profile checked --test full_rate --run-ignored only --no-capture`.

mod common;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use common::{SIZE, in_namespace, ip, received, write};
use zsync_bench_xsk::{Action, Match, Options, Rate, Sink, Transmitter, Until, spawn_pinned};
use zsync_traffic::{profile::Profile, stream::Stream};

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_millis(300);
/// trafgen's number of packets: about as long.
const TRAFGEN: u64 = 300_000;

/// What one run reached: packets that arrived, by the clock's seconds and by those of the processor. The latter are nearly
/// the same when others use the core too.
struct Run {
    arrived: u64,
    wall: f64,
    cpu: f64,
}

impl Run {
    /// Packets per second of its core.
    fn per_core_second(&self) -> f64 {
        self.arrived as f64 / self.cpu
    }

    fn print(&self, far: &str, who: &str) {
        let (wall, cpu) = (self.arrived as f64 / self.wall, self.per_core_second());
        println!("{far}: {who}: {wall:.0} packets/s, {cpu:.0} packets per second of its core ({SIZE} bytes)");
    }
}

/// Processor time of this thread, or of the children that have ended: seconds.
fn cpu(who: libc::c_int) -> f64 {
    // SAFETY: all zero is a value of the type, and the pointer is valid.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(who, &raw mut usage), 0);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Sends packets that `fill` writes.
fn xsk(mut fill: impl FnMut(&mut [u8]) -> usize + Send + 'static) -> Run {
    // The thread that opens it has this one's network namespace.
    let before = received("vb").0;
    let sent = spawn_pinned(0, move || {
        let mut transmitter = Transmitter::open("va", 0, &Options::default())?;
        let before = cpu(libc::RUSAGE_THREAD);
        let sent = transmitter.send_until(Rate::Full, Until::elapsed(TIME), &mut fill)?;
        Ok((sent, cpu(libc::RUSAGE_THREAD) - before))
    });
    let (sent, cpu) = sent.join().unwrap().unwrap();
    let arrived = received("vb").0 - before;
    assert_eq!(arrived, sent.packets - sent.refused);
    Run { arrived, wall: (sent.last - sent.first) as f64 / 1e9, cpu }
}

/// Without what its start and end take.
fn trafgen(packet: &str) -> Option<Run> {
    let run = |number: u64| {
        let (before, start, used) = (received("vb").0, Instant::now(), cpu(libc::RUSAGE_CHILDREN));
        let number = number.to_string();
        let output = Command::new("trafgen")
            .args(["--dev", "va", "--conf", packet, "--cpus", "1", "--num", &number, "--no-cpu-stats"])
            .output();
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu(libc::RUSAGE_CHILDREN) - used);
        match output {
            Ok(output) if output.status.success() => {
                Some(Run { arrived: received("vb").0 - before, wall, cpu })
            }
            Ok(output) => {
                println!("trafgen: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                println!("trafgen: {error}");
                None
            }
        }
    };
    let (idle, all) = (run(1)?, run(TRAFGEN)?);
    Some(Run { arrived: all.arrived - idle.arrived, wall: all.wall - idle.wall, cpu: all.cpu - idle.cpu })
}

fn numbered() -> impl FnMut(&mut [u8]) -> usize + Send + 'static {
    let mut next = 0;
    move |frame| {
        next += 1;
        write(frame, next)
    }
}

/// 64 bytes with FCS, of 1000 flows, each packet with its probe and checksums.
fn streamed() -> impl FnMut(&mut [u8]) -> usize + Send + 'static {
    let profile: Profile = "flows=1000 choice=uniform sport=1024+1x1000".parse().unwrap();
    let mut stream = Stream::new(&profile.content, profile.seed).unwrap();
    move |frame| stream.write(0, 0, frame).unwrap()
}

/// The middle one, the least and the greatest of the ratios to trafgen.
fn print_ratios(far: &str, who: &str, mut ratios: Vec<f64>) {
    ratios.sort_by(f64::total_cmp);
    if let [least, .., greatest] = ratios[..] {
        let middle = ratios[ratios.len() / 2];
        println!("{far}: {who} / trafgen: {middle:.2} ({least:.2} to {greatest:.2}) per second of the core");
    }
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
            // UDP to port 9, which all three send.
            let (mask, value) = ([0xff, 0xff, 0, 0, 0, 0, 0, 0], [0, 9, 0, 0, 0, 0, 0, 0]);
            let ours = Match::Bytes { at: 36, mask, value, load: None };
            let sink = (far == "count").then(|| Sink::attach("vb", Action::Count, ours).unwrap());
            if far == "gro" {
                assert!(Command::new("ethtool").args(["-K", "vb", "gro", "on"]).status().unwrap().success());
            }
            let (mut plain, mut stream) = (vec![], vec![]);
            for _ in 0..ROUNDS {
                let theirs = trafgen(&packet);
                let ours = [xsk(numbered()), xsk(streamed())];
                for (run, who) in ours.iter().zip(["xsk-rs", "xsk-rs, stream"]) {
                    run.print(far, who);
                }
                if let Some(theirs) = theirs {
                    theirs.print(far, "trafgen");
                    let ratio = |run: &Run| run.per_core_second() / theirs.per_core_second();
                    plain.push(ratio(&ours[0]));
                    stream.push(ratio(&ours[1]));
                }
            }
            print_ratios(far, "xsk-rs", plain);
            print_ratios(far, "xsk-rs, stream", stream);
            drop(sink);
            if far == "gro" {
                assert!(Command::new("ethtool").args(["-K", "vb", "gro", "off"]).status().unwrap().success());
            }
        }
        std::fs::remove_file(&path).unwrap();
        ip("link del va");
    });
}
