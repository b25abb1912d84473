//! `acl`: what classification costs with 100, 1,000 and 10,000 rules, ours beside DPDK's packet classifier.
//!
//! Both get the same rules and the same packets, whose five fields are read already, 64 at a time, all of them several times
//! over. Keeps true: a packet that meets no rule is an error, not a figure.

use crate::dpdk;
use crate::folder::Folder;
use crate::machine::measured_core;
use crate::report::{Rate, Report};
use crate::traffic::Seeded;
use crate::tsc;
use crate::watch::Watch;
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use zsync_pipelines::spec::Prefix;
use zsync_pipelines::tables::classify::key::Key;
use zsync_pipelines::tables::classify::{self, Classifier, Keys, State, Subject};

/// The peer.
pub const PROGRAM: &str = "dpdk-test-acl";
/// Rules of the sets.
pub const RULES: [usize; 3] = [100, 1_000, 10_000];
/// Packets of a trace, and how often it is gone through.
const PACKETS: usize = 1 << 16;
const PASSES: usize = 16;
/// Packets classified by a call.
const BURST: usize = 64;

/// A rule of five fields.
pub(crate) struct Rule {
    source: (u32, u8),
    destination: (u32, u8),
    port: u16,
    protocol: u8,
}

/// A packet's five fields.
pub(crate) struct Aim {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) protocol: u8,
}

impl Rule {
    /// Any prefixes of /16 to /32, one service: what rule sets of firewalls are mostly made of.
    pub(crate) fn random(seeded: &mut Seeded) -> Self {
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
        let Self { source, destination, port, protocol } = self;
        format!("@{} {} 0 : 65535 {port} : {port} {protocol:#x}/0xff", net(*source), net(*destination))
    }

    /// As our configuration has it; without spaces, as 100,000 of them must fit into a file.
    pub(crate) fn setting(&self) -> String {
        let Self { source, destination, port, protocol } = self;
        let (from, to) = (net(*source), net(*destination));
        let protocol = if *protocol == 6 { "tcp" } else { "udp" };
        format!("{{accept=true,from=\"{from}\",to=\"{to}\",to-port={port},protocol=\"{protocol}\"}}")
    }

    /// As our classifier takes it.
    fn compiled(&self) -> Result<classify::Rule> {
        let prefix =
            |(address, len)| Prefix::new(Ipv4Addr::from_bits(address).into(), len).context("a prefix");
        let addresses = |net| Ok::<_, anyhow::Error>(classify::Addresses::In(vec![prefix(net)?]));
        Ok(classify::Rule {
            from: addresses(self.source)?,
            to: addresses(self.destination)?,
            to_ports: vec![classify::Ports { first: self.port, last: self.port }],
            protocols: vec![self.protocol],
            ..classify::Rule::default()
        })
    }

    /// A packet that it matches.
    pub(crate) fn aim(&self, seeded: &mut Seeded) -> Aim {
        let mut under = |(address, len): (u32, u8)| {
            Ipv4Addr::from_bits(address | (seeded.number() as u32).checked_shr(u32::from(len)).unwrap_or(0))
        };
        let (source, destination) = (under(self.source), under(self.destination));
        Aim {
            source: (source, 1024 + seeded.below(60_000) as u16).into(),
            destination: (destination, self.port).into(),
            protocol: self.protocol,
        }
    }
}

impl Aim {
    /// As the peer reads it.
    fn line(&self) -> String {
        let address = |end: SocketAddr| if let IpAddr::V4(v4) = end.ip() { v4.to_bits() } else { 0 };
        let Self { source, destination, protocol } = self;
        format!(
            "{} {} {} {} {protocol}",
            address(*source),
            address(*destination),
            source.port(),
            destination.port()
        )
    }

    fn subject(&self) -> Subject {
        Subject {
            source: self.source.ip(),
            destination: self.destination.ip(),
            protocol: self.protocol,
            ports: Some((self.source.port(), self.destination.port())),
            icmp: None,
            tcp_flags: 0,
            dscp: 0,
            vlan: None,
            mark: 0,
            fragment: 0,
            state: State::Untracked,
            input: 0,
        }
    }
}

fn net((address, len): (u32, u8)) -> String {
    format!("{}/{len}", Ipv4Addr::from_bits(address))
}

/// A set of rules, its packets, and what was measured with them.
struct Set {
    files: [String; 2],
    classifier: Classifier,
    keys: Vec<Key>,
    ours: Rate,
    theirs: Rate,
}

/// Runs it: each set in turn, `rounds` times; fewer when the time is over, or `watch` says so.
///
/// # Errors
/// A pass that cannot be measured. A peer that is not there is a note in the report.
pub fn run(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    let mut report = Report { of_core_time: true, ..Report::new("acl") };
    let ghz = report.machine.ghz.context("this processor has no time stamp counter")?;
    let folder = Folder::make()?;
    let mut peer = dpdk::is_installed(PROGRAM);
    if !peer {
        report
            .notes
            .push(format!("no {PROGRAM} beside it: `zsync-bench peers --install` (package dpdk-dev)"));
    }
    let mut sets = RULES.iter().map(|&rules| Set::make(rules, &folder)).collect::<Result<Vec<_>>>()?;
    let done = watch.rounds(rounds, budget, |round| {
        for (n, set) in sets.iter_mut().enumerate() {
            let step = |turn, name: &str| {
                let what = format!("round {} of {rounds}, {name}", round + 1);
                watch.step((round * RULES.len() + n) * 2 + turn, rounds * RULES.len() * 2, &what);
            };
            step(0, &set.ours.name);
            set.ours.samples.push(ghz * 1e9 / set.measure()?);
            if !peer {
                continue;
            }
            step(1, &set.theirs.name);
            match measure(&set.files, watch) {
                Ok(clocks) => set.theirs.samples.push(ghz * 1e9 / clocks),
                Err(error) if watch.is_cancelled() => return Err(error),
                Err(error) => {
                    report.notes.push(format!("no {PROGRAM}: {error:#}"));
                    peer = false;
                }
            }
        }
        Ok(())
    })?;
    report.notes.extend(done.note);
    for Set { mut ours, mut theirs, .. } in sets {
        ours.samples.truncate(done.done);
        theirs.samples.truncate(done.done);
        if theirs.samples.is_empty() {
            report.rates.push(ours);
        } else {
            report.compare(ours, theirs);
        }
    }
    report.notes.push(format!(
        "packets per second of the measured core, {PACKETS} packets, each of which a random rule matches, {PASSES} times over, \
         {BURST} at a time, one category; rules: two prefixes of /16 to /32, a destination port, a protocol"
    ));
    Ok(report)
}

impl Set {
    fn make(rules: usize, folder: &Folder) -> Result<Self> {
        let mut seeded = Seeded::new(11);
        let set: Vec<Rule> = (0..rules).map(|_| Rule::random(&mut seeded)).collect();
        let mut aim = |_| set[seeded.below(rules as u64) as usize].aim(&mut seeded);
        let aims: Vec<Aim> = (0..PACKETS).map(&mut aim).collect();
        let files = [
            folder.write(&format!("rules-{rules}"), set.iter().map(Rule::line))?,
            folder.write(&format!("trace-{rules}"), aims.iter().map(Aim::line))?,
        ];
        let compiled: Vec<classify::Rule> = set.iter().map(Rule::compiled).collect::<Result<_>>()?;
        let classifier = Classifier::compile(&compiled, &[])?;
        let rate = |who: &str| Rate { name: format!("{who}, IPv4, {rules} rules"), samples: vec![] };
        let keys = aims.iter().map(|aim| aim.subject().key()).collect();
        Ok(Self { files, classifier, keys, ours: rate("zsync"), theirs: rate(PROGRAM) })
    }

    /// Clocks of one of our packets.
    fn measure(&self) -> Result<f64> {
        let pinned = || -> Result<f64> {
            let core = core_affinity::CoreId { id: measured_core() };
            ensure!(core_affinity::set_for_current(core), "cannot be pinned to core {}", measured_core());
            let (mut keys, mut found) = (Keys::default(), [0; BURST]);
            let numbers: [u8; BURST] = std::array::from_fn(|i| i as u8);
            let mut unmatched = 0;
            let begin = tsc::ordered();
            for _ in 0..PASSES {
                for burst in self.keys.as_chunks::<BURST>().0 {
                    keys.0.copy_from_slice(burst);
                    self.classifier.look_up_sets(&mut keys, &numbers, &[]);
                    self.classifier.classify(&keys, &numbers, &[], &mut found);
                    unmatched += found.iter().filter(|&&found| found == u32::MAX).count();
                }
            }
            let clocks = tsc::ordered().wrapping_sub(begin);
            ensure!(unmatched == 0, "{unmatched} packets meet no rule");
            Ok(clocks as f64 / (PASSES * PACKETS) as f64)
        };
        std::thread::scope(|scope| {
            scope.spawn(pinned).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
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
            let packet = rule.aim(&mut seeded).line();
            let fields: Vec<u32> = packet.split(' ').map(|field| field.parse().unwrap()).collect();
            let within = |(prefix, len): (u32, u8), address: u32| (prefix ^ address) >> (32 - len) == 0;
            assert!(within(rule.source, fields[0]) && within(rule.destination, fields[1]), "{packet}");
            assert_eq!((fields[3], fields[4]), (rule.port.into(), rule.protocol.into()));
        }
        let rule = Rule { source: (10 << 24, 16), destination: (0xc000_0201, 32), port: 53, protocol: 17 };
        assert_eq!(rule.line(), "@10.0.0.0/16 192.0.2.1/32 0 : 65535 53 : 53 0x11/0xff");
    }
}
