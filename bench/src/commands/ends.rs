//! The ends of a search's wire, as the command line names them: who sends, who counts or reads, and what resets the device.

use super::receive::Taking;
use super::traffic::Sockets;
use anyhow::{Context, Result};
use std::process::Command;
use std::sync::Arc;
use zsync_bench::enclosure;
use zsync_bench::generator::Generator;
use zsync_bench::live::{self, Live};
use zsync_bench::search::Wanted;
use zsync_ends::counter::Counter;
use zsync_ends::far::FarEnd;
use zsync_ends::reader::Reader;
use zsync_ends::sender::{NearEnd, Senders};
use zsync_ends::{Enter, Port};
use zsync_traffic::profile::Profile;

/// A device's driver, as far as it can be told.
pub fn driver(device: &str) -> String {
    let link = std::fs::read_link(format!("/sys/class/net/{device}/device/driver"));
    let name = link.ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    name.or_else(|| {
        let output = enclosure::execute(Command::new("ip").args(["-d", "-j", "link", "show", "dev", device]));
        let links: serde_json::Value = serde_json::from_str(&output.ok()?).ok()?;
        Some(links[0]["linkinfo"]["info_kind"].as_str()?.to_owned())
    })
    .unwrap_or_else(|| "unknown".to_owned())
}

/// Who sends. Sockets send all that is to be read: also several rates one after the other.
pub fn near<'a>(senders: &'a Senders, live: Option<&'a Live>, wanted: Wanted) -> &'a dyn NearEnd {
    match live {
        Some(live) if wanted == Wanted::Counts || wanted == Wanted::Samples && live.has_numbers() => live,
        _ => senders,
    }
}

/// The kernel as the sender of a profile's packets.
///
/// # Errors
/// What it cannot make; no such device.
pub fn live(profile: &Profile, device: &str, core: Option<usize>, enter: &Enter) -> Result<Live> {
    let (entered, name) = (Enter::clone(enter), device.to_owned());
    let ifindex = std::thread::spawn(move || {
        entered()?;
        let output = enclosure::execute(Command::new("ip").args(["-j", "link", "show", "dev", &name]))?;
        let links: serde_json::Value = serde_json::from_str(&output)?;
        let index = links[0]["ifindex"].as_u64().and_then(|index| index.try_into().ok());
        index.with_context(|| format!("there is no device {name}"))
    });
    let ifindex = ifindex.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let generator = Generator::load(&live::traffic(profile, ifindex)?)?;
    Ok(Live::new(Arc::new(generator), core.unwrap_or(0), Enter::clone(enter)))
}

/// A far end on this host: one that reads, or one that counts.
///
/// # Errors
/// No port.
pub fn local(
    ports: Vec<Port>,
    read: bool,
    (taking, sockets): (&Taking, &Sockets),
    enter: &Enter,
) -> Result<Box<dyn FarEnd>> {
    if read {
        return Ok(Box::new(Reader::new(ports, taking.manner(sockets), enter)?));
    }
    let device = &ports.first().context("there is no port to count at")?.device;
    Ok(Box::new(Counter::new(device, taking.marks(), enter)))
}

/// Resets the device under test.
///
/// # Errors
/// Nobody said how; the command failed.
pub fn reset(command: Option<&str>) -> Result<()> {
    let command = command.context("a reset needs --reset-command: what resets the device")?;
    enclosure::execute(Command::new("sh").args(["-c", command])).map(drop)
}
