//! Connections that later stages end or refuse.

use super::*;

/// Tracking, what later stages make of the burst, and what tracking hears of it.
struct Settle<'a>(&'a mut Track, fn(&mut Burst));

impl Stage for Settle<'_> {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        self.0.process(burst, cx);
        (self.1)(burst);
        self.0.settle(burst);
    }
}

#[test]
fn a_connection_that_is_answered_with_a_reset_is_closed() {
    for ends in [V4, V6] {
        let mut edge = Edge::new();
        run(&mut [&mut edge.parse, &mut Settle(&mut edge.track, |_| {})], IN, &handshake(ends), SECOND);
        let fin = ends.tcp(false, TcpFlags(0x11), 101, 501);
        let reset = |burst: &mut Burst| {
            let (from, reason) = (PortFacts::default(), DropReason::Rejected);
            let verdict = answer::reply(burst, 0, answer::Answer::Reset, &from, reason, &mut Cx::at(SECOND));
            burst.decide(0, verdict);
        };
        let mut settle = Settle(&mut edge.track, reset);
        run(&mut [&mut edge.parse, &mut settle], IN, &[&fin], SECOND);
        let counts = edge.table().counts();
        assert_eq!((counts.flows, counts.weak), (1, 1));
        assert!(edge.table().hot(FlowId(0)).unwrap().life() <= 11 * SECOND);
        // One of its ends closed it, so the same ends may begin again.
        assert_eq!(edge.state(&ends.tcp(false, SYN, 0x4000_0000, 0)), FlowState::New);
    }
}

#[test]
fn a_flow_whose_first_packet_is_dropped_or_answered_later_is_forgotten() {
    let mut edge = Edge::new();
    let packets = [V4.udp(false), V6.udp(false), V6.udp(false), V4.tcp(false, SYN, 100, 0)];
    let drop_first = |burst: &mut Burst| {
        burst.decide(0, Verdict::Drop(DropReason::Filtered));
        burst.decide(1, Verdict::Punt);
        burst.decide(2, Verdict::Drop(DropReason::Policed));
        let (from, reason) = (PortFacts::default(), DropReason::Rejected);
        let verdict = answer::reply(burst, 3, answer::Answer::Reset, &from, reason, &mut Cx::at(SECOND));
        assert_eq!(verdict, Verdict::Transmit(IN));
        burst.decide(3, verdict);
    };
    let mut settle = Settle(&mut edge.track, drop_first);
    run(&mut [&mut edge.parse, &mut settle], IN, &packets, SECOND);
    assert_eq!(edge.flows(), 1);
    assert_eq!(edge.told(&V6.udp(true)), (FlowState::Established, true, 2));
}
