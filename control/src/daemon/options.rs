//! How `zsync-control` is started.

use clap::Parser;
use std::path::{Path, PathBuf};

/// Opens ports, starts the data plane, keeps it alive.
#[derive(Clone, Debug, Parser)]
#[command(name = "zsync-control", version, about, long_about = None)]
pub struct Options {
    /// Configuration to put in force, whatever was before. Without it, the one that was accepted last.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Configuration to start with when none was ever accepted; later ones come by `zsyncctl apply`.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub initial_config: Option<PathBuf>,
    /// For sockets: gone with the machine's boot.
    #[arg(long, value_name = "DIR", default_value = "/run/zsync")]
    pub run_dir: PathBuf,
    /// For the sockets by which `wg` sees and changes the tunnels, one for each; "off": none. `wg` itself looks in
    /// /var/run/wireguard alone.
    #[arg(long, value_name = "DIR", default_value = "/var/run/wireguard")]
    pub wireguard_dir: PathBuf,
    /// For the history of configurations, and for keys that came by `wg`.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/zsync")]
    pub state_dir: PathBuf,
    /// For pinned programs and links, on a BPF file system, which is mounted when it is not there.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/zsync")]
    pub bpffs: PathBuf,
    /// The data plane's program. Without it, `zsync-dataplane` beside this one.
    #[arg(long, value_name = "FILE")]
    pub dataplane: Option<PathBuf>,
    /// Leave a dead data plane dead, until `zsyncctl restart-dataplane`: for fault drills.
    #[arg(long)]
    pub no_respawn: bool,
}

impl Options {
    /// Where the sockets for `wg` are; none: nowhere.
    pub fn wireguard_dir(&self) -> Option<&Path> {
        Some(self.wireguard_dir.as_path()).filter(|folder| *folder != Path::new("off"))
    }

    /// The data plane's program.
    pub fn dataplane(&self) -> PathBuf {
        let beside = || {
            let own = std::env::current_exe().ok()?;
            Some(own.parent()?.join("zsync-dataplane"))
        };
        self.dataplane.clone().or_else(beside).unwrap_or_else(|| Path::new("zsync-dataplane").to_owned())
    }
}
