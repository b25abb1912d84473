//! What the stages of a snapshot do without packets: which of them have something to do, and a slice of it.
//!
//! Owns nothing. Keeps true: stages that have nothing to do are not called; a packet that a stage adds goes on behind that stage, and
//! is undecided no more afterwards.

use super::{Placed, Snapshot, StageCount};
use crate::snapshot::MAX_STAGES;
use crate::stage::{Chore, Cx, Stage};
use std::task::Waker;
use zsync_packet::burst::{BURST, Burst};

impl Snapshot {
    /// Each chore, and the number of the stage whose it is.
    pub fn chores(&self) -> impl Iterator<Item = (usize, Chore)> {
        let placed = self.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
        placed.filter_map(|placed| Some((placed.number, placed.stage.chore()?)))
    }

    /// Wakes `waker` from now on when the stage of this number has something to do before its time: see [`Stage::wake_with`].
    pub fn wake_with(&mut self, number: usize, waker: &Waker) {
        if let Some(placed) = self.placed(number) {
            placed.stage.wake_with(waker);
        }
    }

    /// A slice of the chore of the stage of this number. What it has to say is in `burst` then, which was empty; none of it is
    /// undecided. True: there is more, which cannot wait for longer than the chore's period.
    pub fn tend(
        &mut self,
        number: usize,
        burst: &mut Burst,
        cx: &mut Cx<'_>,
        counts: &mut [StageCount; MAX_STAGES],
    ) -> bool {
        let Some(placed) = self.placed(number) else { return false };
        let more = placed.stage.tend(cx.now);
        let more = placed.stage.emit(burst, cx) || more;
        if !burst.is_empty() {
            // There are fewer than 2⁸ stages.
            self.resume(&[Some(number as u8); BURST], burst, cx, counts);
        }
        more
    }

    fn placed(&mut self, number: usize) -> Option<&mut Placed> {
        let mut placed = self.pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.stages);
        placed.find(|placed| placed.number == number)
    }
}
