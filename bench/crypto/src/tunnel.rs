//! boringtun's `encapsulate`: a whole WireGuard tunnel in user space, as others have it.
//!
//! It does more than seal (a header, counters), and does it from one buffer into another. Its session's keys are its own, so
//! its bytes are not compared with `ring`'s: what is shown is that its other end opens them to the same text.

use crate::contestant::{Contestant, Task, Way, least};
use crate::packets::{Packets, Seeded};
use anyhow::{Context, Result, bail, ensure};
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use std::time::Instant;
use zsync_crypto::aead::{Algorithm, TAG_LEN};

/// Bytes that it puts around a text: header and tag.
const AROUND: usize = 32;
/// Bytes that it wants room for in any case: those of the first message of a handshake.
const LEAST: usize = 148;

/// Both ends, with a session.
pub(crate) struct Tunnel {
    near: Tunn,
    far: Tunn,
    /// The packets' texts, one behind the other, and where they go.
    texts: Vec<u8>,
    out: Vec<u8>,
}

impl Tunnel {
    /// # Errors
    /// They do not come to a session.
    pub(crate) fn new() -> Result<Self> {
        let mut seeded = Seeded(0xb0);
        let [near, far] = [(); 2].map(|()| {
            let mut bytes = [0; 32];
            bytes.copy_from_slice(&seeded.bytes(32));
            StaticSecret::from(bytes)
        });
        let [near_key, far_key] = [&near, &far].map(PublicKey::from);
        let mut near = Tunn::new(near, far_key, None, None, 1, None);
        let mut far = Tunn::new(far, near_key, None, None, 2, None);
        let (mut one, mut other) = ([0; 256], [0; 256]);
        let first = message(near.format_handshake_initiation(&mut one, false))?;
        let second = message(far.decapsulate(None, first, &mut other))?;
        let third = message(near.decapsulate(None, second, &mut one))?;
        if let TunnResult::Err(error) = far.decapsulate(None, third, &mut other) {
            bail!("boringtun: no session: {error:?}");
        }
        Ok(Self { near, far, texts: Vec::new(), out: Vec::new() })
    }
}

fn message(result: TunnResult<'_>) -> Result<&[u8]> {
    match result {
        TunnResult::WriteToNetwork(message) => Ok(message),
        other => bail!("boringtun: no message, but {other:?}"),
    }
}

impl Contestant for Tunnel {
    fn name(&self) -> &'static str {
        "boringtun"
    }

    fn does(&self, algorithm: Algorithm, way: Way) -> bool {
        algorithm == Algorithm::ChaCha20Poly1305 && way == Way::Seal
    }

    fn prepare(&mut self, packets: &Packets) -> Result<()> {
        self.texts.resize(packets.stride * packets.list.len(), 0);
        for (packet, text) in packets.list.iter().zip(self.texts.chunks_exact_mut(packets.stride)) {
            text[..packet.text.len()].copy_from_slice(&packet.text);
        }
        self.out.resize((packets.stride + LEAST).next_multiple_of(64) * packets.list.len(), 0);
        let len = packets.lengths().into_iter().max().unwrap_or(0);
        // The far end looks into what it opens: an IPv4 header, or nothing.
        let mut text = vec![0x5a; len.max(20)];
        text[0] = 0x45;
        let total = u16::try_from(text.len()).context("no IPv4 packet is that long")?;
        text[2..4].copy_from_slice(&total.to_be_bytes());
        let (mut sealed, mut opened) = (vec![0; text.len() + LEAST], vec![0; text.len() + LEAST]);
        let sealed = message(self.near.encapsulate(&text, &mut sealed))?;
        ensure!(sealed.len() == text.len() + AROUND, "boringtun: {} bytes for {len}", sealed.len());
        match self.far.decapsulate(None, sealed, &mut opened) {
            TunnResult::WriteToTunnelV4(packet, _) if *packet == *text => Ok(()),
            other => bail!("boringtun: not opened to its text, but {other:?}"),
        }
    }

    fn sample(&mut self, packets: &Packets, task: Task) -> Result<f64> {
        let count = task.count();
        let room = (packets.stride + LEAST).next_multiple_of(64);
        least(task, || {
            let start = Instant::now();
            for ((packet, text), out) in packets.list[..count]
                .iter()
                .zip(self.texts.chunks_exact(packets.stride))
                .zip(self.out.chunks_exact_mut(room))
            {
                self.near.encapsulate(&text[..packet.text.len() - TAG_LEN], out);
            }
            Ok(start.elapsed())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::Shape;
    use std::time::Duration;

    #[test]
    fn a_session_comes_up_and_its_packets_are_timed() {
        let mut tunnel = Tunnel::new().unwrap();
        let packets = Packets::make(Algorithm::ChaCha20Poly1305, Shape::equal(1420)).unwrap();
        tunnel.prepare(&packets).unwrap();
        let task = Task { way: Way::Seal, burst: 32, turn: Duration::ZERO };
        assert!(tunnel.sample(&packets, task).unwrap() > 0.0);
        let message = &tunnel.out[..1420 + AROUND];
        assert_eq!(message[..4], [4, 0, 0, 0], "a data message (whitepaper, 5.4.6)");
    }
}
