//! What a flow key says of each kind of packet, and how its hash spreads.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::checksum::Sum;
use crate::header::build::{self, Ipv4Spec, Ipv6Spec};
use crate::header::{icmp, icmpv6};

const A4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

fn v4(protocol: u8, payload: &[u8]) -> FlowKey {
    FlowKey::of(&Ipv4Spec::new(A4, B4, protocol).packet(payload)).unwrap()
}

fn v6(next_header: u8, payload: &[u8]) -> Result<FlowKey, HeaderError> {
    FlowKey::of(&Ipv6Spec::new(A6, B6, next_header).packet(payload))
}

#[test]
fn transports_have_ports() {
    let payload = [0x0f, 0xa0, 0x00, 0x35];
    for number in [protocol::TCP, protocol::UDP, protocol::SCTP, protocol::DCCP, protocol::UDP_LITE] {
        assert_eq!(v4(number, &payload), FlowKey::v4((A4, 4000), (B4, 53), number));
        assert_eq!(v6(number, &payload), Ok(FlowKey::v6((A6, 4000), (B6, 53), number)));
        assert_eq!(v4(number, &payload[..3]), FlowKey::v4((A4, 0), (B4, 0), number));
    }
    assert_eq!(v4(protocol::ESP, &payload), FlowKey::v4((A4, 0), (B4, 0), protocol::ESP));
    let behind = [&build::extension(protocol::UDP, 0)[..], &payload].concat();
    assert_eq!(v6(protocol::DESTINATION_OPTIONS, &behind), Ok(FlowKey::v6((A6, 4000), (B6, 53), 17)));
}

#[test]
fn an_echo_and_its_reply_are_one_flow() {
    let request = v4(protocol::ICMP, &build::icmp(icmp::ECHO_REQUEST, 0, [0x12, 0x34, 0, 1], &[]));
    let reply = build::icmp(icmp::ECHO_REPLY, 0, [0x12, 0x34, 0, 1], &[]);
    let reply = FlowKey::of(&Ipv4Spec::new(B4, A4, protocol::ICMP).packet(&reply)).unwrap();
    assert_eq!((request.source_port(), request.reversed()), (0x1234, reply));

    let request = build::icmpv6(Sum::ZERO, icmpv6::ECHO_REQUEST, 0, [0x12, 0x34, 0, 1], &[]);
    let reply = build::icmpv6(Sum::ZERO, icmpv6::ECHO_REPLY, 0, [0x12, 0x34, 0, 1], &[]);
    let reply = FlowKey::of(&Ipv6Spec::new(B6, A6, protocol::ICMPV6).packet(&reply));
    assert_eq!(v6(protocol::ICMPV6, &request).map(|key| key.reversed()), reply);

    let error = build::icmp(icmp::TIME_EXCEEDED, 0, [0x12, 0x34, 0, 1], &[]);
    assert_eq!(v4(protocol::ICMP, &error), FlowKey::v4((A4, 0), (B4, 0), protocol::ICMP));
    // The other family's number is no echo.
    assert_eq!(v4(protocol::ICMPV6, &request).source_port(), 0);
}

#[test]
fn the_fragments_of_a_datagram_are_one_flow() {
    let datagram = build::udp(Sum::ZERO, 4000, 53, &[0; 40]);
    let expected = FlowKey::v4((A4, 0), (B4, 0), protocol::UDP);
    for (offset, more) in [(0u16, true), (16, true), (32, false)] {
        let spec = Ipv4Spec {
            fragment_offset: offset,
            more_fragments: more,
            ..Ipv4Spec::new(A4, B4, protocol::UDP)
        };
        assert_eq!(FlowKey::of(&spec.packet(&datagram[usize::from(offset)..])), Ok(expected));
    }

    // The first fragment shows UDP behind options, the later ones only that options come first.
    let whole = [&build::extension(protocol::UDP, 0)[..], &datagram].concat();
    let expected = FlowKey::v6((A6, 0), (B6, 0), protocol::DESTINATION_OPTIONS);
    for (offset, more) in [(0u16, true), (16, true), (32, false)] {
        let header = build::fragment(protocol::DESTINATION_OPTIONS, offset, more, 1);
        let payload = [&header[..], &whole[usize::from(offset)..]].concat();
        assert_eq!(v6(protocol::FRAGMENT, &payload), Ok(expected));
    }
    let atomic = [&build::fragment(protocol::UDP, 0, false, 1)[..], &datagram].concat();
    assert_eq!(v6(protocol::FRAGMENT, &atomic), Ok(FlowKey::v6((A6, 4000), (B6, 53), protocol::UDP)));
}

#[test]
fn a_mapped_address_does_not_pass_for_ipv4() {
    let mapped = |address: Ipv4Addr| address.to_ipv6_mapped();
    let real = FlowKey::v4((A4, 1), (B4, 2), protocol::UDP);
    let fake = FlowKey::v6((mapped(A4), 1), (mapped(B4), 2), protocol::UDP);
    assert_ne!(real, fake);
    let key = HashKey::from_seed(1);
    assert_ne!(real.hash(&key), fake.hash(&key));
    assert_eq!((real.source(), fake.source()), (IpAddr::V4(A4), IpAddr::V6(mapped(A4))));
    assert_eq!(format!("{real:?}"), "protocol 17: 192.0.2.1:1 -> 198.51.100.2:2");
}

#[test]
fn refusals() {
    assert_eq!(FlowKey::of(&[]), Err(HeaderError::Truncated));
    assert_eq!(FlowKey::of(&[0x50; 40]), Err(HeaderError::BadVersion));
    assert_eq!(v6(protocol::HOP_BY_HOP, &[]), Err(HeaderError::Truncated));
}

/// Flows as attackers and networks make them, one field counting up, must fill buckets as chance would, whichever
/// bits of the hash a table takes.
#[test]
fn counting_flows_spread_evenly() {
    const BUCKETS: usize = 1024;
    const FLOWS: u32 = 64 * 1024;
    type Make = fn(u32) -> FlowKey;
    let makes: [(&str, Make); 5] = [
        ("source v4", |i| FlowKey::v4((Ipv4Addr::from_bits(0x0a00_0000 + i), 1024), (B4, 53), 17)),
        ("source port", |i| FlowKey::v4((A4, i as u16), (B4, 53), 17)),
        ("destination port", |i| FlowKey::v4((A4, 53), (B4, i as u16), 6)),
        ("destination v6, low", |i| {
            FlowKey::v6((A6, 1), (Ipv6Addr::from_bits(B6.to_bits() + u128::from(i)), 2), 6)
        }),
        ("source v6, high", |i| {
            FlowKey::v6((Ipv6Addr::from_bits(A6.to_bits() + (u128::from(i) << 64)), 1), (B6, 2), 6)
        }),
    ];
    for (name, make) in makes {
        for seed in 0..4 {
            let key = HashKey::from_seed(seed);
            for shift in [0, 17, 54] {
                let mut counts = [0f64; BUCKETS];
                for i in 0..FLOWS {
                    counts[(make(i).hash(&key) >> shift) as usize % BUCKETS] += 1.0;
                }
                let mean = f64::from(FLOWS) / BUCKETS as f64;
                let chi2: f64 = counts.iter().map(|n| (n - mean).powi(2) / mean).sum();
                // 1023 degrees of freedom: mean 1023, standard deviation 45; six of them.
                assert!((750.0..1300.0).contains(&chi2), "{name}, seed {seed}, shift {shift}: chi² {chi2}");
            }
        }
    }
}

#[test]
fn different_keys_give_different_hashes() {
    let flow = FlowKey::v4((A4, 1), (B4, 2), protocol::UDP);
    let hashes: HashSet<u64> = (0..1000).map(|seed| flow.hash(&HashKey::from_seed(seed))).collect();
    assert_eq!(hashes.len(), 1000);
    assert_eq!(format!("{:?}", HashKey::from_seed(1)), "HashKey(..)");
    let bytes: Vec<u8> = HashKey::from_seed(7).0.iter().flat_map(|w| w.to_le_bytes()).collect();
    let same = HashKey::from_bytes(&bytes.try_into().unwrap());
    assert_eq!(flow.hash(&same), flow.hash(&HashKey::from_seed(7)));
}

proptest! {
    #[test]
    fn reversing_twice_is_nothing(a: [u8; 16], b: [u8; 16], ports: (u16, u16), number: u8) {
        let flow = FlowKey::v6((a.into(), ports.0), (b.into(), ports.1), number);
        prop_assert_eq!(flow.reversed().reversed(), flow);
        prop_assert_eq!(flow.reversed(), FlowKey::v6((b.into(), ports.1), (a.into(), ports.0), number));
        let key = HashKey::from_seed(3);
        prop_assert_eq!(flow.hash(&key), flow.reversed().reversed().hash(&key));
        prop_assert!(flow == flow.reversed() || flow.hash(&key) != flow.reversed().hash(&key));
    }

    /// One flipped bit of the flow flips about half the bits of the hash.
    #[test]
    fn one_bit_changes_many(bit in 0u32..128, seed: u64) {
        let key = HashKey::from_seed(seed);
        let flow = FlowKey::v6((A6, 1), (B6, 2), 6);
        let other = FlowKey::v6((Ipv6Addr::from_bits(A6.to_bits() ^ 1 << bit), 1), (B6, 2), 6);
        let flipped = (flow.hash(&key) ^ other.hash(&key)).count_ones();
        prop_assert!((8..=56).contains(&flipped), "{} bits", flipped);
    }
}
