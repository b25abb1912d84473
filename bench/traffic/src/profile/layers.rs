//! The headers of a profile.

use core::net::Ipv4Addr;

use zsync_packet::header::{TcpFlags, VlanTag};

use super::pairs::Pairs;
use super::swept::Swept;
use crate::template::{Field, Layers, Transport, Tunnel};

fn flags(text: &str) -> Result<TcpFlags, String> {
    text.split(',').try_fold(TcpFlags(0), |flags, name| {
        let flag = match name {
            "fin" => TcpFlags::FIN,
            "syn" => TcpFlags::SYN,
            "rst" => TcpFlags::RST,
            "psh" => TcpFlags::PSH,
            "ack" => TcpFlags::ACK,
            "urg" => TcpFlags::URG,
            "ece" => TcpFlags::ECE,
            "cwr" => TcpFlags::CWR,
            _ => {
                return Err(format!(
                    "`{name}` is no flag: expected fin syn rst psh ack urg ece cwr, with commas"
                ));
            }
        };
        Ok(flags.union(flag))
    })
}

/// The headers that the text says; what does not go together is noted as wrong.
pub(super) fn layers(pairs: &mut Pairs<'_>, swept: &Swept) -> Layers {
    let outermost = |id| if swept.has(Field::InnerVlan) { VlanTag::provider(id) } else { VlanTag::new(id) };
    let mut tags = Vec::new();
    if swept.has(Field::Vlan) {
        tags.push(outermost(swept.first(Field::Vlan, 0u16) & 0xfff));
    }
    if swept.has(Field::InnerVlan) {
        tags.push(VlanTag::new(swept.first(Field::InnerVlan, 0u16) & 0xfff));
        if !swept.has(Field::Vlan) {
            pairs.wrong("inner-vlan", "a tag within none: vlan must be given too");
        }
    }
    let defaults = [Ipv4Addr::new(198, 18, 0, 1).into(), Ipv4Addr::new(198, 19, 0, 1).into()];
    let fields = [Field::Source, Field::Destination, Field::Ttl, Field::Dscp];
    let mut ip = swept.ip(fields, pairs.text("src").or(pairs.text("dst")), defaults);
    if ip.source.is_ipv6() {
        for (field, key) in [(Field::Source, "src"), (Field::Destination, "dst")] {
            if !swept.has(field) && pairs.text(key).is_none() {
                pairs.wrong(key, "IPv6 needs both src and dst");
            }
        }
        ip.flow_label = swept.first(Field::FlowLabel, 0u32) & 0x000f_ffff;
    }
    let (source, destination) =
        (swept.first(Field::SourcePort, 1024), swept.first(Field::DestinationPort, 9));
    let flags = pairs.value("flags", TcpFlags::ACK, flags);
    let checksum = pairs.value("udp-checksum", true, |text| match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{text}`: expected on or off")),
    });
    let transport =
        pairs.value("proto", Transport::Udp { source, destination, checksum }, |text| match text {
            "udp" => Ok(Transport::Udp { source, destination, checksum }),
            "tcp" => Ok(Transport::Tcp { source, destination, flags }),
            "icmp" => Ok(Transport::Echo { id: swept.first(Field::EchoId, 1) }),
            _ => Err(format!("`{text}` is no protocol: expected udp, tcp or icmp")),
        });
    for (key, fits) in [
        ("flags", matches!(transport, Transport::Tcp { .. })),
        ("udp-checksum", matches!(transport, Transport::Udp { .. })),
    ] {
        if pairs.text(key).is_some() && !fits {
            pairs.wrong(key, "not of this proto");
        }
    }
    if !checksum && ip.source.is_ipv6() {
        pairs.wrong("udp-checksum", "UDP over IPv6 must have one (RFC 8200 §8.1)");
    }
    let tunnel = pairs.value("tunnel", None, |text| match text {
        "vxlan" => {
            let (vni, source_port) =
                (swept.first(Field::Vni, 1u32), swept.first(Field::OuterSourcePort, 49152));
            Ok(Some(Tunnel::Vxlan { vni: vni & 0x00ff_ffff, source_port }))
        }
        "gre" => {
            Ok(Some(Tunnel::Gre { key: swept.has(Field::GreKey).then(|| swept.first(Field::GreKey, 0)) }))
        }
        "ipip" => Ok(Some(Tunnel::IpIp)),
        _ => Err(format!("`{text}` is no tunnel: expected vxlan, gre or ipip")),
    });
    let tunnel = tunnel.map(|tunnel| {
        for key in ["outer-src", "outer-dst"] {
            if pairs.text(key).is_none() {
                pairs.wrong(key, "a tunnel needs both outer-src and outer-dst");
            }
        }
        let fields = [Field::OuterSource, Field::OuterDestination, Field::OuterTtl, Field::OuterDscp];
        (swept.ip(fields, pairs.text("outer-src").or(pairs.text("outer-dst")), defaults), tunnel)
    });
    Layers {
        source: swept.mac(Field::SourceMac, 0x0200_0000_0001),
        destination: swept.mac(Field::DestinationMac, 0x0200_0000_0002),
        tags,
        tunnel,
        ip,
        transport,
    }
}
