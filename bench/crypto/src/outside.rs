//! Intel's ipsec-mb, in a process of its own: a C program that is built when it is needed, of the package `libipsec-mb-dev`.
//!
//! Refuses: to fail a run on a machine that has no compiler or no such library; it says what is missing instead. Keeps true: the
//! program has its turns in the same rounds as all others, on the same core, and ends when its standard input does.

use crate::contestant::{Contestant, Task, Way};
use crate::packets::Packets;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use zsync_crypto::aead::{Algorithm, TAG_LEN};

/// As tables have it.
pub(crate) const NAME: &str = "ipsec-mb";
const PROGRAM: &str = include_str!("ipsec_mb.c");
/// What a request asks for; see the program.
const SET: u32 = 0;
const TIME: u32 = 1;

/// The program, running.
pub(crate) struct Outside {
    child: Child,
    /// Until it is to end.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    /// Its version, and what of the processor it uses.
    pub(crate) about: String,
}

impl Outside {
    /// Builds it in `folder`, and starts it.
    ///
    /// # Errors
    /// What is missing, and how it can be had.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let (source, program) = (folder.join("ipsec_mb.c"), folder.join("ipsec_mb"));
        fs::write(&source, PROGRAM).with_context(|| format!("writing {}", source.display()))?;
        let mut cc = Command::new("cc");
        cc.arg("-O2").arg("-o").arg(&program).arg(&source).arg("-lIPSec_MB");
        let built = cc.output().context("no C compiler (Debian's package gcc)")?;
        let said = String::from_utf8_lossy(&built.stderr);
        let line = said.lines().find(|line| line.contains("error")).unwrap_or_default().trim();
        ensure!(
            built.status.success(),
            "it is not here, or older than 1.3 (Debian's package libipsec-mb-dev): {line}"
        );
        // What is typed at the terminal is for this process, which ends that one.
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let to = child.stdin.take();
        let mut from = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut about = String::new();
        from.read_line(&mut about)?;
        about.truncate(about.trim_end().len());
        let outside = Self { child, to, from, about };
        ensure!(!outside.about.is_empty(), "it does not run on this processor");
        Ok(outside)
    }

    fn ask(&mut self, what: u32, packets: &Packets, task: Option<Task>, rest: &[u8]) -> Result<()> {
        let algorithm = match packets.algorithm {
            Algorithm::ChaCha20Poly1305 => 0,
            Algorithm::Aes128Gcm => 1,
            Algorithm::Aes256Gcm => 2,
        };
        let way = task.map_or(0, |task| u32::from(task.way == Way::Open));
        let burst = task.map_or(0, |task| task.burst as u32);
        let count = task.map_or(packets.list.len(), |task| task.count()) as u32;
        let (keys, stride) = (packets.keys.len() as u32, packets.stride as u32);
        let numbers = [what, algorithm, way, burst, count, keys, stride, 0];
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_ne_bytes).collect();
        let time = task.map_or(0, |task| u64::try_from(task.turn.as_nanos()).unwrap_or(u64::MAX));
        bytes.extend(time.to_ne_bytes());
        bytes.extend(rest);
        let to = self.to.as_mut().context("it has ended")?;
        to.write_all(&bytes).context("ipsec-mb does not listen")?;
        Ok(())
    }

    fn answer<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).context("ipsec-mb does not answer")?;
        Ok(bytes)
    }
}

impl Contestant for Outside {
    fn name(&self) -> &'static str {
        NAME
    }

    fn does(&self, _algorithm: Algorithm, _way: Way) -> bool {
        true
    }

    fn prepare(&mut self, packets: &Packets) -> Result<()> {
        let mut rest = Vec::new();
        for key in &packets.keys {
            let from = rest.len();
            rest.extend(key);
            rest.resize(from + 32, 0);
        }
        for packet in &packets.list {
            let text = &packet.text[..packet.text.len() - TAG_LEN];
            rest.extend((text.len() as u32).to_ne_bytes());
            rest.extend((packet.key as u32).to_ne_bytes());
            rest.extend(packet.nonce);
            rest.extend(text);
        }
        self.ask(SET, packets, None, &rest)?;
        let mut is_right = true;
        for packet in &packets.list {
            let mut sealed = vec![0; packet.sealed.len()];
            self.from.read_exact(&mut sealed).context("ipsec-mb does not answer")?;
            is_right &= sealed == packet.sealed;
        }
        let opens = self.answer::<1>()? == [1];
        ensure!(is_right, "ipsec-mb: does not seal {:?} as ring does", packets.algorithm);
        ensure!(opens, "ipsec-mb: does not open {:?} as ring does", packets.algorithm);
        Ok(())
    }

    fn sample(&mut self, packets: &Packets, task: Task) -> Result<f64> {
        self.ask(TIME, packets, Some(task), &[])?;
        Ok(f64::from_ne_bytes(self.answer()?))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.to.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::{Lengths, Shape};
    use std::time::Duration;

    #[test]
    fn it_seals_as_ring_does_and_is_timed() {
        let folder = std::env::temp_dir().join(format!("zsync-bench-crypto-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let outside = Outside::start(&folder);
        fs::remove_dir_all(&folder).unwrap();
        let mut outside = match outside {
            Ok(outside) => outside,
            Err(why) => {
                eprintln!("SKIPPED: ipsec-mb: {why:#}");
                return;
            }
        };
        assert!(outside.about.contains('.'), "{}", outside.about);
        for algorithm in Algorithm::ALL {
            for shape in [
                Shape::equal(0),
                Shape::equal(64),
                Shape { lengths: Lengths::Random, keys: 4, framed: false },
            ] {
                let packets = Packets::make(algorithm, shape).unwrap();
                outside.prepare(&packets).unwrap();
                for way in Way::ALL {
                    let task = Task { way, burst: 3, turn: Duration::ZERO };
                    assert!(outside.sample(&packets, task).unwrap() > 0.0);
                }
            }
        }
        // Other bytes than ring's are told, and it goes on.
        let mut packets = Packets::make(Algorithm::Aes128Gcm, Shape::equal(64)).unwrap();
        packets.list[1].sealed[2] ^= 1;
        let error = outside.prepare(&packets).unwrap_err().to_string();
        assert_eq!(error, "ipsec-mb: does not seal Aes128Gcm as ring does");
    }
}
