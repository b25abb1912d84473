use super::*;
use crate::stages::fixture::{IN, OUT, run};
use zsync_packet::header::corpus;

#[test]
fn everything_goes_to_the_other_end_untouched() {
    let packets: Vec<Vec<u8>> = corpus::valid().into_iter().map(|sample| sample.bytes).collect();
    let mut patch = Patch::new([Some(OUT), Some(IN), None]);
    for (from, to) in [(IN, OUT), (OUT, IN)] {
        for (seen, was) in run(&mut [&mut patch], from, &packets, 0).iter().zip(&packets) {
            assert_eq!((seen.verdict, &seen.bytes), (Verdict::Transmit(to), was));
        }
    }
    // Not even an Ethernet header is asked for.
    assert_eq!(run(&mut [&mut patch], IN, &[[]], 0)[0].verdict, Verdict::Transmit(OUT));
}

#[test]
fn a_port_without_an_other_end_drops() {
    let mut patch = Patch::new([Some(OUT), Some(IN), None]);
    for port in [PortId(2), PortId(3), PortId(u16::MAX)] {
        let seen = run(&mut [&mut patch], port, &[[0; 60]], 0);
        assert_eq!(seen[0].verdict, Verdict::Drop(DropReason::NoSuchPort));
    }
}
