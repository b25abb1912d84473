use super::*;
use crate::stages::fixture::{IN, OUT, run};
use zsync_packet::burst::Packet;
use zsync_packet::frame::FrameSize;
use zsync_packet::header::corpus;
use zsync_packet::pool::Pool;

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

#[test]
fn packets_of_several_ports_in_one_burst_go_their_own_ways() {
    let mut pool = Pool::heap(FrameSize::K2, 8, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    let ports = [IN, OUT, PortId(2), IN];
    for port in ports {
        burst.push(Packet { frame: pool.alloc().unwrap(), start: 256, len: 60, port }).unwrap();
    }
    burst.decide(3, Verdict::Punt);
    Patch::new([Some(OUT), Some(IN), None]).process(&mut burst, &mut Cx::at(0));
    let verdicts: Vec<Verdict> = (0..4).map(|i| burst.verdict(i)).collect();
    let nowhere = Verdict::Drop(DropReason::NoSuchPort);
    assert_eq!(verdicts, [Verdict::Transmit(OUT), Verdict::Transmit(IN), nowhere, Verdict::Punt]);
    burst.free_into(&mut pool);
}
