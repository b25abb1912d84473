//! `acl`: what DPDK's packet classifier costs with 100, 1,000 and 10,000 rules: the figure that a filter stage is to be
//! compared with. zsync has none yet, and the report says so.

use crate::dpdk;
use crate::folder::Folder;
use crate::report::{Rate, Report};
use crate::traffic::Seeded;
use crate::watch::Watch;
use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The peer.
pub const PROGRAM: &str = "dpdk-test-acl";
/// Rules of the sets.
pub const RULES: [usize; 3] = [100, 1_000, 10_000];
/// Packets of a trace, and how often it is gone through.
const PACKETS: usize = 1 << 16;
const PASSES: &str = "16";
/// Packets classified by a call.
const BURST: &str = "64";
/// Why there is no figure of ours.
pub const ABSENT: &str = "zsync has no filter stage yet";

/// A rule of five fields.
struct Rule {
    source: (u32, u8),
    destination: (u32, u8),
    port: u16,
    protocol: u8,
}

impl Rule {
    /// Any prefixes of /16 to /32, one service: what rule sets of firewalls are mostly made of.
    fn random(seeded: &mut Seeded) -> Self {
        let mut prefix = || {
            let len = [16, 24, 24, 24, 28, 32][seeded.below(6) as usize];
            ((seeded.number() >> 32) as u32 & u32::MAX << (32 - len), len as u8)
        };
        let (source, destination) = (prefix(), prefix());
        let port = [22, 53, 80, 123, 443, 3306, 5432, 8080][seeded.below(8) as usize];
        Self { source, destination, port, protocol: [6, 17][seeded.below(2) as usize] }
    }

    /// As ClassBench has it, and the peer reads it.
    fn line(&self) -> String {
        let net = |(address, len)| format!("{}/{len}", Ipv4Addr::from_bits(address));
        let Self { source, destination, port, protocol } = self;
        format!("@{} {} 0 : 65535 {port} : {port} {protocol:#x}/0xff", net(*source), net(*destination))
    }

    /// A packet that it matches.
    fn packet(&self, seeded: &mut Seeded) -> String {
        let mut under = |(address, len): (u32, u8)| {
            address | (seeded.number() as u32).checked_shr(u32::from(len)).unwrap_or(0)
        };
        let (source, destination) = (under(self.source), under(self.destination));
        format!("{source} {destination} {} {} {}", 1024 + seeded.below(60_000), self.port, self.protocol)
    }
}

/// Runs it: each set in turn, `rounds` times; fewer when the time is over, or `watch` says so.
///
/// # Errors
/// The peer is not there, or fails.
pub fn run(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    let mut report = Report { of_core_time: true, absent: Some(ABSENT.to_owned()), ..Report::new("acl") };
    let ghz = report.machine.ghz.context("this processor has no time stamp counter")?;
    let folder = Folder::make()?;
    let mut sets = Vec::new();
    for rules in RULES {
        let mut seeded = Seeded::new(11);
        let set: Vec<Rule> = (0..rules).map(|_| Rule::random(&mut seeded)).collect();
        let mut packet = || set[seeded.below(rules as u64) as usize].packet(&mut seeded);
        let packets: Vec<String> = (0..PACKETS).map(|_| packet()).collect();
        let files = [
            folder.write(&format!("rules-{rules}"), set.iter().map(Rule::line))?,
            folder.write(&format!("trace-{rules}"), packets.into_iter())?,
        ];
        sets.push((files, Rate { name: format!("{PROGRAM}, IPv4, {rules} rules"), samples: vec![] }));
    }
    let done = watch.rounds(rounds, budget, |round| {
        for (n, (files, rate)) in sets.iter_mut().enumerate() {
            let what = format!("round {} of {rounds}, {}", round + 1, rate.name);
            watch.step(round * RULES.len() + n, rounds * RULES.len(), &what);
            let clocks = measure(files, watch)?;
            rate.samples.push(ghz * 1e9 / clocks);
        }
        Ok(())
    })?;
    report.notes.extend(done.note);
    report.rates.extend(sets.into_iter().map(|(_, mut rate)| {
        rate.samples.truncate(done.done);
        rate
    }));
    report.notes.push(format!(
        "packets per second of the measured core, {PACKETS} packets, each of which a random rule matches, {BURST} at a \
         time, one category; rules: two prefixes of /16 to /32, a destination port, a protocol"
    ));
    Ok(report)
}

/// Clocks of a packet.
fn measure(files: &[String; 2], watch: &Watch) -> Result<f64> {
    let [rules, trace] = [("rulesf", &files[0]), ("tracef", &files[1])].map(|(o, f)| format!("--{o}={f}"));
    let (passes, burst) = (format!("--iter={PASSES}"), format!("--tracestep={BURST}"));
    let packets = format!("--tracenum={PACKETS}");
    let said = dpdk::run(PROGRAM, &[], &[&rules, &trace, &packets, &passes, &burst, "--verbose=0"], watch)?;
    let clocks = clocks(&said).with_context(|| format!("{PROGRAM} told no cost of a packet"))?;
    ensure!(clocks > 0.0, "{PROGRAM} classified nothing");
    Ok(clocks)
}

/// The cost of a packet in clocks, from what the peer printed.
fn clocks(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.starts_with("search_ip5tuples"))?;
    let before = line.split_once(" cycles/pkt")?.0;
    before.rsplit([' ', ',']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cost_of_a_packet_in_what_the_peer_printed() {
        let printed = "rte_acl_build(3) finished with 0\n  num_tries=1\nsearch_ip5tuples  @lcore 1: 100 iterations, \
                       409600 pkts, 1 categories, 22289618 cycles (0.01 sec), 54.42 cycles/pkt, 47778297.50 pkt/sec\n";
        assert_eq!(clocks(printed), Some(54.42));
        let older = "search_ip5tuples  @lcore 1: 1 iterations, 9 pkts, 1 categories, 99 cycles, 11.000000 cycles/pkt\n";
        assert_eq!(clocks(older), Some(11.0));
        assert_eq!(clocks("rte_acl_build(3) finished with -12\n"), None);
    }

    #[test]
    fn a_packet_of_a_rule_is_under_its_prefixes() {
        let mut seeded = Seeded::new(1);
        for _ in 0..1000 {
            let rule = Rule::random(&mut seeded);
            let packet = rule.packet(&mut seeded);
            let fields: Vec<u32> = packet.split(' ').map(|field| field.parse().unwrap()).collect();
            let within = |(prefix, len): (u32, u8), address: u32| (prefix ^ address) >> (32 - len) == 0;
            assert!(within(rule.source, fields[0]) && within(rule.destination, fields[1]), "{packet}");
            assert_eq!((fields[3], fields[4]), (rule.port.into(), rule.protocol.into()));
        }
        let rule = Rule { source: (10 << 24, 16), destination: (0xc000_0201, 32), port: 53, protocol: 17 };
        assert_eq!(rule.line(), "@10.0.0.0/16 192.0.2.1/32 0 : 65535 53 : 53 0x11/0xff");
    }
}
