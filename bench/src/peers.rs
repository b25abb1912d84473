//! The peers: what zsync is compared with, whether it is here, and how it comes here.
//!
//! Refuses: to install without being asked, and without root.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// A program, or a part of the kernel, that a benchmark compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// As `--peer` names it.
    pub name: &'static str,
    /// Debian's package; empty when it is the kernel that has it, or this program ([`BUILT_IN`]).
    pub package: &'static str,
    /// Benchmarks that it is in.
    pub benchmarks: &'static [&'static str],
}

/// The peer that is a library, built into this program.
pub const BUILT_IN: &str = "xsk-rs";

/// The peer that is a library of C's, which a program is built with when it is measured.
const IPSEC_MB: &str = "ipsec-mb";

/// All of them.
pub const PEERS: &[Peer] = &[
    Peer {
        name: "dpdk-testpmd",
        package: "dpdk-dev",
        benchmarks: &["memory-patch", "memory-macswap", "veth-route"],
    },
    Peer { name: "dpdk-test-fib", package: "dpdk-dev", benchmarks: &["fib"] },
    Peer { name: "dpdk-test-acl", package: "dpdk-dev", benchmarks: &["acl"] },
    // Only x86-64 has it.
    #[cfg(target_arch = "x86_64")]
    Peer { name: IPSEC_MB, package: "libipsec-mb-dev", benchmarks: &["crypto"] },
    Peer { name: BUILT_IN, package: "", benchmarks: &["veth-route"] },
    Peer {
        name: "kernel",
        package: "",
        benchmarks: &["veth-route", "veth-track", "veth-nat", "veth-filter"],
    },
    Peer { name: "kernel-xdp", package: "", benchmarks: &["veth-route"] },
    Peer { name: "wireguard-go", package: "wireguard-go", benchmarks: &["veth-wireguard"] },
    Peer { name: "nft", package: "nftables", benchmarks: &["veth-track", "veth-nat", "veth-filter"] },
];

/// What there is of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is here, of this version.
    Here(String),
    /// Its package is not installed.
    Missing,
}

impl Peer {
    /// Whether it is here. What belongs to the kernel or to this program always is.
    pub fn state(&self) -> State {
        if self.name == BUILT_IN {
            return State::Here("built in".to_owned());
        }
        if self.package.is_empty() {
            let release = rustix::system::uname().release().to_string_lossy().into_owned();
            return State::Here(format!("Linux {release}"));
        }
        let is_here = match self.name {
            IPSEC_MB => Path::new("/usr/include/intel-ipsec-mb.h").is_file(),
            name => crate::dpdk::is_installed(name),
        };
        if !is_here {
            return State::Missing;
        }
        let asked = Command::new("dpkg-query").args(["-W", "-f", "${Version}", self.package]).output();
        let version = asked.ok().filter(|output| output.status.success());
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        State::Here(
            version.filter(|text| !text.is_empty()).unwrap_or_else(|| "of unknown version".to_owned()),
        )
    }

    /// One line of the list.
    fn line(&self) -> String {
        let package = match self.package {
            "" if self.name == BUILT_IN => "zsync-bench",
            "" => "the kernel",
            package => package,
        };
        let state = match self.state() {
            State::Here(version) => format!("installed, {version}"),
            State::Missing => "missing: zsync-bench peers --install".to_owned(),
        };
        format!("{:14}  {package:11}  {state}  (in {})", self.name, self.benchmarks.join(", "))
    }
}

/// The list: a line for each, with its package, its version, and the benchmarks that it is in.
pub fn list() -> String {
    PEERS.iter().map(|peer| peer.line() + "\n").collect()
}

/// Packages of the peers that are missing, each once.
pub fn missing() -> Vec<&'static str> {
    let mut packages: Vec<_> =
        PEERS.iter().filter(|peer| peer.state() == State::Missing).map(|peer| peer.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs what is missing, as `scripts/setup --bench` does; what was installed.
///
/// # Errors
/// Not root, not Debian, or the packages cannot be had.
pub fn install() -> Result<Vec<&'static str>> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(packages);
    }
    let names = packages.join(" ");
    ensure!(rustix::process::geteuid().is_root(), "run as root to install {names}");
    for arguments in [&["update", "-qq"][..], &["install", "-y", "-qq", "--no-install-recommends"]] {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        if arguments[0] == "install" {
            apt.args(&packages);
        }
        let status = apt.status().with_context(|| format!("there is no apt-get; install {names} by hand"))?;
        ensure!(status.success(), "apt-get {} failed ({status}); what is wanted is {names}", arguments[0]);
    }
    Ok(packages)
}

/// The peer of this name in this benchmark.
///
/// # Errors
/// It is not in that benchmark; with those that are.
pub fn find(benchmark: &str, name: &str) -> Result<&'static Peer> {
    let of_it = || PEERS.iter().filter(|peer| peer.benchmarks.contains(&benchmark));
    let names: Vec<_> = of_it().map(|peer| peer.name).collect();
    of_it().find(|peer| peer.name == name || peer.name.strip_prefix("dpdk-") == Some(name)).with_context(
        || {
            format!(
                "{benchmark} has no peer {name}; its peers: {}",
                if names.is_empty() { "none".into() } else { names.join(", ") }
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_is_listed_with_its_package_and_the_kernel_is_always_here() {
        let list = list();
        assert_eq!(list.lines().count(), PEERS.len());
        for (peer, line) in PEERS.iter().zip(list.lines()) {
            assert!(line.starts_with(peer.name) && line.contains(peer.package), "{line}");
            assert!(
                !peer.package.is_empty() || peer.name == BUILT_IN || line.contains("installed, Linux"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_peer_is_of_its_benchmarks_only() {
        assert_eq!(find("fib", "dpdk-test-fib").unwrap().package, "dpdk-dev");
        let error = find("veth-route", "dpdk-test-fib").unwrap_err().to_string();
        assert!(error.contains("dpdk-testpmd") && error.contains("kernel"), "{error}");
    }
}
