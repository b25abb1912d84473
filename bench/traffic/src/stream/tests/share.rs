//! Shares of a stream, against the whole.

use proptest::prelude::*;

use super::super::*;
use super::{content, contents};

/// The probes and headers of `packets` packets.
fn read(stream: &mut Stream, packets: u64) -> Vec<(u32, u64, Vec<u8>)> {
    let mut packet = [0; 2048];
    let mut read = || {
        let len = stream.write(0, 0, &mut packet).unwrap();
        let Class::Probe(probe) = classify(&packet[..len], 0) else { panic!("no probe") };
        (probe.flow, probe.sequence, packet[..len].to_vec())
    };
    (0..packets).map(|_| read()).collect()
}

#[test]
fn a_part_without_flows_is_refused_and_counts_its_own_flows_alone() {
    let sweeps = vec![(Field::SourcePort, Values::Step { start: 1, step: 1, count: 5 })];
    let content = Content { flows: 5, sweeps, ..content() };
    let refused = |part, of| Stream::share(&content, 0, part, of).unwrap_err();
    assert_eq!(refused(5, 6), FlowError::Part { part: 5, of: 6, flows: 5 }.into());
    let mut odd = Stream::share(&content, 0, 1, 2).unwrap();
    assert_eq!(read(&mut odd, 3).iter().map(|(flow, ..)| *flow).collect::<Vec<_>>(), [1, 3, 1]);
    assert_eq!([0, 1, 2, 3, 5].map(|flow| odd.written(flow)), [None, Some(2), None, Some(1), None]);
    let rate =
        |part| odd.its_share().weight() + Stream::share(&content, 0, part, 2).unwrap().its_share().weight();
    assert!((rate(0) - 1.0).abs() < 1e-12);
}

proptest! {
    /// Each flow of any choice has the packets of the whole, one after the other, in one part.
    #[test]
    fn parts_together_send_what_the_whole_sends(mut content in contents(), seed: u64, of in 1u32..6) {
        content.sizes = Sizes::Fixed(content.sizes.most());
        let mut whole = Stream::new(&content, seed).unwrap();
        let mut by_flow = vec![vec![]; content.flows as usize];
        for (flow, sequence, packet) in read(&mut whole, 2000) {
            prop_assert_eq!(sequence, by_flow[flow as usize].len() as u64);
            by_flow[flow as usize].push(packet);
        }
        for part in 0..of.min(content.flows) {
            let mut stream = Stream::share(&content, seed, part, of).unwrap();
            let mut next = vec![0; content.flows as usize];
            for (flow, sequence, packet) in read(&mut stream, 200) {
                prop_assert_eq!((flow % of, sequence), (part, next[flow as usize]));
                next[flow as usize] += 1;
                if let Some(same) = by_flow[flow as usize].get(sequence as usize) {
                    prop_assert_eq!(&packet, same);
                }
            }
        }
    }

    /// By turns, with their times, the parts' packets are the whole's, where all flows are as likely and parts equal.
    #[test]
    fn equal_parts_in_turn_are_the_whole_packet_for_packet(each in 1u32..20, of in 1u32..6, rate in 1..crate::pace::HIGHEST) {
        let sweeps = vec![(Field::Source, Values::Step { start: 1, step: 3, count: each * of })];
        let content = Content { flows: each * of, sweeps, ..content() };
        let mut parts: Vec<_> = (0..of)
            .map(|part| {
                let stream = Stream::share(&content, 9, part, of).unwrap();
                let pace = stream.pace(Shape::Constant, rate, 9).unwrap();
                (stream, pace)
            })
            .collect();
        let mut whole = Stream::new(&content, 9).unwrap();
        let mut pace = Pace::new(Shape::Constant, rate, 9).unwrap();
        let (mut ours, mut theirs) = ([0; 60], [0; 60]);
        for _ in 0..200 {
            // At one time the part that comes first in a turn goes first; the others have gone before.
            let (stream, own) = parts.iter_mut().min_by_key(|(stream, pace)| {
                (pace.clone().next(), (0..each * of).filter_map(|flow| stream.written(flow)).sum::<u64>(), stream.its_share().part())
            }).unwrap();
            let (mine, all) = (own.next(), pace.next());
            prop_assert_eq!(mine, all);
            stream.write(mine, mine, &mut ours).unwrap();
            whole.write(all, all, &mut theirs).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }
}
