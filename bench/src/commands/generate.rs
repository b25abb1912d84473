//! `generate`: the kernel as a source of packets, by itself.

use anyhow::{Context, Result};
use clap::Args;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zsync_bench::enclosure;
use zsync_bench::generator::{Generator, Traffic};

#[derive(Args)]
pub struct Generate {
    /// Device that the packets leave by.
    #[arg(long)]
    netdev: String,
    /// MAC address of the next hop.
    #[arg(long, value_parser = mac)]
    dst_mac: [u8; 6],
    /// Source address and port of the first flow.
    #[arg(long, value_name = "ADDRESS:PORT")]
    src: SocketAddr,
    /// Destination address and port.
    #[arg(long, value_name = "ADDRESS:PORT")]
    dst: SocketAddr,
    /// Bytes of a frame, without its check sequence.
    #[arg(long, default_value_t = 60)]
    size: usize,
    /// How many flows, by source port.
    #[arg(long, default_value_t = 1)]
    flows: u32,
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Core to send from.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

/// Sends for as long as it is asked, and says how much that was.
pub fn generate(what: &Generate) -> Result<()> {
    let output = enclosure::execute(Command::new("ip").args(["-j", "link", "show", "dev", &what.netdev]))?;
    let links: serde_json::Value = serde_json::from_str(&output)?;
    let ifindex = links[0]["ifindex"].as_u64().and_then(|index| index.try_into().ok());
    let generator = Arc::new(Generator::load(&Traffic {
        ifindex: ifindex.with_context(|| format!("there is no device {}", what.netdev))?,
        source_mac: links[0]["address"]
            .as_str()
            .and_then(|text| mac(text).ok())
            .unwrap_or([2, 0, 0, 0, 0, 1]),
        destination_mac: what.dst_mac,
        source: what.src,
        destination: what.dst,
        size: what.size,
        flows: what.flows,
    })?);
    let start = Instant::now();
    let running = generator.spawn(what.cpu, Duration::try_from_secs_f64(what.seconds)?, || Ok(()));
    let made = running.join()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{made} frames in {seconds:.2} s: {:.2} M/s", made as f64 / seconds / 1e6);
    Ok(())
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>();
    let mac = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    mac.ok_or_else(|| format!("{text} is not six bytes in hexadecimal, as in 02:00:00:00:00:01"))
}
