//! Rule sets of the shapes that ClassBench (Taylor and Turner, INFOCOM 2005) describes, and packets that aim at them.
//!
//! Not ClassBench's own output: its seed files are statistics of real lists that may not be passed on. What makes a kind hard
//! is kept: how specific the addresses are on each side, how prefixes nest, which ports are exact, ranges or any, how many
//! rules say nothing of a field. Everything follows from the seed.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zsync_pipelines::spec::Prefix;
use zsync_pipelines::tables::classify::{Addresses, Ports, Rule, States, Subject};

/// xorshift64*, so that every run has the same rules.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn wide(&mut self) -> u128 {
        (0..4).fold(0, |bits, _| (bits << 32) | u128::from(self.next() as u32))
    }

    /// One of several, by shares.
    pub fn pick<T: Copy>(&mut self, shares: &[(T, u64)]) -> T {
        let mut left = self.below(shares.iter().map(|(_, share)| share).sum());
        for (value, share) in shares {
            if left < *share {
                return *value;
            }
            left -= share;
        }
        shares[0].0
    }
}

/// A kind of list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Access lists: exact destinations, sources of all lengths, few port ranges.
    Acl,
    /// Firewalls: half of the addresses are any, many port ranges.
    Firewall,
    /// Chains of a host's filter: both addresses of middling length, all port classes.
    Chain,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Acl, Self::Firewall, Self::Chain];

    pub fn name(self) -> &'static str {
        match self {
            Self::Acl => "acl",
            Self::Firewall => "fw",
            Self::Chain => "ipc",
        }
    }
}

/// Lengths out of 32; four times as much, and 16 more at least, for IPv6.
type Lengths = &'static [(u8, u64)];

const ACL_FROM: Lengths =
    &[(0, 12), (8, 4), (16, 14), (20, 8), (21, 6), (22, 8), (23, 8), (24, 24), (27, 6), (32, 10)];
const ACL_TO: Lengths = &[(0, 1), (16, 2), (20, 3), (23, 5), (24, 14), (26, 6), (28, 10), (30, 9), (32, 50)];
const WALL_FROM: Lengths = &[(0, 45), (8, 2), (16, 10), (18, 2), (24, 16), (28, 2), (32, 23)];
const WALL_TO: Lengths = &[(0, 35), (8, 2), (16, 8), (20, 3), (24, 14), (29, 4), (32, 34)];
const CHAIN_FROM: Lengths = &[(0, 16), (8, 8), (14, 3), (16, 18), (20, 6), (24, 22), (28, 5), (32, 22)];
const CHAIN_TO: Lengths = &[(0, 14), (8, 6), (16, 18), (22, 5), (24, 24), (27, 5), (32, 28)];

/// ClassBench's port classes: any, above 1023, up to 1023, some range, one port.
#[derive(Clone, Copy, Debug)]
enum PortClass {
    Any,
    High,
    Low,
    Range,
    Exact,
}
use PortClass::{Any, Exact, High, Low, Range};

const SERVICES: [u16; 24] = [
    80, 443, 22, 25, 53, 110, 143, 993, 123, 161, 389, 445, 139, 1433, 1521, 3306, 3389, 5060, 8080, 8443,
    21, 23, 69, 514,
];

/// Addresses under a few roots, so that prefixes nest and share their beginnings.
struct Pool {
    networks: Vec<u128>,
}

impl Pool {
    fn new(count: usize, v6: bool, numbers: &mut Numbers) -> Self {
        let roots: Vec<u128> = (0..24)
            .map(|_| {
                if v6 {
                    (0x2 << 124) | (numbers.wide() >> 4 & !(u128::MAX >> 32))
                } else {
                    u128::from(numbers.below(223 << 8) + (1 << 8)) << 112
                }
            })
            .collect();
        let networks = (0..count.max(1)).map(|_| {
            let root = roots[numbers.below(24) as usize];
            let (first, bits) = if v6 { (64, 16) } else { (104, 8) };
            root | u128::from(numbers.below(1 << bits)) << first
        });
        Self { networks: networks.collect() }
    }

    /// A prefix, its address on top of 128 bits.
    fn prefix(&self, len: u8, v6: bool, numbers: &mut Numbers) -> Prefix {
        let network = self.networks[numbers.below(self.networks.len() as u64) as usize];
        let inside = if v6 { 64 } else { 104 };
        let bits = network | (numbers.wide() & ((1 << inside) - 1));
        prefix(bits, if v6 && len > 0 { 16 + (len - 1) / 2 * 7 } else { len }, v6)
    }
}

/// The prefix of these bits, cut to its length.
pub fn prefix(bits: u128, len: u8, v6: bool) -> Prefix {
    let bits = bits & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
    Prefix::new(address(bits, v6), len).expect("no bits behind the length")
}

fn address(bits: u128, v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits((bits >> 96) as u32).into() }
}

fn ports(class: PortClass, numbers: &mut Numbers) -> Vec<Ports> {
    let (first, last) = match class {
        Any => return Vec::new(),
        High => (1024, u16::MAX),
        Low => (0, 1023),
        Range => {
            let (a, b) =
                (numbers.below(65_536) as u16, numbers.pick(&[(10u16, 4), (100, 3), (1000, 2), (30_000, 1)]));
            (a, a.saturating_add(numbers.below(b.into()) as u16))
        }
        Exact => {
            let port = if numbers.below(3) > 0 {
                SERVICES[numbers.below(24) as usize]
            } else {
                numbers.below(65_536) as u16
            };
            (port, port)
        }
    };
    vec![Ports { first, last }]
}

/// `count` rules of a kind; the last one is met by everything. `v6`: of IPv6, else of IPv4.
pub fn rules(kind: Kind, count: usize, v6: bool, seed: u64) -> Vec<Rule> {
    let mut numbers = Numbers::new(seed);
    let (from_lengths, to_lengths) = match kind {
        Kind::Acl => (ACL_FROM, ACL_TO),
        Kind::Firewall => (WALL_FROM, WALL_TO),
        Kind::Chain => (CHAIN_FROM, CHAIN_TO),
    };
    let from_classes: &[(PortClass, u64)] = match kind {
        Kind::Acl => &[(Any, 100)],
        Kind::Firewall => &[(Any, 72), (High, 18), (Exact, 8), (Range, 2)],
        Kind::Chain => &[(Any, 74), (High, 8), (Exact, 14), (Range, 4)],
    };
    let to_classes: &[(PortClass, u64)] = match kind {
        Kind::Acl => &[(Any, 18), (High, 3), (Low, 1), (Range, 10), (Exact, 68)],
        Kind::Firewall => &[(Any, 24), (High, 18), (Low, 3), (Range, 12), (Exact, 43)],
        Kind::Chain => &[(Any, 40), (High, 6), (Low, 2), (Range, 12), (Exact, 40)],
    };
    let protocols: &[(Option<u8>, u64)] = match kind {
        Kind::Acl => &[(Some(6), 72), (Some(17), 16), (Some(1), 6), (None, 6)],
        Kind::Firewall => &[(Some(6), 55), (Some(17), 26), (Some(1), 5), (Some(47), 3), (None, 11)],
        Kind::Chain => &[(Some(6), 52), (Some(17), 28), (Some(1), 6), (Some(50), 2), (None, 12)],
    };
    let sources = Pool::new(count / 12, v6, &mut numbers);
    let destinations = Pool::new(count / 20, v6, &mut numbers);
    let (mut rules, mut seen) = (Vec::with_capacity(count), HashSet::new());
    while rules.len() + 1 < count {
        let (from, to) = (numbers.pick(from_lengths), numbers.pick(to_lengths));
        let protocol = numbers.pick(protocols);
        let has_ports = matches!(protocol, Some(6 | 17));
        let mut rule = Rule { v4: !v6, v6, ..Rule::default() };
        if from > 0 {
            rule.from = Addresses::In(vec![sources.prefix(from, v6, &mut numbers)]);
        }
        if to > 0 {
            rule.to = Addresses::In(vec![destinations.prefix(to, v6, &mut numbers)]);
        }
        rule.protocols.extend(protocol.map(|protocol| if v6 && protocol == 1 { 58 } else { protocol }));
        if has_ports {
            (rule.from_ports, rule.to_ports) = (
                ports(numbers.pick(from_classes), &mut numbers),
                ports(numbers.pick(to_classes), &mut numbers),
            );
        }
        // As ClassBench does: none twice.
        if rule != (Rule { v4: !v6, v6, ..Rule::default() }) && seen.insert(format!("{rule:?}")) {
            rules.push(rule);
        }
    }
    rules.push(Rule::default());
    rules
}

/// `count` packets, each of which meets a rule drawn from all of them, at some point of it.
pub fn packets(rules: &[Rule], count: usize, v6: bool, seed: u64) -> Vec<Subject> {
    let mut numbers = Numbers::new(seed);
    (0..count).map(|_| aim(&rules[numbers.below(rules.len() as u64) as usize], v6, &mut numbers)).collect()
}

/// A packet that meets the rule, or, where that asks for what is not drawn here (sets, VLANs), comes near it.
pub fn aim(rule: &Rule, v6: bool, numbers: &mut Numbers) -> Subject {
    let inside = |addresses: &Addresses, numbers: &mut Numbers| {
        let random = if v6 { (0x2 << 124) | numbers.wide() >> 4 } else { numbers.wide() };
        let Addresses::In(list) = addresses else { return address(random, v6) };
        let list: Vec<&Prefix> = list.iter().filter(|prefix| prefix.addr().is_ipv6() == v6).collect();
        let Some(prefix) = list.get(numbers.below(list.len() as u64) as usize) else {
            return address(random, v6);
        };
        let free = u128::MAX.checked_shr(prefix.len().into()).unwrap_or(0);
        // The edges of a prefix are where mistakes are.
        let low = match numbers.below(4) {
            0 => 0,
            1 => free,
            _ => numbers.wide() & free,
        };
        match prefix.addr() {
            IpAddr::V4(first) => address(u128::from(first.to_bits()) << 96 | low, false),
            IpAddr::V6(first) => address(first.to_bits() | low, true),
        }
    };
    let port = |ranges: &[Ports], numbers: &mut Numbers| match ranges
        .get(numbers.below(ranges.len() as u64) as usize)
    {
        None => numbers.below(65_536) as u16,
        Some(range) => match numbers.below(4) {
            0 => range.first,
            1 => range.last,
            _ => range.first + numbers.below(u64::from(range.last - range.first) + 1) as u16,
        },
    };
    let (source, destination) = (inside(&rule.from, numbers), inside(&rule.to, numbers));
    let any = [6, 17, 6, 17, 6, if v6 { 58 } else { 1 }, 47, 132];
    let protocol = match rule.protocols.get(numbers.below(rule.protocols.len() as u64) as usize) {
        Some(protocol) => *protocol,
        None if rule.icmp.is_some() => any[5],
        None if rule.from_ports.is_empty() && rule.to_ports.is_empty() => any[numbers.below(8) as usize],
        None => any[numbers.below(2) as usize],
    };
    let ports = (port(&rule.from_ports, numbers), port(&rule.to_ports, numbers));
    let has_ports = matches!(protocol, 6 | 17 | 33 | 132 | 136);
    let code = numbers.below(3) as u8;
    let (kind, code) =
        rule.icmp.map_or((numbers.below(10) as u8, code), |(kind, asked)| (kind, asked.unwrap_or(code)));
    let states: Vec<_> = STATES.into_iter().filter(|state| rule.states.contains(*state)).collect();
    Subject {
        source,
        destination,
        protocol,
        ports: has_ports.then_some(ports),
        icmp: (protocol == any[5]).then_some((kind, code)),
        tcp_flags: if protocol == 6 {
            (numbers.next() as u8 & !rule.tcp_flags.mask) | rule.tcp_flags.value
        } else {
            0
        },
        dscp: rule.dscp.first().copied().unwrap_or(0),
        vlan: None,
        mark: rule.mark.value,
        fragment: if rule.fragments == 0 { 0 } else { rule.fragments.trailing_zeros() as u8 },
        state: if rule.states == States::ALL {
            STATES[0]
        } else {
            states.first().copied().unwrap_or_default()
        },
        input: rule.inputs.first().copied().unwrap_or(0),
    }
}

pub const STATES: [zsync_pipelines::tables::classify::State; 5] = {
    use zsync_pipelines::tables::classify::State::{Established, Invalid, New, Related, Untracked};
    [Untracked, New, Established, Related, Invalid]
};
