//! Configurations for labs.

/// The example of a router, as it is shipped: its devices are the lab's.
pub const ROUTER: &str = include_str!("../../pipelines/examples/router.toml");
/// The example of a wire, as it is shipped.
pub const WIRE: &str = include_str!("../../pipelines/examples/patch.toml");

/// The example of a WireGuard gateway, as it is shipped.
pub const WIREGUARD: &str = include_str!("../../pipelines/examples/wireguard-gateway.toml");

/// Whether ports by this device are made by zsync, and have the host's own end.
#[must_use]
pub fn is_own(device: &str) -> bool {
    matches!(device, "tun" | "tap")
}

/// The same with ports whose packets come and go by this device: `xdp`, `uring-packet`, `tun`, `tap`.
#[must_use]
pub fn by(device: &str, text: &str) -> String {
    let line = |line: &str| match line.starts_with("[port.") {
        true => format!("{line}\ndevice = \"{device}\"\n"),
        false => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// A router whose ports both have these lines (`grace = "100ms"`).
#[must_use]
pub fn router(lines: &str) -> String {
    format!(
        "[port.wan]\nnetdev = \"eth1\"\n{lines}\n\n[port.lan]\nnetdev = \"eth2\"\n{lines}\n\n\
         [pipeline.forward]\ninput = [\"wan\", \"lan\"]\nstages = [\"route.main\"]\n\n[route.main]\ntable = 254\n"
    )
}

/// A wire whose ports both have these lines.
#[must_use]
pub fn wire(lines: &str) -> String {
    format!(
        "[port.left]\nnetdev = \"eth1\"\npromiscuous = true\n{lines}\n\n\
         [port.right]\nnetdev = \"eth2\"\npromiscuous = true\n{lines}\n\n\
         [pipeline.wire]\ninput = [\"left\", \"right\"]\nstages = [\"patch.wire\"]\n\n\
         [patch.wire]\npairs = [[\"left\", \"right\"]]\n"
    )
}
