//! Known bytes through a tunnel, looked at where they come out.
//!
//! Keeps true: the bytes follow from a seed alone, so both ends know them without having told each other.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Namespace;

/// How long anything may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that follow from a seed (splitmix64, Steele and others, 2014).
#[derive(Debug)]
pub struct Bytes(u64);

impl Bytes {
    /// Of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next ones.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            part.copy_from_slice(&(word ^ word >> 31).to_le_bytes()[..part.len()]);
        }
    }

    /// So many of a seed.
    #[must_use]
    pub fn of(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Self::new(seed).fill(&mut bytes);
        bytes
    }
}

/// Sends `len` bytes by TCP each way at once, from `from` to `target` in `to` and back, and compares what comes.
///
/// # Errors
/// A byte is missing or another one, or nothing comes for some seconds.
pub fn tcp(from: &Namespace, to: &Namespace, target: SocketAddr, len: usize, seed: u64) -> Result<()> {
    let listener = to.run(|| TcpListener::bind(target).context("listening"))?;
    thread::scope(|scope| {
        let far = scope.spawn(|| exchange(listener.accept().context("accepting")?.0, len, [seed + 1, seed]));
        let near = from.run(|| TcpStream::connect_timeout(&target, PATIENCE).context("connecting"));
        // Who cannot connect leaves nobody waiting.
        let near = near.or_else(|error| {
            to.run(|| Ok(TcpStream::connect_timeout(&target, PATIENCE)?))?;
            Err(error)
        });
        let near = near.and_then(|near| exchange(near, len, [seed, seed + 1]));
        far.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).context("at the far end")?;
        near.context("at the near end")
    })
}

/// Sends the bytes of the first seed, and expects those of the second.
fn exchange(stream: TcpStream, len: usize, [ours, theirs]: [u64; 2]) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut sending = stream.try_clone()?;
    thread::scope(|scope| {
        let sender = scope.spawn(move || -> Result<()> {
            let (mut bytes, mut left, mut buffer) = (Bytes::new(ours), len, vec![0; 16 << 10]);
            while left > 0 {
                let now = left.min(buffer.len());
                bytes.fill(&mut buffer[..now]);
                sending.write_all(&buffer[..now]).context("sending")?;
                left -= now;
            }
            Ok(())
        });
        let (mut bytes, mut at, mut receiving) = (Bytes::new(theirs), 0, &stream);
        let (mut came, mut expected) = (vec![0; 16 << 10], vec![0; 16 << 10]);
        while at < len {
            let now = came.len().min(len - at);
            receiving.read_exact(&mut came[..now]).with_context(|| format!("behind byte {at}"))?;
            bytes.fill(&mut expected[..now]);
            let wrong =
                came[..now].iter().zip(&expected[..now]).position(|(came, expected)| came != expected);
            ensure!(wrong.is_none(), "byte {} of {len} is another one", at + wrong.unwrap_or(0));
            at += now;
        }
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Sends a datagram of each of these lengths by UDP from `from` to `target` in `to`, which compares it and sends another of the
/// same length back, which is compared too. None may be lost.
///
/// # Errors
/// One is missing, or has other bytes.
pub fn datagrams(
    from: &Namespace,
    to: &Namespace,
    target: SocketAddr,
    lengths: impl IntoIterator<Item = usize>,
    seed: u64,
) -> Result<()> {
    let any = if target.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let far = to.run(|| UdpSocket::bind(target).context("the far socket"))?;
    let near = from.run(|| {
        let near = UdpSocket::bind(SocketAddr::new(any, 0)).context("the near socket")?;
        near.connect(target).context("no way there")?;
        Ok(near)
    })?;
    for socket in [&far, &near] {
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    }
    let mut buffer = vec![0; 1 << 16];
    for length in lengths {
        let [there, back] = [0, 1].map(|way| Bytes::of(seed ^ (length as u64) << 8 ^ way, length));
        near.send(&there).with_context(|| format!("sending {length} bytes"))?;
        let (came, sender) = far.recv_from(&mut buffer).with_context(|| format!("{length} bytes there"))?;
        ensure!(buffer[..came] == there, "{length} bytes came as {came} others");
        far.send_to(&back, sender).with_context(|| format!("sending {length} bytes back"))?;
        let came = near.recv(&mut buffer).with_context(|| format!("{length} bytes back"))?;
        ensure!(buffer[..came] == back, "{length} bytes came back as {came} others");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_from_the_seed_however_they_are_asked_for() {
        let mut parts = vec![0; 64];
        let mut bytes = Bytes::new(7);
        let (first, second) = parts.split_at_mut(24);
        bytes.fill(first);
        bytes.fill(second);
        assert_eq!(parts, Bytes::of(7, 64));
        assert_ne!(parts, Bytes::of(8, 64));
    }
}
