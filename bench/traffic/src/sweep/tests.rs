use proptest::prelude::*;
use zsync_packet::checksum::Sum;
use zsync_packet::header::VlanTag;

use super::*;
use crate::template::{Ip, Layers, Transport};

fn template(v6: bool) -> Template {
    let ip = if v6 {
        Ip::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap())
    } else {
        Ip::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
    };
    let transport = Transport::Udp { source: 1, destination: 2, checksum: true };
    let layers = Layers {
        source: [2; 6],
        destination: [4; 6],
        tags: vec![VlanTag::new(7)],
        tunnel: None,
        ip,
        transport,
    };
    Template::new(&layers).unwrap()
}

#[test]
fn sweeps_turn_as_the_wheels_of_a_counter() {
    let template = template(false);
    let ports = Values::Step { start: 1000, step: 10, count: 3 };
    let ports = Sweep::new(&template, Field::SourcePort, ports, 0).unwrap();
    let hosts = Sweep::new(&template, Field::Source, Values::List(vec![7, 0x0a00_0001]), 0).unwrap();
    let mut seen = Vec::new();
    for flow in 0..7 {
        let (mut packet, mut checks, mut wheel) = (vec![0; 60], Checks::default(), flow);
        assert!(template.emit(&mut packet, &mut checks));
        ports.write(flow, &mut wheel, &mut packet, &mut checks);
        hosts.write(flow, &mut wheel, &mut packet, &mut checks);
        seen.push((packet[33], u16::from_be_bytes([packet[38], packet[39]])));
    }
    assert_eq!(seen, [(7, 1000), (7, 1010), (7, 1020), (1, 1000), (1, 1010), (1, 1020), (7, 1000)]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let template = template(false);
    let new = |field, values| Sweep::new(&template, field, values, 0).map(drop);
    assert_eq!(new(Field::FlowLabel, Values::Fixed(1)), Err(SweepError::Missing(Field::FlowLabel)));
    let step = Values::Step { start: 65_000, step: 100, count: 7 };
    let error = SweepError::TooLarge { field: Field::SourcePort, bits: 16, value: 65_600 };
    assert_eq!(new(Field::SourcePort, step), Err(error));
    assert_eq!(new(Field::SourcePort, Values::Step { start: 65_000, step: 100, count: 6 }), Ok(()));
    assert_eq!(new(Field::Dscp, Values::List(vec![])), Err(SweepError::Empty(Field::Dscp)));
    assert_eq!(new(Field::Dscp, Values::Random(5, 4)), Err(SweepError::Empty(Field::Dscp)));
    assert!(new(Field::Dscp, Values::Step { start: 1, step: u128::MAX, count: 9 }).is_err());
    let v6 = self::template(true);
    let wide = Values::Random(0, 1 << 64);
    assert_eq!(Sweep::new(&v6, Field::Source, wide, 0).unwrap_err(), SweepError::Wide(Field::Source));
    assert!(Sweep::new(&v6, Field::Source, Values::Random(1, 1 << 64), 0).is_ok());
}

#[test]
fn random_values_stay_in_range_reach_its_ends_and_are_the_flows_own() {
    let template = template(false);
    let sweep = Sweep::new(&template, Field::Ttl, Values::Random(3, 6), 8).unwrap();
    let values: Vec<u128> = (0..200).map(|flow| sweep.value(flow, 0)).collect();
    assert!((3..=6).all(|value| values.contains(&value)) && values.iter().all(|v| (3..=6).contains(v)));
    assert_eq!(values, (0..200).map(|flow| sweep.value(flow, 0)).collect::<Vec<_>>());
}

proptest! {
    /// RFC 1624 against RFC 1071: the checksums that were carried along are those of a full computation.
    #[test]
    fn checksums_carried_along_are_those_computed_anew(
        v6 in any::<bool>(), seed in any::<u64>(), flow in any::<u32>(), len in 62usize..200,
    ) {
        let template = template(v6);
        let mut packet = vec![0; len.max(template.header_len())];
        let (mut checks, mut wheel) = (Checks::default(), flow);
        prop_assert!(template.emit(&mut packet, &mut checks));
        for field in template.fields() {
            let place = template.place(field).unwrap();
            let most = if place.bits >= 64 { u128::from(u64::MAX) } else { (1 << place.bits) - 1 };
            let sweep = Sweep::new(&template, field, Values::Random(0, most), seed).unwrap();
            let before = packet.clone();
            sweep.write(flow, &mut wheel, &mut packet, &mut checks);
            // Nothing outside of the field's bits changes.
            let (mut mask, mut word) = (0u128, 0);
            for at in place.offset..place.offset + place.width {
                word = word << 8 | u128::from(packet[at]);
                mask = mask << 8 | u128::from(packet[at] ^ before[at]);
            }
            let limit = u128::MAX >> (128 - place.bits) << place.shift;
            prop_assert_eq!(mask & !limit, 0);
            prop_assert_eq!((word & limit) >> place.shift, sweep.value(flow, 0));
        }
        template.seal(&mut packet, &checks);
        let full = |at: usize, sum: Sum, bytes: &[u8], udp: bool| {
            let mut bytes = bytes.to_vec();
            bytes[at..at + 2].fill(0);
            let sum = sum + Sum::of(&bytes);
            if udp { sum.finish_udp() } else { sum.finish() }
        };
        let ip = &packet[18..];
        let length = (ip.len() - if v6 { 40 } else { 20 }) as u16;
        let (pseudo, segment) = if v6 {
            (Sum::of(&ip[8..40]), &ip[40..])
        } else {
            let header = full(10, Sum::ZERO, &ip[..20], false);
            prop_assert_eq!(header, u16::from_be_bytes([ip[10], ip[11]]));
            (Sum::of(&ip[12..20]), &ip[20..])
        };
        let sum = full(6, pseudo.with_u16(17).with_u16(length), segment, true);
        prop_assert_eq!(sum, u16::from_be_bytes([segment[6], segment[7]]));
    }
}
