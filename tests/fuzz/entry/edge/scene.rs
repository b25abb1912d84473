//! What is tried of the edge: configurations, packets to begin with, and what must hold of whatever leaves.

use super::{LAN, MTU, OWN, WAN};
use std::collections::BTreeSet;
use std::net::IpAddr;
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, ether_type};
use zsync_packet::verdict::PortId;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// VXLAN, GRE and IP in IP, both families, in and out.
    Tunnels,
    /// Virtual reassembly ahead of a filter.
    Fragments,
    /// Tracking and translation.
    Flows,
}

impl Scene {
    pub(crate) const ALL: [Self; 3] = [Self::Tunnels, Self::Fragments, Self::Flows];

    pub(super) fn config(self) -> String {
        let rest = match self {
            Self::Tunnels => {
                let stages: Vec<String> = (0..TUNNELS.len()).map(|n| format!("\"decap.t{n}\"")).collect();
                let tables: Vec<String> = TUNNELS
                    .iter()
                    .enumerate()
                    .map(|(n, (tunnel, v6, unknown))| {
                        let ends = if *v6 { ("2001:db8:113::1", "2001:db8:9::2") } else { ("203.0.113.1", "192.0.2.2") };
                        format!(
                            "[decap.t{n}]\ntunnel = {tunnel}\nlocal = \"{}\"\nremote = \"{}\"\nunknown = \"{unknown}\"\n",
                            ends.0, ends.1
                        )
                    })
                    .collect();
                format!(
                    "stages = [{}, \"filter.back\", \"route\"]\n{}\n[filter.back]\ndefault = \"accept\"\nrules = [{{ goto = \"back\", to = [\"10.1.9.0/24\", \"fd01:0:0:9::/64\"] }}]\n\
                     [pipeline.back]\ninput = [\"zone\"]\nstages = [\"encap.gre\", \"route\"]\n\
                     [encap.gre]\ntunnel = {{ gre = 7 }}\nlocal = \"203.0.113.1\"\nremote = \"192.0.2.2\"\n",
                    stages.join(", "),
                    tables.concat()
                )
            }
            Self::Fragments => "stages = [\"reassemble.r\", \"filter.f\", \"route\"]\n\
                [reassemble.r]\ndatagrams = 64\ntimeout = \"1s\"\n\
                [filter.f]\ndefault = \"drop\"\nrules = [{ accept = true, protocol = \"udp\", to-port = 53 }, { accept = true, protocol = [\"icmp\", \"icmpv6\"] }]\n"
                .to_owned(),
            Self::Flows => "stages = [\"track.t\", \"filter.f\", \"nat.n\", \"route\"]\n\
                [track.t]\ncapacity = 64\ntranslations = 64\nper-source = 40\nhalf-open = 20\n\
                [filter.f]\ndefault = \"drop\"\nrules = [{ accept = true, state = [\"established\", \"related\"] }, { accept = true, input = \"lan\" }, { accept = true, protocol = \"tcp\", to-port = 8080 }]\n\
                [nat.n]\nmasquerade = [{ output = \"wan\" }]\nforward = [{ port = \"tcp/8080\", target = \"10.1.0.80:80\" }]\nports = \"1024-2047\"\nblock = 64\n"
                .to_owned(),
        };
        format!(
            "[port.lan]\nnetdev = \"eth1\"\n[port.wan]\nnetdev = \"eth2\"\n[port.zone]\nnetdev = \"eth3\"\n[pipeline.edge]\ninput = [\"lan\", \"wan\"]\n{rest}"
        )
    }

    /// Packets to begin with: the port, and the words.
    pub(super) fn packets(self) -> &'static [(PortId, &'static str)] {
        match self {
            Self::Tunnels => &[
                (WAN, "udp 192.0.2.2:50000 -> 203.0.113.1:4789 size=120"),
                (WAN, "udp [2001:db8:9::2]:50000 -> [2001:db8:113::1]:4789 size=120"),
                (WAN, "47 192.0.2.2 -> 203.0.113.1 size=80"),
                (WAN, "47 2001:db8:9::2 -> 2001:db8:113::1 size=80"),
                (WAN, "4 192.0.2.2 -> 203.0.113.1 size=60"),
                (WAN, "41 192.0.2.2 -> 203.0.113.1 size=80"),
                (WAN, "4 2001:db8:9::2 -> 2001:db8:113::1 size=60"),
                (LAN, "udp 10.1.0.5:1 -> 10.1.9.7:2 size=1450 df"),
                (LAN, "tcp [fd01::5]:1 -> [fd01:0:0:9::7]:2 flags=psh,ack ecn=3"),
                (WAN, "47 192.0.2.2 -> 203.0.113.1 frag=0+ id=7"),
            ],
            Self::Fragments => &[
                (LAN, "udp 10.1.0.5:40000 -> 198.51.100.7:53 frag=0+ id=7 size=40"),
                (LAN, "udp 10.1.0.5 -> 198.51.100.7 frag=48+ id=7 size=48"),
                (LAN, "udp 10.1.0.5 -> 198.51.100.7 frag=96 id=7 size=20"),
                (LAN, "udp 10.1.0.5:40000 -> 198.51.100.7:99 frag=0+ id=8 size=40"),
                (LAN, "udp [fd01::5]:40000 -> [2001:db8::7]:53 frag=0+ id=7 size=40"),
                (LAN, "udp fd01::5 -> 2001:db8::7 frag=48+ id=7 size=48"),
                (LAN, "udp fd01::5 -> 2001:db8::7 frag=96 id=7 size=20"),
                (LAN, "udp [fd01::5]:40000 -> [2001:db8::7]:53 frag=0 id=7"),
                (LAN, "icmp 10.1.0.5 -> 198.51.100.7 frag=0+ id=9 size=1400"),
                (WAN, "udp 198.51.100.7:53 -> 10.1.0.5:40000"),
            ],
            Self::Flows => &[
                (LAN, "tcp 10.1.0.5:40000 -> 198.51.100.7:443 flags=syn seq=1000"),
                (LAN, "tcp 10.1.0.5:40000 -> 198.51.100.7:443 flags=ack seq=1001 ack=1"),
                (LAN, "udp 10.1.0.5:40000 -> 198.51.100.7:53"),
                (LAN, "icmp 10.1.0.5 -> 198.51.100.7"),
                (WAN, "tcp 198.51.100.9:40000 -> 203.0.113.1:8080 flags=syn seq=5"),
                (LAN, "tcp 10.1.0.5:40001 -> 203.0.113.1:8080 flags=syn seq=5"),
                (LAN, "tcp [fd01::5]:40000 -> [2001:db8::7]:443 flags=syn seq=1000"),
                (LAN, "icmp fd01::5 -> 2001:db8::7"),
                (
                    WAN,
                    "icmp 198.51.100.9 -> 203.0.113.1 type=3/4 about tcp 203.0.113.1:1024 -> 198.51.100.7:443 seq=1000",
                ),
                (LAN, "icmp 10.1.0.9 -> 198.51.100.7 type=11 about udp 198.51.100.7:53 -> 10.1.0.5:40000"),
                (LAN, "132 10.1.0.5 -> 198.51.100.7 size=40"),
                (LAN, "udp 10.1.0.5:40000 -> 198.51.100.7:53 frag=0+ id=5"),
            ],
        }
    }

    /// What must hold of a packet that leaves.
    pub(super) fn check(self, input: PortId, output: PortId, bytes: &[u8], firsts: &BTreeSet<Datagram>) {
        assert!(output == LAN || output == WAN, "no route leads to port {}", output.0);
        let frame = Ethernet::parse(bytes).expect("a frame leaves");
        let mtu = MTU[usize::from(output.0)] as usize;
        if let (Self::Fragments, Some((datagram, false))) = (self, datagram(frame.payload())) {
            assert!(
                firsts.contains(&datagram),
                "a fragment leaves whose first one has not come: {datagram:?}"
            );
        }
        match frame.ether_type() {
            ether_type::IPV4 => {
                let ip = Ipv4::parse(frame.payload()).expect("what leaves is whole");
                assert!(ip.verify_checksum().is_ok(), "a wrong header checksum leaves");
                assert!(usize::from(ip.total_len()) <= mtu, "longer than the port sends");
                if self == Self::Flows && (input, output) == (LAN, WAN) {
                    assert_eq!(ip.source(), OWN.0, "who is inside is seen outside");
                }
            }
            ether_type::IPV6 => {
                let ip = Ipv6::parse(frame.payload()).expect("what leaves is whole");
                assert!(usize::from(ip.payload_len()) + 40 <= mtu, "longer than the port sends");
            }
            other => panic!("{other:#06x} leaves"),
        }
    }
}

/// Source, destination, identification, and of IPv4 the protocol.
pub(super) type Datagram = (IpAddr, IpAddr, u32, u8);

/// Which datagram a packet is of, or a part of, and whether it has the beginning.
pub(super) fn datagram(packet: &[u8]) -> Option<(Datagram, bool)> {
    if let Ok(ip) = Ipv4::parse(packet) {
        let ends = (ip.source().into(), ip.destination().into());
        return Some(((ends.0, ends.1, ip.identification().into(), ip.protocol()), ip.begins_transport()));
    }
    let ip = Ipv6::parse(packet).ok()?;
    let upper = ip.upper().ok()?;
    let id = upper.identification().unwrap_or(0);
    Some(((ip.source().into(), ip.destination().into(), id, 0), upper.begins_transport()))
}

/// The tunnels that are opened: of which kind, whether over IPv6, and what becomes of what is none of its packets.
const TUNNELS: [(&str, bool, &str); 6] = [
    ("{ vxlan = 7 }", false, "pass"),
    ("{ vxlan = 7 }", true, "drop"),
    ("{ gre = 7 }", false, "pass"),
    ("\"gre\"", true, "drop"),
    ("\"ipip\"", false, "drop"),
    ("\"ipip\"", true, "pass"),
];
