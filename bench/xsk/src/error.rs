//! What can go wrong with a socket or the far end's program.

use std::{fmt, io};

use aya::EbpfError;

/// An error of this crate. Devices are named as `ip link` does.
#[derive(Debug, thiserror::Error)]
pub enum XskError {
    /// An option that cannot be: 1 ≤ burst ≤ 64; ring sizes are powers of two; rates are above zero.
    #[error("{what} is {value}; it has to be {limit}")]
    Option {
        /// Which option.
        what: &'static str,
        /// What was given.
        value: String,
        /// What can be.
        limit: &'static str,
    },
    /// No such device in the network namespace of this thread.
    #[error("there is no network device {device} in this network namespace")]
    NoDevice {
        /// Its name.
        device: String,
    },
    /// Another XDP program is on the device.
    #[error(
        "{device} already has an XDP program{}; end its owner, or remove it with `ip link set {device} xdp off`",
        program.as_ref().map(|p| format!(": {p}")).unwrap_or_default()
    )]
    Occupied {
        /// The device.
        device: String,
        /// Whose it is, if that can be told.
        program: Option<AttachedProgram>,
    },
    /// Another AF_XDP socket has the queue.
    #[error(
        "queue {queue} of {device} has an AF_XDP socket already{}; end its owner",
        program.as_ref().map(|p| format!(", and the device {p}")).unwrap_or_default()
    )]
    QueueTaken {
        /// The device.
        device: String,
        /// The queue, from 0.
        queue: u32,
        /// The XDP program of the device, which tells whose socket it may be.
        program: Option<AttachedProgram>,
    },
    /// The UMEM or the socket is refused for another reason. EINVAL is mostly a queue that the device does not have.
    #[error("{device}, queue {queue}: {what}: {source}")]
    Socket {
        /// The device.
        device: String,
        /// The queue, from 0.
        queue: u32,
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The XDP program of the far end cannot be loaded.
    #[error("cannot load zsync_sink (it takes CAP_BPF and CAP_NET_ADMIN)")]
    Load(#[source] Box<EbpfError>),
    /// Its maps cannot be read or written.
    #[error("a map of zsync_sink")]
    Map(#[from] aya::maps::MapError),
    /// The device refuses the program in the driver and in the stack.
    #[error("{device} refuses an XDP program: {source}")]
    Attach {
        /// The device.
        device: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The core does not exist, or this process may not run there.
    #[error("a thread cannot be pinned to core {0}")]
    Core(usize),
}

/// Somebody's XDP program on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// The kernel's number.
    pub id: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
}

impl AttachedProgram {
    /// What `ip link` says of the device; `None` when it has no program, or nothing can be learned.
    pub fn of(device: &str) -> Option<Self> {
        let output = std::process::Command::new("ip")
            .args(["-d", "-j", "link", "show", "dev", device])
            .output()
            .ok()?;
        Self::parse(&output.stdout)
    }

    fn parse(json: &[u8]) -> Option<Self> {
        let links: serde_json::Value = serde_json::from_slice(json).ok()?;
        let program = links.get(0)?.get("xdp")?.get("prog")?;
        Some(Self {
            id: u32::try_from(program.get("id")?.as_u64()?).ok()?,
            name: program.get("name").and_then(|name| name.as_str()).map(str::to_owned),
        })
    }
}

impl fmt::Display for AttachedProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program {}", self.id)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " \"{name}\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_from_what_ip_prints() {
        let json =
            br#"[{"ifname":"b","xdp":{"mode":1,"prog":{"id":57,"name":"zsync_sink","tag":"a1","jited":1}}}]"#;
        let program = AttachedProgram::parse(json).unwrap();
        assert_eq!(program.to_string(), "program 57 \"zsync_sink\"");
        assert_eq!(AttachedProgram::parse(br#"[{"ifname":"b"}]"#), None);
        assert_eq!(AttachedProgram::parse(b""), None);
    }
}
