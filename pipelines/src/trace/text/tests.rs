use super::*;
use crate::trace::describe::describe;
use proptest::prelude::*;
use zsync_packet::header::{Icmp, Icmpv6, Ipv4, Ipv6, Tcp};

const MAC: Mac = [2, 0, 0, 0, 0, 9];

fn frame(text: &str) -> Vec<u8> {
    PacketText::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).frame(MAC)
}

fn key(text: &str) -> String {
    let frame = frame(text);
    let frame = Ethernet::parse(&frame).unwrap();
    assert_eq!(frame.destination(), MAC);
    format!("{:?}", FlowKey::of(frame.payload()).unwrap())
}

#[test]
fn words_become_the_packet_that_they_say() {
    for (text, flow) in [
        ("tcp 10.1.0.5:40000 -> 10.2.0.1:443 flags=syn,ack", "protocol 6: 10.1.0.5:40000 -> 10.2.0.1:443"),
        (
            "udp [2001:db8::1]:53 -> [2001:db8::2]:5353 size=9",
            "protocol 17: [2001:db8::1]:53 -> [2001:db8::2]:5353",
        ),
        ("icmp 10.1.0.5 -> 10.2.0.1", "protocol 1: 10.1.0.5:1 -> 10.2.0.1:1"),
        ("icmp 10.1.0.5 -> 10.2.0.1 echo-id=77", "protocol 1: 10.1.0.5:77 -> 10.2.0.1:77"),
        ("icmp 2001:db8::1 -> 2001:db8::2", "protocol 58: [2001:db8::1]:1 -> [2001:db8::2]:1"),
        ("47 10.1.0.5 -> 10.2.0.1", "protocol 47: 10.1.0.5:0 -> 10.2.0.1:0"),
    ] {
        assert_eq!(key(text), flow);
    }
}

#[test]
fn headers_say_what_was_asked() {
    let bytes = frame(
        "tcp 10.0.0.1:1 -> 10.0.0.2:2 flags=fin,psh,ece seq=7 ack=4294967295 ttl=9 dscp=46 ecn=3 id=5 df size=10",
    );
    let ip = Ipv4::parse(Ethernet::parse(&bytes).unwrap().payload()).unwrap();
    assert!(ip.verify_checksum().is_ok() && ip.dont_fragment());
    assert_eq!((ip.ttl(), ip.dscp(), ip.ecn(), ip.identification()), (9, 46, 3, 5));
    let tcp = Tcp::parse(ip.payload()).unwrap();
    assert!(tcp.verify_checksum(ip.address_sum()).is_ok());
    assert_eq!((tcp.flags().0, tcp.sequence(), tcp.acknowledgement()), (0x49, 7, u32::MAX));
    assert_eq!(tcp.payload().len(), 10);

    let bytes = frame("udp 10.0.0.1:1 -> 10.0.0.2:2 vlan=802.1ad:100/3,7");
    let ethernet = Ethernet::parse(&bytes).unwrap();
    let outer = VlanTag { tci: 0x6064, ..VlanTag::provider(100) };
    assert_eq!((ethernet.outer_tag(), ethernet.inner_tag()), (Some(outer), Some(VlanTag::new(7))));
}

#[test]
fn fragments_of_both_families_have_their_place() {
    for (text, offset, more) in [
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 frag=0+ id=9 size=1001", 0, true),
        ("udp 10.0.0.1 -> 10.0.0.2 frag=1480+ id=9", 1480, true),
        ("17 10.0.0.1 -> 10.0.0.2 frag=65528 id=9 size=1", 65528, false),
    ] {
        let bytes = frame(text);
        let ip = Ipv4::parse(Ethernet::parse(&bytes).unwrap().payload()).unwrap();
        assert_eq!((ip.fragment_offset(), ip.more_fragments(), ip.identification()), (offset, more, 9));
        assert!(!more || ip.payload().len().is_multiple_of(8), "{text}");
    }
    let bytes = frame("tcp [fd00::1]:1 -> [fd00::2]:2 frag=0+ id=99999");
    let ip = Ipv6::parse(Ethernet::parse(&bytes).unwrap().payload()).unwrap();
    let upper = ip.upper().unwrap();
    assert!(upper.is_fragment() && upper.more_fragments() && upper.begins_transport());
    assert_eq!(upper.identification(), Some(99999));
}

#[test]
fn an_icmp_error_is_about_a_packet() {
    let bytes = frame("icmp 10.9.0.1 -> 10.1.0.5 type=3/4 about tcp 10.1.0.5:40000 -> 10.2.0.1:443 seq=7");
    let ip = Ipv4::parse(Ethernet::parse(&bytes).unwrap().payload()).unwrap();
    let icmp = Icmp::parse(ip.payload()).unwrap();
    assert!(icmp.verify_checksum().is_ok());
    let quoted = Ipv4::parse_quoted(icmp.quoted().unwrap()).unwrap();
    assert_eq!((icmp.kind(), icmp.code(), quoted.destination()), (3, 4, [10, 2, 0, 1].into()));
    let bytes = frame("icmp fd00::9 -> fd00::1 type=1 about udp [fd00::1]:4 -> [fd00::2]:53");
    let ip = Ipv6::parse(Ethernet::parse(&bytes).unwrap().payload()).unwrap();
    let icmp = Icmpv6::parse(ip.payload()).unwrap();
    assert!(icmp.verify_checksum(ip.address_sum()).is_ok() && icmp.is_error());
}

#[test]
fn what_is_wrong_is_shown_with_its_place_and_what_may_stand_there() {
    for (text, place, allowed) in [
        ("", "column 1, the end", "tcp, udp, icmp or the number of a protocol"),
        ("tcp", "column 4, the end", "the sender is missing"),
        ("tcp 10.1.0.5:40000 10.2.0.1:443", "column 20, `10.2.0.1:443`", "`->` belongs here"),
        ("tcp 10.1.0.5:40000 ->", "column 22, the end", "the receiver is missing"),
        ("tcp 10.1.0.5 -> 10.2.0.1:443", "column 5, `10.1.0.5`", "tcp needs a port, as in `10.1.0.5:443`"),
        ("tcp [fd00::1]:1 -> fd00::2", "column 20, `fd00::2`", "as in `[fd00::2]:443`"),
        ("icmp 10.1.0.5:1 -> 10.2.0.1:2", "column 6, `10.1.0.5:1`", "icmp has no ports"),
        ("udp 10.0.0.1:1 -> [::1]:2", "column 19, `[::1]:2`", "an IPv4 address as the sender's"),
        ("tpc 10.0.0.1:1 -> 10.0.0.2:2", "column 1, `tpc`", "0 to 255"),
        ("0 fd00::1 -> fd00::2", "column 1, `0`", "an extension header"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:65536", "column 19, `10.0.0.2:65536`", "a port from 0 to 65535"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 ttl=256", "column 34, `256`", "ttl is a number from 0 to 255"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 ttl=+6", "column 34, `+6`", "ttl is a number from 0 to 255"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 ttl=", "column 30, `ttl=`", "ttl is a number"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 ttl=1 ttl=2", "column 36, `ttl=2`", "`ttl` is said twice"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 colour=red", "column 30, `colour=red`", "in, flags, seq, ack, ttl"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 flags=syn", "column 30, `flags=syn`", "flags is for tcp"),
        ("tcp 10.0.0.1:1 -> 10.0.0.2:2 flags=syn,sin", "column 40, `sin`", "fin, syn, rst, psh"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 vlan=7,4095", "column 37, `4095`", "from 0 to 4094"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 vlan=1,2,3", "column 30, `vlan=1,2,3`", "at most 2 tags"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 frag=7", "column 35, `7`", "a multiple of 8"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 frag=8", "column 5, `10.0.0.1:1`", "a later fragment has no ports"),
        ("udp [fd00::1]:1 -> [fd00::2]:2 df", "column 32, `df`", "df is for IPv4"),
        ("icmp 10.0.0.1 -> 10.0.0.2 type=256", "column 32, `256`", "type is a number from 0 to 255"),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 about udp", "column 30, `about`", "only an ICMP error"),
        (
            "icmp 10.0.0.1 -> 10.0.0.2 type=3/1 about udp 10.0.0.2:1 -> 10.0.0.3:2 about x",
            "column 71, `about`",
            "only an ICMP error",
        ),
        (
            "icmp 10.0.0.1 -> 10.0.0.2 type=3/1 about udp 10.0.0.2:x -> 10.0.0.3:2",
            "column 46, `10.0.0.2:x`",
            "an address is expected",
        ),
        (
            "icmp 10.0.0.1 -> 10.0.0.2 type=13 about udp 10.0.0.2:1 -> 10.0.0.3:2",
            "column 35, `about`",
            "the type of a whole error",
        ),
        ("udp 10.0.0.1:1 -> 10.0.0.2:2 ü=ö", "column 30, `ü=ö`", "is expected"),
    ] {
        let error = PacketText::parse(text).unwrap_err();
        assert!(error.starts_with(&format!("--packet, {place}: ")), "{text}: {error}");
        assert!(error.contains(allowed) && error.contains("write it like"), "{text}: {error}");
    }
    // The place is marked, below the text.
    let error = PacketText::parse("udp  10.0.0.1:1 -> 10.0.0.2:2 ttl=256").unwrap_err();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[1], "    udp  10.0.0.1:1 -> 10.0.0.2:2 ttl=256");
    assert_eq!(lines[2].trim_end(), format!("{}^^^", " ".repeat(4 + 34)));
}

#[test]
fn a_segment_goes_on_where_its_connection_is() {
    let mut text = PacketText::parse("tcp 10.0.0.1:1 -> 10.0.0.2:2").unwrap();
    assert!(text.continues().is_some());
    assert_eq!(text.continue_with(7, 9).as_deref(), Some("flags=ack seq=7 ack=9: as its flow goes on"));
    assert_eq!(text, PacketText::parse("tcp 10.0.0.1:1 -> 10.0.0.2:2 flags=ack seq=7 ack=9").unwrap());
    assert_eq!(text.continue_with(1, 2), None);
    for other in [
        "tcp 10.0.0.1:1 -> 10.0.0.2:2 flags=syn",
        "tcp 10.0.0.1:1 -> 10.0.0.2:2 flags=rst,ack",
        "udp 10.0.0.1:1 -> 10.0.0.2:2",
        "tcp 10.0.0.1:1 -> 10.0.0.2:2 frag=0+",
    ] {
        assert_eq!(PacketText::parse(other).unwrap().continues(), None, "{other}");
    }
}

#[test]
fn a_frame_is_described_in_the_words_that_it_came_of() {
    for text in [
        "tcp 10.1.0.5:40000 -> 10.2.0.1:443 flags=syn",
        "tcp [fd00::1]:1 -> [fd00::2]:2 flags=psh,ack seq=5 ack=6 ttl=1 dscp=10 size=100",
        "udp 10.1.0.5:1 -> 10.2.0.1:2 df vlan=802.1ad:7,9/5",
        "udp 10.1.0.5 -> 10.2.0.1 frag=8+ id=3",
        "icmp 10.1.0.5 -> 10.2.0.1 type=0/0 echo-id=4",
        "icmp fd00::1 -> fd00::2",
        "icmp 10.9.0.1 -> 10.1.0.5 type=11/0 about udp 10.1.0.5:9 -> 10.2.0.1:53 ttl=1",
        "132 fd00::1 -> fd00::2 size=64",
    ] {
        assert_eq!(describe(&frame(text)), text);
    }
    assert!(describe(&[0; 3]).starts_with("3 bytes that are no frame: "));
}

/// Texts of packets that can be said.
fn texts() -> impl Strategy<Value = String> {
    let kind = prop_oneof![Just("tcp"), Just("udp"), Just("icmp"), Just("47"), Just("132")];
    let fragment = prop::option::of((0u16..8192, any::<bool>()));
    let tags = prop::collection::vec((any::<bool>(), 0u16..4095, 0u8..8), 0..3);
    let rest = (any::<u32>(), any::<u32>(), 0u8..64, 0u8..4, any::<u8>(), 0usize..LONGEST);
    let about = any::<bool>();
    (kind, any::<bool>(), any::<[u16; 4]>(), fragment, tags, rest, any::<u8>(), about).prop_map(
        |(kind, v6, [a, b, from, to], fragment, tags, (id, seq, dscp, ecn, ttl, size), flags, about)| {
            let later = fragment.is_some_and(|(offset, _)| offset > 0);
            let ports = matches!(kind, "tcp" | "udp") && !later;
            let end = |host: u16, port: u16| match (v6, ports) {
                (false, true) => format!("10.0.{}.{}:{port}", host >> 8, host & 0xff),
                (false, false) => format!("10.0.{}.{}", host >> 8, host & 0xff),
                (true, true) => format!("[fd00::{host:x}]:{port}"),
                (true, false) => format!("fd00::{host:x}"),
            };
            let mut text = format!("{kind} {} -> {}", end(a, from), end(b, to));
            if kind == "tcp" && !later {
                text += &format!(" flags={} seq={seq} ack={id}", words::flags(TcpFlags(flags)));
            }
            text += &format!(" ttl={ttl} dscp={dscp} ecn={ecn}");
            if let Some((offset, more)) = fragment {
                text += &format!(" frag={}{}", offset * 8, if more { "+" } else { "" });
                text += &format!(" id={}", if v6 { id } else { id & 0xffff });
            }
            if !tags.is_empty() {
                let tags: Vec<String> = tags
                    .iter()
                    .map(|(provider, id, priority)| {
                        format!("{}{id}/{priority}", if *provider { "802.1ad:" } else { "" })
                    })
                    .collect();
                text += &format!(" vlan={}", tags.join(","));
            }
            if kind == "icmp" && about && fragment.is_none() {
                text += if v6 { " type=1/0 about " } else { " type=3/1 about " };
                return text
                    + if v6 { "udp [fd00::1]:1 -> [fd00::2]:2" } else { "udp 10.0.0.1:1 -> 10.0.0.2:2" };
            }
            text + &format!(" size={size}")
        },
    )
}

proptest! {
    #[test]
    fn what_a_frame_is_described_as_is_the_same_frame(text in texts()) {
        let frame = frame(&text);
        let said = describe(&frame);
        let again = PacketText::parse(&said).map_err(|error| TestCaseError::fail(format!("{text}: {said}: {error}")))?;
        prop_assert_eq!(again.frame(MAC), frame, "{}: {}", text, said);
    }

    #[test]
    fn any_bytes_are_described(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!describe(&bytes).is_empty());
    }
}
