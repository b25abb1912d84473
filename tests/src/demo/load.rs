//! Traffic at full rate, counted where it arrives.

use std::fs;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::{Lab, Namespace};

/// The UDP port that is sent to.
const PORT: u16 = 9;
/// Senders, each with a flow of its own.
const SENDERS: usize = 2;
/// Payload bytes: the smallest that fills an Ethernet frame of 60 bytes.
const PAYLOAD: usize = 18;
/// Left out of the measurement, while rings and caches fill.
const WARM_UP: Duration = Duration::from_millis(300);

/// Packets a second.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// That left the client.
    pub sent: f64,
    /// That the server's device received.
    pub received: f64,
}

/// Sends as fast as the client can, for that long.
///
/// # Errors
/// When a socket cannot be made, or a device not be read.
pub fn full_rate(lab: &Lab, time: Duration) -> Result<Rates> {
    // Somebody must listen, or the server would answer with errors; nobody needs to read.
    let _listener = lab.server.run(|| UdpSocket::bind(lab.service(PORT)).context("the listener"))?;
    let sockets = (0..SENDERS)
        .map(|_| {
            lab.client.run(|| {
                let socket = UdpSocket::bind((lab.client_addresses[0], 0))?;
                socket.connect(lab.service(PORT))?;
                Ok(socket)
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for socket in &sockets {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    // A full queue is the client's own, and passes.
                    let _ = socket.send(&[0; PAYLOAD]);
                }
            });
        }
        let rates = measure(lab, time);
        stop.store(true, Relaxed);
        rates
    })
}

fn measure(lab: &Lab, time: Duration) -> Result<Rates> {
    let look =
        || Ok::<_, anyhow::Error>((Packets::of(&lab.client, "eth0")?, Packets::of(&lab.server, "eth0")?));
    thread::sleep(WARM_UP);
    let (start, (client, server)) = (Instant::now(), look()?);
    thread::sleep(time.saturating_sub(WARM_UP));
    let (client_then, server_then) = look()?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = |then: u64, before: u64| then.saturating_sub(before) as f64 / seconds;
    Ok(Rates {
        sent: rate(client_then.transmitted, client.transmitted),
        received: rate(server_then.received, server.received),
    })
}

/// What a device counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packets {
    received: u64,
    transmitted: u64,
}

impl Packets {
    fn of(namespace: &Namespace, device: &str) -> Result<Self> {
        // `/proc/net` is that of the process's first thread.
        let text = namespace.run(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        Self::parse(&text, device).ok_or_else(|| anyhow!("no {device} in {text}"))
    }

    /// `  eth0: BYTES PACKETS …`, eight numbers for each direction (net/core/net-procfs.c).
    fn parse(text: &str, device: &str) -> Option<Self> {
        let (_, numbers) =
            text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == device)?;
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
        Some(Self { received: *numbers.get(1)?, transmitted: *numbers.get(9)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_packets_of_a_device() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs|bytes packets errs\n\
                    \x20   lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n  eth0: 500 7 0 0 0 0 0 0 900 11 0 0 0 0 0 0\n";
        assert_eq!(Packets::parse(text, "eth0"), Some(Packets { received: 7, transmitted: 11 }));
        assert_eq!(Packets::parse(text, "eth1"), None);
    }
}
