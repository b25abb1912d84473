use zsync_packet::header::{TcpFlags, VlanTag};

use super::*;

fn v4() -> Ip {
    Ip::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
}

fn v6() -> Ip {
    Ip::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap())
}

fn layers(ip: Ip, transport: Transport) -> Layers {
    Layers { source: [2; 6], destination: [4; 6], tags: vec![], tunnel: None, ip, transport }
}

const UDP: Transport = Transport::Udp { source: 1, destination: 2, checksum: true };

#[test]
fn the_smallest_packets_hold_their_headers_and_sizes_below_are_refused_with_the_least() {
    let tcp = Transport::Tcp { source: 1, destination: 2, flags: TcpFlags::SYN };
    let vxlan = Tunnel::Vxlan { vni: 1, source_port: 1 };
    let cases = [
        (layers(v4(), UDP), 64, 42),
        (layers(v4(), tcp), 76, 54),
        (layers(v6(), UDP), 84, 62),
        (Layers { tags: vec![VlanTag::provider(1), VlanTag::new(2)], ..layers(v6(), tcp) }, 104, 82),
        (Layers { tunnel: Some((v4(), vxlan)), ..layers(v4(), UDP) }, 114, 92),
        (Layers { tunnel: Some((v6(), Tunnel::Gre { key: Some(9) })), ..layers(v4(), UDP) }, 112, 90),
        (Layers { tunnel: Some((v6(), Tunnel::IpIp)), ..layers(v6(), UDP) }, 124, 102),
    ];
    for (layers, least, headers) in cases {
        let template = Template::new(&layers).unwrap();
        assert_eq!(template.header_len(), headers);
        assert!(headers <= MOST_HEADERS);
        assert_eq!(template.check_size(least, 18), Ok(()));
        let error = TemplateError::Short { size: least - 1, least };
        assert_eq!(template.check_size(least - 1, 18), Err(error));
        assert!(!template.emit(&mut vec![0; headers - 1], &mut Checks::default()));
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let mut mixed = v4();
    mixed.destination = v6().destination;
    let refused = |layers: Layers| Template::new(&layers).unwrap_err();
    assert!(matches!(refused(layers(mixed, UDP)), TemplateError::Families(..)));
    assert!(matches!(refused(layers(Ip { dscp: 64, ..v4() }, UDP)), TemplateError::Bits { most: 63, .. }));
    let label = Ip { flow_label: 1 << 20, ..v6() };
    assert!(matches!(refused(layers(label, UDP)), TemplateError::Bits { most: 0xfffff, .. }));
    let three = Layers { tags: vec![VlanTag::new(1); 3], ..layers(v4(), UDP) };
    assert_eq!(refused(three), TemplateError::Tags(3));
    let vxlan = Tunnel::Vxlan { vni: 1 << 24, source_port: 1 };
    let wide = Layers { tunnel: Some((v4(), vxlan)), ..layers(v4(), UDP) };
    assert!(matches!(refused(wide), TemplateError::Bits { field: "VNI", .. }));
}

#[test]
fn places_name_the_fields_bytes() {
    let tunnel = Some((v6(), Tunnel::Vxlan { vni: 0xabcdef, source_port: 0x1234 }));
    let ip = Ip { dscp: 0x2e, ttl: 9, ..v4() };
    let layers = Layers { tags: vec![VlanTag::new(0x765)], tunnel, ..layers(ip, UDP) };
    let template = Template::new(&layers).unwrap();
    let value = |field| {
        let place = template.place(field)?;
        let window = &template.image()[place.offset..place.offset + place.width];
        let word = window.iter().fold(0u128, |word, byte| word << 8 | u128::from(*byte));
        Some(word >> place.shift & u128::MAX >> (128 - place.bits))
    };
    for (field, expected) in [
        (Field::SourceMac, Some(0x0202_0202_0202)),
        (Field::DestinationMac, Some(0x0404_0404_0404)),
        (Field::Vlan, Some(0x765)),
        (Field::InnerVlan, None),
        (Field::OuterSource, Some(0x2001_0db8 << 96 | 1)),
        (Field::OuterDestination, Some(0x2001_0db8 << 96 | 2)),
        (Field::OuterTtl, Some(64)),
        (Field::OuterDscp, Some(0)),
        (Field::OuterSourcePort, Some(0x1234)),
        (Field::Vni, Some(0xabcdef)),
        (Field::GreKey, None),
        (Field::Source, Some(0x0a00_0001)),
        (Field::Destination, Some(0x0a00_0002)),
        (Field::Ttl, Some(9)),
        (Field::Dscp, Some(0x2e)),
        (Field::FlowLabel, None),
        (Field::SourcePort, Some(1)),
        (Field::DestinationPort, Some(2)),
        (Field::EchoId, None),
    ] {
        assert_eq!(value(field), expected, "{field:?}");
    }
}
