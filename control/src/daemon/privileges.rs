//! Which privileges control needs, and what for.

use anyhow::{Result, bail};

/// Capability, its bit (include/uapi/linux/capability.h), and what it is for.
const NEEDED: &[(&str, u32, &str)] = &[
    ("CAP_KILL", 5, "to end a data plane that hangs"),
    ("CAP_SETGID", 6, "to give the data plane a group of its own"),
    ("CAP_SETUID", 7, "to give the data plane a user of its own"),
    ("CAP_SETPCAP", 8, "to take every capability from the data plane"),
    ("CAP_NET_ADMIN", 12, "to attach XDP programs and to read and resolve neighbours"),
    ("CAP_NET_RAW", 13, "to open AF_XDP sockets"),
    ("CAP_IPC_LOCK", 14, "to pin packet memory"),
    ("CAP_BPF", 39, "to load eBPF programs and maps"),
];

/// Checks the effective set of this process.
///
/// # Errors
/// All that are missing, each with what it is for, and how to get them.
pub fn check() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or(0);
    let missing = missing(effective);
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "zsync-control lacks {}; run it as root, or by its systemd unit, which grants these",
        missing.join(", ")
    )
}

fn missing(effective: u64) -> Vec<String> {
    NEEDED
        .iter()
        .filter(|(_, bit, _)| effective >> bit & 1 == 0)
        .map(|(name, _, purpose)| format!("{name} ({purpose})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing_and_what_for() {
        assert!(missing(u64::MAX).is_empty());
        assert_eq!(missing(!(1 << 39)), ["CAP_BPF (to load eBPF programs and maps)"]);
        assert_eq!(missing(0).len(), NEEDED.len());
    }
}
