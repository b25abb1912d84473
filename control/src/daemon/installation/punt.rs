//! The device by which packets reach the kernel.

use crate::raw;
use anyhow::{Context as _, Result, anyhow};
use rustix::fd::OwnedFd;
use std::net::Ipv4Addr;
use zsync_pipelines::spec::{Spec, StageSpec};

/// Its name.
const PUNT: &str = "zsync-punt";

/// The way to the kernel: up, and with source checks that let packets from everywhere pass.
///
/// The kernel checks sources by the stricter of the device's `rp_filter` and that of `all`. Where `all` is off, the device's
/// is turned off. Where it is on, loose checks are all that can be had, and they need an address on the device
/// (`__fib_validate_source`, net/ipv4/fib_frontend.c): it gets the dummy address of RFC 7600.
pub(super) fn open_punt() -> Result<OwnedFd> {
    let tun = raw::open_tun(PUNT).map_err(|errno| {
        anyhow!("opening the TUN device {PUNT} for packets to the kernel: {errno} (is /dev/net/tun there?)")
    })?;
    let strict = std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter")
        .is_ok_and(|value| value.trim() != "0");
    if strict {
        raw::set_address(PUNT, Ipv4Addr::new(192, 0, 0, 8))
            .with_context(|| format!("giving {PUNT} an address"))?;
    }
    raw::set_up(PUNT).with_context(|| format!("bringing {PUNT} up"))?;
    let sysctl = format!("/proc/sys/net/ipv4/conf/{PUNT}/rp_filter");
    if let Err(error) = std::fs::write(&sysctl, if strict { "2" } else { "0" }) {
        tracing::warn!(%error, "could not set {sysctl}: the kernel may drop punted packets");
    }
    Ok(tun)
}

/// Lets the kernel take punted packets that come from an address of this host, if a `nat` stage or a tunnel of WireGuard gives
/// them one, or the host itself sends by a port: its first packet to a neighbour that is not known yet is the kernel's to forward, which otherwise drops it as a forgery
/// (`fib_validate_source`, net/ipv4/fib_frontend.c; there is no such check for IPv6).
pub(super) fn admit_own_sources(spec: &Spec) {
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let ours = |spec: &StageSpec| matches!(spec, StageSpec::Nat(_) | StageSpec::WireguardSeal(_));
    let own =
        stages.into_iter().any(|stage| ours(&stage.spec)) || spec.ports.iter().any(|port| port.tun.is_some());
    let sysctl = format!("/proc/sys/net/ipv4/conf/{PUNT}/accept_local");
    if let Err(error) = std::fs::write(&sysctl, if own { "1" } else { "0" }) {
        tracing::warn!(%error, "could not set {sysctl}: the kernel may drop packets of our own");
    }
}
