//! DPDK's testpmd as the peer: a forwarder that runs in the same run, told over its own prompt.
//!
//! Owns: the process, which ends when this is dropped. Refuses: to measure a testpmd that does not answer, or whose
//! counters stand still. It forwards only during a measurement; between two of them its forwarding thread sleeps.

use crate::hugepages;
use crate::machine::{core_time, measured_core};
use crate::watch::Watch;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PROGRAM: &str = "dpdk-testpmd";
/// How long it may take to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// A command that does nothing, and whose complaint says that what came before it is done.
const MARK: &str = "mark";
const MARKED: &str = "Command not found";

/// A running testpmd. See the module.
pub struct Testpmd {
    child: Child,
    prompt: ChildStdin,
    lines: Receiver<String>,
    forwarding_thread: u32,
}

impl Testpmd {
    /// Forwards between two null devices, 64 bytes a packet, bytes untouched: io mode; on huge pages when there are any.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn between_null_devices() -> Result<Self> {
        Self::between(["--vdev=net_null0", "--vdev=net_null1"], &["--forward-mode=io"])
    }

    /// Swaps MAC addresses between two null devices, `size` bytes a packet, which each device copies into an mbuf and out
    /// of it, in bursts of up to `burst` packets; on huge pages when there are any.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn swapping_between_copying_devices(size: usize, burst: usize) -> Result<Self> {
        let device = |n: u32| format!("--vdev=net_null{n},size={size},copy=1");
        let burst = format!("--burst={burst}");
        Self::between([&device(0), &device(1)], &["--forward-mode=macswap", &burst])
    }

    fn between(devices: [&str; 2], own: &[&str]) -> Result<Self> {
        let eal = ["--no-pci", devices[0], devices[1]];
        if hugepages::are_reserved() {
            Self::start(&[&["--in-memory"], &eal[..]].concat(), own)
        } else {
            // Its default number of mbufs does not fit into plain pages.
            let plain = ["--no-huge", "-m", "512"];
            Self::start(&[&plain, &eal[..]].concat(), &[own, &["--total-num-mbufs=16384"]].concat())
        }
    }

    /// Starts it with these arguments for DPDK and for itself; it forwards on the measured core.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(eal: &[&str], own: &[&str]) -> Result<Self> {
        let cores = format!("0,{}", measured_core());
        ensure!(measured_core() > 0, "it takes two cores, and there is one");
        let prefix = format!("--file-prefix=zsync-bench-{}", std::process::id());
        // By lines: into a pipe it would print only when it ends.
        let mut child = Command::new("stdbuf")
            .args(["-oL", PROGRAM, "-l", &cores, &prefix, "--no-telemetry"])
            .args(eal)
            .args(["--", "--interactive"])
            .args(own)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What is typed at the terminal is not for it; when this process ends, its prompt does, and it with that.
            .process_group(0)
            .spawn()
            .with_context(|| {
                format!("{PROGRAM} cannot be started (Debian has it in the package dpdk-dev)")
            })?;
        let (Some(prompt), Some(out), Some(err)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            bail!("{PROGRAM} has no pipes");
        };
        let (tell, lines) = channel();
        for stream in [Box::new(out) as Box<dyn std::io::Read + Send>, Box::new(err)] {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if tell.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let mut testpmd = Self { child, prompt, lines, forwarding_thread: 0 };
        testpmd.ask("")?;
        testpmd.forwarding_thread = testpmd.find_forwarding_thread()?;
        Ok(testpmd)
    }

    /// Packets per second of core time that it sends in a round.
    ///
    /// # Errors
    /// It does not answer, or sends nothing; the run is to stop, and then it still forwards.
    pub fn measure(&mut self, round: Duration, warm_up: Duration, watch: &Watch) -> Result<f64> {
        self.forward(true)?;
        watch.sleep(warm_up)?;
        let (packets, time) = self.look()?;
        watch.sleep(round)?;
        let (packets, time) = self.look().map(|(p, t)| (p - packets, t.saturating_sub(time)))?;
        self.forward(false)?;
        ensure!(packets > 0 && !time.is_zero(), "{PROGRAM} forwards nothing");
        Ok(packets as f64 / time.as_secs_f64())
    }

    /// Starts or stops forwarding.
    ///
    /// # Errors
    /// It does not answer.
    pub fn forward(&mut self, on: bool) -> Result<()> {
        self.ask(if on { "start" } else { "stop" }).map(drop)
    }

    fn look(&mut self) -> Result<(u64, Duration)> {
        let packets = sent(&self.ask("show port stats all")?);
        Ok((packets, core_time(self.child.id(), self.forwarding_thread)?))
    }

    /// Gives a command, and waits until it is done. Returns what was printed.
    fn ask(&mut self, command: &str) -> Result<Vec<String>> {
        // Both at once: the answer to the second comes after the first is done.
        write!(self.prompt, "{command}\n{MARK}\n").with_context(|| format!("{PROGRAM} has ended"))?;
        self.prompt.flush()?;
        let until = Instant::now() + PATIENCE;
        let mut answer = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                bail!("{PROGRAM} does not answer; it said last: {}", last(&answer));
            };
            if line.contains(MARKED) {
                return Ok(answer);
            }
            answer.push(line);
        }
    }

    /// DPDK names its threads by their core.
    fn find_forwarding_thread(&self) -> Result<u32> {
        let process = self.child.id();
        for entry in std::fs::read_dir(format!("/proc/{process}/task"))? {
            let path = entry?.path();
            let name = std::fs::read_to_string(path.join("comm"))?;
            if name.trim() == format!("rte-worker-{}", measured_core()) {
                let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
                return id.context("a thread without a number");
            }
        }
        bail!("{PROGRAM} has no thread for core {}", measured_core())
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.prompt.write_all(b"quit\n");
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Packets that all ports have sent, from what `show port stats all` prints.
fn sent(lines: &[String]) -> u64 {
    let of_port =
        |line: &String| line.split_once("TX-packets:")?.1.split_whitespace().next()?.parse::<u64>().ok();
    lines.iter().filter_map(of_port).sum()
}

fn last(lines: &[String]) -> String {
    let from = lines.len().saturating_sub(5);
    lines[from..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_all_ports_have_sent() {
        let printed = "
  ######################## NIC statistics for port 0  ########################
  RX-packets: 9912544   RX-missed: 0          RX-bytes:  634402816
  TX-packets: 9912512    TX-errors: 0          TX-bytes:  634400768
  Throughput (since last show)
  Tx-pps:     59832151          Tx-bps:  30634061312
  TX-packets: 88         TX-errors: 0          TX-bytes:  5632";
        let lines: Vec<String> = printed.lines().map(str::to_owned).collect();
        assert_eq!(sent(&lines), 9_912_600);
    }
}
