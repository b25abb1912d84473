//! Traffic at full rate: the kernel itself sends (`zsync-bench generate`), and what arrives is counted at the far end.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::binary::binary;
use crate::process::Process;
use crate::{Lab, Namespace};

/// The UDP port that is sent to.
const PORT: u16 = 9;
/// Left out of the measurement: the generator's start, and cold caches.
const WARM_UP: Duration = Duration::from_millis(500);
/// How much longer than asked for the generator may take: its calls are of seconds.
const OVERRUN: Duration = Duration::from_secs(10);

/// Packets a second.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// That the client's kernel made.
    pub sent: f64,
    /// That the server's device received.
    pub received: f64,
}

/// UDP to `target`, an address of the server's, in frames of 60 bytes and 64 flows, as fast as one core can make them, for that long.
/// `cpu` is the core, which should not be a worker's.
///
/// # Errors
/// The generator cannot run, or a device not be read.
pub fn full_rate(lab: &Lab, target: IpAddr, cpu: u64, time: Duration) -> Result<Rates> {
    // Somebody must listen, or the server would answer with errors; nobody needs to read.
    let _listener = lab.server.run(|| UdpSocket::bind((target, PORT)).context("the listener"))?;
    let mac = lab.router.mac("eth1")?.map(|byte| format!("{byte:02x}")).join(":");
    let source = lab.client_addresses[0];
    let mut command = Command::new(binary("zsync-bench")?);
    command.args(["generate", "--engine", "live", "--full", "--netdev", "eth0", "--json"]);
    command.args(["--seconds", &time.as_secs_f64().to_string(), "--cores", &cpu.to_string()]);
    command.args(["size=64", "flows=64", "sport=1024..1087", &format!("dst-mac={mac}")]);
    command.args([format!("src={source}"), format!("dst={target}"), format!("dport={PORT}")]);
    let mut generator = Process::start(&lab.client, &mut command, &lab.folder().join("generator.log"))?;

    thread::sleep(WARM_UP);
    let (start, before) = (Instant::now(), received(&lab.server, "eth0")?);
    thread::sleep(time.saturating_sub(2 * WARM_UP));
    let packets = received(&lab.server, "eth0")?.saturating_sub(before);
    let seconds = start.elapsed().as_secs_f64();

    let status = generator.wait(time + OVERRUN)?;
    let said = generator.log();
    ensure!(status.success(), "the generator ended with {status}: {said}");
    Ok(Rates {
        sent: rate_said(&said).with_context(|| format!("what the generator sent: {said}"))?,
        received: packets as f64 / seconds,
    })
}

/// Packets a second, as the generator's JSON has them.
fn rate_said(text: &str) -> Option<f64> {
    let said: serde_json::Value = text.lines().find_map(|line| serde_json::from_str(line).ok())?;
    said["packets_per_second"].as_f64()
}

/// Packets that a device of that namespace has received.
fn received(namespace: &Namespace, device: &str) -> Result<u64> {
    // `/proc/net` is that of the process's first thread.
    let text = namespace.run(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
    received_of(&text, device).ok_or_else(|| anyhow!("no {device} in {text}"))
}

/// `  eth0: BYTES PACKETS …` (net/core/net-procfs.c).
fn received_of(text: &str, device: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, numbers) = lines.find(|(name, _)| name.trim() == device)?;
    numbers.split_whitespace().nth(1)?.parse().ok()
}

/// UDP packets that arrived in that namespace for a socket that had no room, of both families (net/ipv4/proc.c and
/// net/ipv6/proc.c).
pub fn overruns(namespace: &Namespace) -> Result<u64> {
    let read = |file: &str| fs::read_to_string(Path::new("/proc/thread-self/net").join(file));
    let (v4, v6) = namespace.run(|| Ok((read("snmp")?, read("snmp6")?)))?;
    overruns_of(&v4, &v6).ok_or_else(|| anyhow!("no RcvbufErrors in {v4}{v6}"))
}

fn overruns_of(v4: &str, v6: &str) -> Option<u64> {
    // A line of names, and one of values.
    let mut lines = v4.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let (_, v4) =
        names.split_whitespace().zip(values.split_whitespace()).find(|(name, _)| *name == "RcvbufErrors")?;
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Udp6RcvbufErrors"))?;
    Some(v4.parse::<u64>().ok()? + v6.trim().parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_packets_of_a_device() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs|bytes packets errs\n\
                    \x20   lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n  eth0: 500 7 0 0 0 0 0 0 900 11 0 0 0 0 0 0\n";
        assert_eq!(received_of(text, "eth0"), Some(7));
        assert_eq!(received_of(text, "eth1"), None);
    }

    #[test]
    fn reads_what_the_generator_says() {
        assert_eq!(rate_said("note\n{\"packets_per_second\":2000.0,\"sent\":3000}\n"), Some(2000.0));
        assert_eq!(rate_said("no device\n"), None);
    }

    #[test]
    fn overruns_of_both_families_are_added() {
        let v4 = "Udp: InDatagrams RcvbufErrors SndbufErrors\nUdp: 9 3 1\nUdpLite: InDatagrams RcvbufErrors\nUdpLite: 7 7\n";
        let v6 = "Udp6InDatagrams   \t8\nUdp6RcvbufErrors   \t4\nUdpLite6RcvbufErrors \t6\n";
        assert_eq!(overruns_of(v4, v6), Some(7));
        assert_eq!(overruns_of("", v6), None);
    }
}
