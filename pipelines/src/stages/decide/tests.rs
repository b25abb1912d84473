use super::*;
use crate::stages::fixture::{IN, OUT, run};
use crate::stages::patch::Patch;
use zsync_packet::verdict::Verdict;

#[test]
fn every_packet_that_is_left_gets_the_same_answer() {
    for (mut stage, verdict) in
        [(Decide::DROP, Verdict::Drop(DropReason::Configured)), (Decide::PUNT, Verdict::Punt)]
    {
        let seen = run(&mut [&mut stage], IN, &[[1; 60], [2; 60], [3; 60]], 0);
        assert!(seen.iter().all(|seen| seen.verdict == verdict));
        let mut ahead = Patch::new([Some(OUT)]);
        let seen = run(&mut [&mut ahead, &mut stage], IN, &[[1; 60]], 0);
        assert_eq!(seen[0].verdict, Verdict::Transmit(OUT), "it was decided already");
    }
}
