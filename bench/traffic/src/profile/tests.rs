use zsync_packet::header::{TcpFlags, VlanTag};

use super::*;
use crate::stream::{Class, classify};
use crate::template::{Field, Transport, Tunnel};

fn errors(text: &str) -> Vec<String> {
    text.parse::<Profile>().unwrap_err().0.into_iter().map(|error| error.key).collect()
}

#[test]
fn nothing_said_is_a_small_udp_stream() {
    let profile: Profile = "".parse().unwrap();
    assert_eq!((profile.rate, profile.shape, profile.content.flows), (1000, Shape::Constant, 1));
    let mut packet = [0; 60];
    Stream::new(&profile.content, profile.seed).unwrap().write(0, 0, &mut packet).unwrap();
    assert_eq!(packet[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    assert_eq!((&packet[26..34], &packet[34..38]), (&[198, 18, 0, 1, 198, 19, 0, 1][..], &[4, 0, 0, 9][..]));
}

#[test]
fn everything_can_be_said() {
    let text = "src-mac=02:00:00:00:00:aa vlan=100..199 inner-vlan=7 # two tags\n src=2001:db8::1+1x10 dst=2001:db8::ff
        ttl=3 dscp=46 flow-label=random:1..0xfffff proto=tcp sport=1,2,3 dport=443 flags=syn,ack
        tunnel=vxlan outer-src=10.0.0.1 outer-dst=10.0.0.2 outer-ttl=9 outer-dscp=1 outer-sport=5 vni=77
        size=imix flows=3000 choice=zipf:1.1 rate=2M shape=burst:32 run=9 seed=4 dst-mac=02:00:00:00:00:bb";
    assert_eq!(errors(text), [""]);
    let profile: Profile = text.replace("imix", "200..1518").parse().unwrap();
    assert_eq!((profile.rate, profile.seed, profile.content.run), (2_000_000, 4, 9));
    assert_eq!(profile.shape, Shape::Burst { packets: 32, peak: None });
    let fields: Vec<Field> = profile.content.sweeps.iter().map(|(field, _)| *field).collect();
    assert_eq!(fields, [Field::Vlan, Field::Source, Field::FlowLabel, Field::SourcePort]);
    assert_eq!(profile.content.sweeps[0].1, Values::Step { start: 100, step: 1, count: 100 });
    assert_eq!(profile.content.sweeps[2].1, Values::Random(1, 0xfffff));
    assert_eq!(profile.content.sweeps[3].1, Values::List(vec![1, 2, 3]));
    let layers = &profile.content.layers;
    assert_eq!(layers.tags, [VlanTag::provider(100), VlanTag::new(7)]);
    assert_eq!((layers.ip.ttl, layers.ip.dscp, layers.source[5], layers.destination[5]), (3, 46, 0xaa, 0xbb));
    let flags = TcpFlags::SYN.union(TcpFlags::ACK);
    assert_eq!(layers.transport, Transport::Tcp { source: 1, destination: 443, flags });
    let (outer, tunnel) = layers.tunnel.unwrap();
    assert_eq!(tunnel, Tunnel::Vxlan { vni: 77, source_port: 5 });
    assert_eq!((outer.ttl, outer.dscp, outer.source), (9, 1, [10, 0, 0, 1].into()));
    let mut packet = [0; 1514];
    let len = Stream::new(&profile.content, 4).unwrap().write(0, 0, &mut packet).unwrap();
    assert!(matches!(classify(&packet[..len], 0), Class::Probe(_)));
}

#[test]
fn random_addresses_of_both_families_are_read() {
    for (text, v6) in [
        ("dst=random:10.0.0.0..10.255.255.255", false),
        ("src=2001:db8::1 dst=random:2001:db8::..2001:db8::ffff", true),
        ("src=random:2001:db8::..2001:db8::ffff dst=2001:db8::1 size=84", true),
    ] {
        let profile = format!("size=128 {text}").replace("size=128 src=random", "src=random");
        assert_eq!(profile.parse::<Profile>().unwrap().content.layers.ip.source.is_ipv6(), v6, "{text}");
    }
}

#[test]
fn all_errors_are_told_at_once_with_what_was_expected() {
    let text =
        "size=63 rate=fast flows=x choice=some shape=odd nonsense word=1 vlan=a src=::1 size=64 proto=sctp";
    let told = text.parse::<Profile>().unwrap_err();
    let mut keys: Vec<&str> = told.0.iter().map(|error| error.key.as_str()).collect();
    keys.sort_unstable();
    let expected =
        ["choice", "dst", "flows", "nonsense", "proto", "rate", "shape", "size", "size", "vlan", "word"];
    assert_eq!(keys, expected);
    assert_eq!(told.to_string().lines().count(), 11);
    assert!(told.to_string().contains("proto: `sctp` is no protocol: expected udp, tcp or icmp"));
}

#[test]
fn what_does_not_go_together_is_refused() {
    assert_eq!(errors("inner-vlan=5"), ["inner-vlan"]);
    assert_eq!(errors("tunnel=gre"), ["outer-src", "outer-dst"]);
    assert_eq!(errors("flags=syn"), ["flags"]);
    assert_eq!(errors("src=::1 dst=::2 udp-checksum=off size=100"), ["udp-checksum"]);
    assert_eq!(errors("src=10.0.0.1 dst=::2"), ["dst"]);
    assert_eq!(errors("vni=4"), [""]);
    assert_eq!(errors("vlan=4096"), [""]);
    assert_eq!(errors("dscp=64"), [""]);
    assert_eq!(errors("flows=2"), [""]);
    assert_eq!(errors("rate=201M"), ["rate, shape"]);
    assert_eq!(errors("proto=tcp size=64"), [""]);
    assert_eq!(errors("sport=5..4"), ["sport"]);
}
