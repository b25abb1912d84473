//! The kernel as the forwarder: by its routes, with nftables rules in its way, or by an XDP program that redirects.
//!
//! Keeps true: what was set up for it goes when it goes, and a program or a rule that the kernel refuses is an error.

use crate::conntrack;
use crate::place::{MACS, PORTS, Part};
use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, xdp::DevMap};
use aya::programs::xdp::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use zsync_control::xdp::REDIRECT_OBJECT;

/// Plain rules that a packet goes through before it is let through.
pub const RULES: u32 = 1000;
const TABLE: &str = "zsync_bench";

/// What stands in the way of a packet that the kernel forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Connection tracking: established ones pass, and new ones from the left; all else is dropped.
    Track,
    /// Masquerading behind the right device's address.
    Masquerade,
    /// [`RULES`] rules, one after the other, the last of which lets it through.
    Filter,
}

impl Way {
    /// As `nft` reads it.
    fn rules(self) -> String {
        let forward = "type filter hook forward priority filter; policy drop;";
        let [left, right] = PORTS;
        let chains = match self {
            // From the right nothing is new: a packet back over a connection that was forgotten is dropped.
            Self::Track => format!(
                "chain forward {{ {forward} iifname \"{left}\" ct state new,established,related accept; \
                 ct state established,related accept; }}"
            ),
            Self::Masquerade => format!(
                "chain out {{ type nat hook postrouting priority srcnat; oifname \"{right}\" masquerade; }}"
            ),
            Self::Filter => {
                let mut chain = format!("chain forward {{ {forward}\n");
                for (source, port) in unmatched() {
                    let _ = writeln!(chain, "ip saddr {source} udp dport {port} drop");
                }
                chain + "accept\n}"
            }
        };
        format!("table ip {TABLE} {{\n{chains}\n}}\n")
    }
}

/// Sources and ports of the rules that no packet of the traffic matches, as its source is another.
pub fn unmatched() -> impl Iterator<Item = (String, u32)> {
    (1..RULES).map(|n| (format!("192.168.{}.{}", n >> 8, n & 0xff), n))
}

/// Rules of nftables in the router. Dropping it removes them.
#[derive(Debug)]
pub struct Rules(Way);

impl Rules {
    /// Sets them up.
    ///
    /// # Errors
    /// There is no `nft`, or the kernel refuses them.
    pub fn set(way: Way) -> Result<Self> {
        let rules = way.rules();
        Part::Router.run(|| nft(&rules))?;
        Ok(Self(way))
    }

    /// How many connections the router tracks now; `None` where the rules need none.
    ///
    /// # Errors
    /// None are tracked, though the rules need them: what was measured is something else.
    pub fn tracked(&self) -> Result<Option<u64>> {
        if self.0 == Way::Filter {
            return Ok(None);
        }
        let count = Part::Router.run(conntrack::count)?.unwrap_or(0);
        ensure!(count > 0, "the kernel tracks no connection");
        Ok(Some(count))
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        if let Err(error) = Part::Router.run(|| nft(&format!("delete table ip {TABLE}\n"))) {
            eprintln!("nftables' table {TABLE} stays: {error:#}");
        }
    }
}

fn nft(script: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("there is no nft: `zsync-bench peers --install`, or the package nftables")?;
    child.stdin.take().context("nft has no pipe")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft: {}: {}", output.status, said.trim());
    Ok(())
}

/// The redirecting XDP program on the router's left device. Dropping it takes it off.
pub struct Redirect {
    _program: Ebpf,
}

impl Redirect {
    /// Loads and attaches it, in native mode.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn attach() -> Result<Self> {
        let [left, right] = PORTS;
        let (left, right) = (Part::Router.ifindex(left)?, Part::Router.ifindex(right)?);
        // In the router: the kernel looks the device up in the namespace of who sets it.
        let program = Part::Router.run(move || {
            let mut program = load(right)?;
            let xdp: &mut Xdp =
                program.program_mut("zsync_redirect").context("no redirecting program")?.try_into()?;
            xdp.attach_to_if_index(left, XdpMode::Driver).context("attaching the redirecting program")?;
            Ok(program)
        })?;
        Ok(Self { _program: program })
    }
}

/// The program, loaded, which sends what comes to the sink's neighbour out of device `out`.
fn load(out: u32) -> Result<Ebpf> {
    let mut program =
        EbpfLoader::new().btf(None).load(REDIRECT_OBJECT).context("loading the redirecting program")?;
    let [_, _, right, sink] = MACS;
    let mut macs = [0; 12];
    macs[..6].copy_from_slice(&sink);
    macs[6..].copy_from_slice(&right);
    let map = program.map_mut("MACS").context("the program has no addresses")?;
    Array::<&mut MapData, [u8; 12]>::try_from(map)?.set(0, macs, 0)?;
    let map = program.map_mut("OUT").context("the program has no device map")?;
    DevMap::<&mut MapData>::try_from(map)?.set(0, out, None, 0)?;
    let xdp: &mut Xdp =
        program.program_mut("zsync_redirect").context("no redirecting program")?.try_into()?;
    xdp.load().context("the kernel refuses the redirecting program")?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::udp_frame;
    use aya::{TestRun, TestRunOptions};

    /// Its verdict on a frame (`enum xdp_action`), and what it made of it.
    fn run(program: &Ebpf, frame: &[u8]) -> (u32, Vec<u8>) {
        let xdp: &Xdp = program.program("zsync_redirect").unwrap().try_into().unwrap();
        let mut out = vec![0; frame.len()];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let verdict = xdp.test_run(options).unwrap().return_value;
        (verdict, out)
    }

    /// The sum over an IPv4 header with a right checksum (RFC 1071).
    fn sum(header: &[u8]) -> u16 {
        let words = header.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
        let sum: u32 = words.sum();
        ((sum & 0xffff) + (sum >> 16)) as u16
    }

    #[test]
    fn a_redirected_packet_has_one_hop_less_and_a_right_checksum() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: loading an XDP program takes root");
            return;
        }
        let program = load(1).unwrap();
        for (source, destination) in [("10.1.0.2:5", "10.2.0.2:9"), ("[2001:db8::1]:5", "[2001:db8::2]:9")] {
            let mut frame =
                udp_frame((MACS[0], MACS[1]), source.parse().unwrap(), destination.parse().unwrap(), 80)
                    .unwrap();
            let hops = if source.starts_with('[') { 14 + 7 } else { 14 + 8 };
            let (verdict, out) = run(&program, &frame);
            assert_eq!((verdict, out[hops]), (4, frame[hops] - 1), "XDP_REDIRECT");
            assert_eq!((&out[..6], &out[6..12]), (&MACS[3][..], &MACS[2][..]));
            if hops == 14 + 8 {
                assert_eq!((sum(&frame[14..34]), sum(&out[14..34])), (0xffff, 0xffff));
            }
            // What has no hop left is the kernel's, as it came.
            frame[hops] = 1;
            assert_eq!(run(&program, &frame), (2, frame), "XDP_PASS");
        }
    }

    #[test]
    fn a_filter_has_its_rules_and_its_packets_come_to_the_last() {
        let rules = Way::Filter.rules();
        let lines: Vec<&str> = rules.lines().collect();
        assert_eq!(lines.iter().filter(|line| line.ends_with("drop")).count(), RULES as usize - 1);
        assert!(lines.iter().all(|line| !line.contains(" 10.1.0.2 ")), "the generator's address");
        assert_eq!(lines[lines.len() - 3], "accept");
        assert!(rules.contains("192.168.3.231 udp dport 999"), "{rules}");
    }
}
