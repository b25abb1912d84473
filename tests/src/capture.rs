//! Frames as they are on the wire, VLAN tags included: `tcpdump`, and the file that it writes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::process::Process;
use crate::{Lab, Namespace, wait_for};

/// libpcap's magic for times in microseconds, little-endian.
const MAGIC: [u8; 4] = [0xd4, 0xc3, 0xb2, 0xa1];

/// A running capture of what comes in at a device.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts one at `device`, promiscuous, with a filter as tcpdump has them (empty: everything).
    ///
    /// # Errors
    /// When `tcpdump` does not come to listen.
    pub fn start(lab: &Lab, namespace: &Namespace, device: &str, filter: &str) -> Result<Self> {
        let file = lab.folder().join(format!("{}.pcap", namespace.name()));
        let log = lab.folder().join("tcpdump.log");
        let _ = fs::remove_file(&log);
        let mut command = Command::new("tcpdump");
        // Root's own, or it would change to an account that may not write there.
        command.args(["-Z", "root", "-i", device, "-Q", "in", "--immediate-mode", "-U", "-s", "0", "-w"]);
        command.arg(&file).args(filter.split_whitespace());
        let tcpdump = Process::start(namespace, &mut command, &log).context("package tcpdump")?;
        wait_for("tcpdump to listen", Duration::from_secs(5), || {
            tcpdump.log().contains("listening on").then_some(())
        })?;
        Ok(Self { tcpdump, file })
    }

    /// Frames captured so far.
    ///
    /// # Errors
    /// When the file is none of libpcap's.
    pub fn frames(&self) -> Result<Vec<Vec<u8>>> {
        parse(&fs::read(&self.file)?)
    }

    /// Ends it; all that it captured.
    ///
    /// # Errors
    /// As [`Capture::frames`].
    pub fn finish(mut self) -> Result<Vec<Vec<u8>>> {
        self.tcpdump.signal(Signal::INT)?;
        self.tcpdump.wait(Duration::from_secs(5))?;
        self.frames()
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    ensure!(bytes.len() < 24 || bytes.starts_with(&MAGIC), "not a capture in little-endian microseconds");
    let mut rest = bytes.get(24..).unwrap_or_default();
    let mut frames = Vec::new();
    // Time (8 bytes), captured length, length on the wire.
    while let Some((head, tail)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        // The last record may still be half written.
        let Some((frame, next)) = tail.split_at_checked(length) else { break };
        frames.push(frame.to_vec());
        rest = next;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records_up_to_one_that_is_cut() {
        let mut file = MAGIC.to_vec();
        file.resize(24, 0);
        for frame in [&b"abc"[..], b"", b"defgh"] {
            file.extend([0; 8]);
            file.extend((frame.len() as u32).to_le_bytes());
            file.extend((frame.len() as u32).to_le_bytes());
            file.extend(frame);
        }
        assert_eq!(parse(&file).unwrap(), [&b"abc"[..], b"", b"defgh"]);
        assert_eq!(parse(&file[..file.len() - 1]).unwrap(), [&b"abc"[..], b""]);
        assert!(parse(&[0; 24]).is_err());
        assert!(parse(&[]).unwrap().is_empty());
    }
}
