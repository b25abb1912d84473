//! One policy, and its two spellings: the rules of nftables, and a configuration of zsync.
//!
//! Owns the rules as plain values. Both spellings are made of the same values, so that what they say can differ in how it is
//! meant only. Not among what a rule can ask for: fragments, since the kernel puts datagrams together before its filter sees
//! them; marks and VLANs, which come in by other ways than the packet's bytes.

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Accept,
    Drop,
    Reject,
}

/// One rule; what is empty is not asked for.
#[derive(Clone, Copy)]
pub struct Rule {
    pub action: Action,
    /// `lan` or `wan`.
    pub input: &'static str,
    pub state: &'static [&'static str],
    /// Of both families, which are then asked for apart.
    pub from: &'static [&'static str],
    pub to: &'static [&'static str],
    pub protocol: &'static [&'static str],
    pub from_port: &'static [(u16, u16)],
    pub to_port: &'static [(u16, u16)],
    /// Type and code, in the family whose ICMP `protocol` is.
    pub icmp: Option<(u8, Option<u8>)>,
    /// TCP's control bits: value and mask.
    pub flags: Option<(u8, u8)>,
    pub dscp: &'static [u8],
}

const ANY: Rule = Rule {
    action: Action::Accept,
    input: "",
    state: &[],
    from: &[],
    to: &[],
    protocol: &[],
    from_port: &[],
    to_port: &[],
    icmp: None,
    flags: None,
    dscp: &[],
};

/// A SYN, and no ACK, FIN or RST.
const OPENS: Option<(u8, u8)> = Some((0x02, 0x17));
/// UDP to this port is let through: what tells that all before it has been dealt with.
pub const BEACON: u16 = 9;

/// The rules, in order. What none of them decides about is dropped.
pub const RULES: &[Rule] = &[
    Rule { protocol: &["udp"], to_port: &[(BEACON, BEACON)], ..ANY },
    Rule { action: Action::Drop, state: &["invalid"], ..ANY },
    Rule { state: &["established", "related"], ..ANY },
    Rule { action: Action::Drop, from: &["10.10.66.0/24", "fd10:0:0:66::/64"], ..ANY },
    Rule { action: Action::Drop, to: &["10.20.3.0/25", "fd20:0:0:3::/65"], dscp: &[8, 10], ..ANY },
    Rule { action: Action::Reject, protocol: &["tcp"], to_port: &[(113, 113)], ..ANY },
    Rule {
        input: "lan",
        protocol: &["tcp"],
        to_port: &[(22, 22), (80, 80), (443, 443), (8000, 8099)],
        flags: OPENS,
        state: &["new"],
        ..ANY
    },
    // Connections that are picked up in their midst.
    Rule { protocol: &["tcp"], to_port: &[(9000, 9010)], flags: Some((0x10, 0x17)), ..ANY },
    Rule { input: "lan", protocol: &["udp"], to_port: &[(53, 53), (123, 123), (5000, 5999)], ..ANY },
    Rule { input: "lan", protocol: &["icmp"], icmp: Some((8, Some(0))), ..ANY },
    Rule { input: "lan", protocol: &["icmpv6"], icmp: Some((128, None)), ..ANY },
    Rule { protocol: &["icmp"], icmp: Some((13, None)), ..ANY },
    Rule {
        input: "wan",
        to: &["10.10.1.0/24", "fd10:0:0:1::/64"],
        protocol: &["tcp", "udp"],
        from_port: &[(1024, 65535)],
        to_port: &[(443, 443)],
        state: &["new"],
        ..ANY
    },
    Rule { action: Action::Reject, protocol: &["udp"], to_port: &[(33434, 33534)], ..ANY },
    Rule { action: Action::Drop, protocol: &["udp"], dscp: &[46], ..ANY },
    Rule { input: "lan", protocol: &["gre", "esp", "sctp"], ..ANY },
    Rule { protocol: &["udp"], from_port: &[(4000, 4099)], ..ANY },
    Rule { action: Action::Reject, input: "lan", ..ANY },
];

/// The policy as nftables has it.
pub fn nftables() -> String {
    let mut text =
        "table inet edge {\n chain forward {\n  type filter hook forward priority 0; policy drop;\n"
            .to_owned();
    for rule in RULES {
        for family in [4, 6] {
            if let Some(asked) = rule.nftables(family) {
                for end in rule.endings() {
                    text += &format!("  {asked}{end}\n");
                }
            }
        }
    }
    text + " }\n}\n"
}

/// The policy as zsync has it.
pub fn toml() -> String {
    let mut text = "[port.lan]\nnetdev = \"eth1\"\n[port.wan]\nnetdev = \"eth2\"\n\
        [pipeline.edge]\ninput = [\"lan\", \"wan\"]\nstages = [\"track.all\", \"filter.policy\", \"route\"]\n\
        [track.all]\ndrop-invalid = false\n[filter.policy]\ndefault = \"drop\"\nrules = [\n"
        .to_owned();
    for rule in RULES {
        for family in [4, 6] {
            text += &rule.toml(family).map_or(String::new(), |rule| format!("  {{ {rule} }},\n"));
        }
    }
    text + "]\n"
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

impl Rule {
    /// The prefixes of that family. `None` when there are some, but of the other alone.
    fn of(prefixes: &[&'static str], family: u8) -> Option<Vec<&'static str>> {
        let of: Vec<_> =
            prefixes.iter().copied().filter(|prefix| prefix.contains(':') == (family == 6)).collect();
        (of.is_empty() == prefixes.is_empty()).then_some(of)
    }

    /// Whether it asks for the ICMP of the other family.
    fn is_others(&self, family: u8) -> bool {
        self.protocol == [if family == 4 { "icmpv6" } else { "icmp" }]
    }

    fn nftables(&self, family: u8) -> Option<String> {
        let (from, to) = (Self::of(self.from, family)?, Self::of(self.to, family)?);
        if self.is_others(family) {
            return None;
        }
        let ip = if family == 4 { "ip" } else { "ip6" };
        let mut text = format!("meta nfproto ipv{family} ");
        let mut add = |what: String, values: String| {
            if !values.is_empty() {
                text += &format!("{what} {{ {values} }} ");
            }
        };
        let ranges =
            |ranges: &[(u16, u16)]| joined(ranges.iter().map(|(first, last)| format!("{first}-{last}")));
        let device = match self.input {
            "" => "",
            "lan" => "eth1",
            _ => "eth2",
        };
        add("iifname".into(), device.into());
        add("ct state".into(), self.state.join(", "));
        add(format!("{ip} saddr"), from.join(", "));
        add(format!("{ip} daddr"), to.join(", "));
        add(format!("{ip} dscp"), joined(self.dscp.iter().map(u8::to_string)));
        add("meta l4proto".into(), self.protocol.join(", "));
        add("th sport".into(), ranges(self.from_port));
        add("th dport".into(), ranges(self.to_port));
        if let Some((kind, code)) = self.icmp {
            let icmp = if family == 4 { "icmp" } else { "icmpv6" };
            add(format!("{icmp} type"), kind.to_string());
            add(format!("{icmp} code"), code.map_or(String::new(), |code| code.to_string()));
        }
        if let Some((value, mask)) = self.flags {
            text += &format!("tcp flags & {mask:#x} == {value:#x} ");
        }
        Some(text)
    }

    /// What ends the rule; a rejection is told in the words of the packet's protocol.
    fn endings(&self) -> &'static [&'static str] {
        match self.action {
            Action::Accept => &["accept"],
            Action::Drop => &["drop"],
            Action::Reject => &[
                "meta l4proto tcp reject with tcp reset",
                "meta l4proto { udp, udplite } reject with icmpx port-unreachable",
                "reject with icmpx admin-prohibited",
            ],
        }
    }

    fn toml(&self, family: u8) -> Option<String> {
        let (from, to) = (Self::of(self.from, family)?, Self::of(self.to, family)?);
        if self.is_others(family) {
            return None;
        }
        let action = match self.action {
            Action::Accept => "accept",
            Action::Drop => "drop",
            Action::Reject => "reject",
        };
        let mut text = format!("{action} = true, family = \"ipv{family}\"");
        let mut add = |key: &str, values: String| {
            if !values.is_empty() {
                text += &format!(", {key} = [{values}]");
            }
        };
        let quoted = |words: &[&str]| joined(words.iter().map(|word| format!("\"{word}\"")));
        let ranges =
            |ranges: &[(u16, u16)]| joined(ranges.iter().map(|(first, last)| format!("\"{first}..{last}\"")));
        add("from", quoted(&from));
        add("to", quoted(&to));
        add("state", quoted(self.state));
        add("protocol", quoted(self.protocol));
        add("from-port", ranges(self.from_port));
        add("to-port", ranges(self.to_port));
        add("dscp", joined(self.dscp.iter().map(u8::to_string)));
        if !self.input.is_empty() {
            add("input", quoted(&[self.input]));
        }
        if let Some((kind, code)) = self.icmp {
            let code = code.map_or(String::new(), |code| format!("/{code}"));
            text += &format!(", icmp = \"{kind}{code}\"");
        }
        if let Some((value, mask)) = self.flags {
            let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
            let asked = names.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
            let asked =
                asked.map(|(bit, name)| format!("{}{name}", if value >> bit & 1 == 1 { "" } else { "!" }));
            text += &format!(", flags = \"{}\"", asked.collect::<Vec<_>>().join(","));
        }
        Some(text)
    }
}
