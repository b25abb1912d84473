//! The files of mirrors: packets that workers copied into rings, written as libpcap has them.
//!
//! Owns the open files. Looked at ten times a second: what comes in between waits in the rings, and what finds no room there is
//! lost, which is told. Refuses to write into a file that is there and no capture of nanoseconds. Keeps true: a file that was
//! begun by another control process, or under another configuration, is carried on.

use super::states::States;
use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Write as _};
use zsync_pipelines::spec::mirror::{MirrorSpec, MirrorTo};
use zsync_pipelines::spec::{Spec, StageSpec};
use zsync_pipelines::tables::capture_ring::{CaptureRing, Captured, SNAP};

/// libpcap's header for nanoseconds (draft-ietf-opsawg-pcap, §4): magic, version 2.4, zone and accuracy of nothing, longest
/// packet, Ethernet.
fn header() -> [u8; 24] {
    let mut header = [0; 24];
    header[..4].copy_from_slice(&0xa1b2_3c4d_u32.to_le_bytes());
    header[4] = 2;
    header[6] = 4;
    header[16..20].copy_from_slice(&(SNAP as u32).to_le_bytes());
    header[20] = 1;
    header
}

/// Packets that are written for one ring at one look: some milliseconds' work.
const AT_ONCE: usize = 50_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Captures {
    /// By the mirrors' labels.
    files: BTreeMap<String, Open>,
    /// Labels of mirrors whose file could not be opened, so that it is told once.
    failed: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Open {
    path: String,
    file: BufWriter<File>,
    lost: u64,
}

impl Captures {
    /// Writes what waits in the rings of the mirrors of `spec`, and closes the files of others.
    pub fn look(&mut self, spec: &Spec, states: &States) {
        let mirrors: BTreeMap<&str, (&MirrorSpec, &str)> = spec
            .pipelines
            .iter()
            .flat_map(|pipeline| &pipeline.stages)
            .filter_map(|stage| match &stage.spec {
                StageSpec::Mirror(mirror) => match &mirror.to {
                    MirrorTo::File(path) => Some((stage.label.as_str(), (mirror, path.as_str()))),
                    MirrorTo::Port(_) => None,
                },
                _ => None,
            })
            .collect();
        let same = |label: &str, path: &str| mirrors.get(label).is_some_and(|(_, wanted)| *wanted == path);
        self.files.retain(|label, open| same(label, &open.path));
        self.failed.retain(|label, path| same(label, path));
        for (label, (mirror, path)) in mirrors {
            if self.failed.contains_key(label) {
                continue;
            }
            if let Err(error) = self.write(label, mirror, path, states) {
                tracing::error!(stage = label, path, "the capture ends: {error:#}");
                self.files.remove(label);
                self.failed.insert(label.to_owned(), path.to_owned());
            }
        }
    }

    fn write(&mut self, label: &str, mirror: &MirrorSpec, path: &str, states: &States) -> Result<()> {
        let Some(state) = states.state(label) else { return Ok(()) };
        let rings: Vec<CaptureRing> = (0..state.workers())
            .filter_map(|worker| CaptureRing::open(state.shard(worker)?, mirror.ring as usize))
            .collect();
        if !self.files.contains_key(label) {
            let file = open(path).with_context(|| format!("opening {path}"))?;
            let lost = rings.iter().map(CaptureRing::lost).sum();
            self.files.insert(label.to_owned(), Open { path: path.to_owned(), file, lost });
        }
        let Some(open) = self.files.get_mut(label) else { return Ok(()) };
        // The workers' clock starts with the machine.
        let nanoseconds = |clock| {
            let time = clock_gettime(clock);
            time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
        };
        let epoch = nanoseconds(ClockId::Realtime).saturating_sub(nanoseconds(ClockId::Monotonic));
        let mut bytes = Vec::with_capacity(SNAP);
        for ring in &rings {
            for _ in 0..AT_ONCE {
                let Some(captured) = ring.take(&mut bytes) else { break };
                open.file.write_all(&record(&captured, bytes.len(), epoch))?;
                open.file.write_all(&bytes)?;
            }
        }
        open.file.flush()?;
        let lost = rings.iter().map(CaptureRing::lost).sum();
        if lost > open.lost {
            tracing::warn!(
                stage = label,
                path,
                packets = lost - open.lost,
                "the capture lost packets: its ring was full"
            );
            open.lost = lost;
        }
        Ok(())
    }
}

/// The file, to be carried on; a new one when there is none.
fn open(path: &str) -> Result<BufWriter<File>> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut found = Vec::new();
    (&mut file).take(24).read_to_end(&mut found)?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    if found.is_empty() {
        file.write_all(&header())?;
        file.flush()?;
    } else {
        ensure!(
            found == header(),
            "it is there, and not a capture that zsync began: move it away, or name another"
        );
    }
    Ok(file)
}

/// A record's header (draft-ietf-opsawg-pcap, §5): seconds, nanoseconds, bytes that follow, bytes on the wire.
fn record(captured: &Captured, len: usize, epoch: u64) -> [u8; 16] {
    let time = epoch.saturating_add(captured.time);
    let words =
        [(time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32, len as u32, captured.wire_len as u32];
    let mut record = [0; 16];
    for (place, word) in record.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_packet::verdict::PortId;

    #[test]
    fn a_file_is_begun_carried_on_and_never_spoilt() {
        let folder = std::env::temp_dir().join(format!("zsync-captures-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.pcap");
        let name = path.to_str().unwrap();
        for _ in 0..2 {
            let mut file = open(name).unwrap();
            let captured = Captured { time: 2_000_000_007, port: PortId(0), wire_len: 60 };
            file.write_all(&record(&captured, 2, 1_000_000_000)).unwrap();
            file.write_all(&[1, 2]).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 24 + 2 * 18);
        assert_eq!(bytes[..24], header());
        assert_eq!(bytes[24..42], [3, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 60, 0, 0, 0, 1, 2]);
        std::fs::write(&path, b"somebody's notes").unwrap();
        assert!(open(name).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"somebody's notes");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
