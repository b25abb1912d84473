//! What `generate`, `receive` and `search` have in common: packets from words, ports from devices, queues and cores.

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use zsync_bench::enclosure::execute;
use zsync_bench_xsk::Options;
use zsync_ends::source::What;
use zsync_ends::{Enter, Port};
use zsync_traffic::profile::Profile;

/// The packets.
#[derive(Args)]
pub struct Packets {
    /// What the packets are: `size=imix flows=1000 sport=1024..2023 dst=10.2.0.1 rate=1M shape=poisson` and others, see
    /// the README. Without a `src-mac` it is the device's.
    #[arg(value_name = "KEY=VALUE")]
    profile: Vec<String>,
    /// A file with such pairs; those of the command line come behind them.
    #[arg(long, value_name = "FILE")]
    profile_file: Option<PathBuf>,
}

impl Packets {
    /// The profile, to be sent by `device`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn profile(&self, device: Option<&str>) -> Result<Profile> {
        self.profile_with(device, &[])
    }

    /// As [`Self::profile`], with pairs for keys that are not given.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn profile_with(&self, device: Option<&str>, defaults: &[(&str, &str)]) -> Result<Profile> {
        let mut text = match &self.profile_file {
            Some(path) => std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
            None => String::new(),
        };
        for word in &self.profile {
            text.push('\n');
            text.push_str(word);
        }
        let has = |text: &str, key: &str| {
            text.lines()
                .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
                .any(|word| word.split_once('=').is_some_and(|(known, _)| known == key))
        };
        for (key, value) in defaults.iter().filter(|(key, _)| !has(&text, key)).collect::<Vec<_>>() {
            text.push_str(&format!("\n{key}={value}"));
        }
        if let Some(device) = device.filter(|_| !has(&text, "src-mac")) {
            text.push_str(&format!("\nsrc-mac={}", mac(device)?));
        }
        text.parse::<Profile>().context("the packets cannot be")
    }
}

/// Its packets, as a source has them.
pub fn stream(profile: &Profile) -> What {
    What::Stream { content: Arc::new(profile.content.clone()), seed: profile.seed }
}

/// The MAC address of a device.
fn mac(device: &str) -> Result<String> {
    let output = execute(std::process::Command::new("ip").args(["-j", "link", "show", "dev", device]))?;
    let links: serde_json::Value = serde_json::from_str(&output)?;
    let address = links[0]["address"].as_str();
    Ok(address.with_context(|| format!("{device} has no MAC address: give src-mac"))?.to_owned())
}

/// The ends' sockets.
#[derive(Args)]
pub struct Sockets {
    /// Queues of each device, from 0.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    queues: Vec<u32>,
    /// Entries of each ring: a power of two, 64 to 32768.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(64..=32768))]
    ring: u32,
}

impl Sockets {
    /// How sockets are opened.
    pub fn options(&self) -> Options {
        Options { ring: self.ring, ..Options::default() }
    }

    /// A port for each queue of each device; cores are given out in their order, and must be as many, or none.
    ///
    /// # Errors
    /// Too few cores, or too many.
    pub fn ports(&self, devices: &[String], cores: &[usize]) -> Result<Vec<Port>> {
        let each = devices.iter().flat_map(|device| self.queues.iter().map(move |&queue| (device, queue)));
        let ports: Vec<Port> = each
            .enumerate()
            .map(|(at, (device, queue))| Port { device: device.clone(), queue, core: cores.get(at).copied() })
            .collect();
        ensure!(
            cores.is_empty() || cores.len() == ports.len(),
            "{} cores for {} queues: give one for each, or none",
            cores.len(),
            ports.len()
        );
        Ok(ports)
    }
}

/// New threads are where this process is.
pub fn here() -> Enter {
    Arc::new(|| Ok(()))
}
