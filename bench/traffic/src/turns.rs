//! Turns: which flow each packet is of, and its number there, drawn some packets ahead.
//!
//! With a million flows nearly every counter is a cache miss. Those of several packets in a row do not wait for each
//! other, and so cost little more than one. A flow takes 8 bytes, its next sequence number: 80 MB for 10 million.

use crate::flows::Flows;

/// Packets that are drawn at once: misses that a core can have under way.
const AHEAD: usize = 16;

/// One packet's.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    index: u32,
    sequence: u64,
}

/// The turns of one packet after the other.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    flows: Flows,
    /// What each flow's next turn that is drawn will have.
    sequences: Vec<u64>,
    drawn: [Turn; AHEAD],
    /// Which of the drawn ones is next; [`AHEAD`] when none is.
    at: usize,
}

impl Turns {
    /// The turns of `flows`.
    pub(crate) fn new(flows: Flows) -> Self {
        let sequences = vec![0; flows.count() as usize];
        Self { flows, sequences, drawn: [Turn::default(); AHEAD], at: AHEAD }
    }

    /// The flows that they are drawn from.
    #[inline]
    pub(crate) fn flows(&self) -> &Flows {
        &self.flows
    }

    /// How many turns a flow, the one at `index` of its share, has had.
    pub(crate) fn taken(&self, index: u32) -> Option<u64> {
        let waiting = self.drawn[self.at..].iter().filter(|turn| turn.index == index).count();
        self.sequences.get(index as usize).map(|next| next - waiting as u64)
    }

    /// The next packet's flow and its sequence number there.
    #[inline]
    pub(crate) fn take(&mut self) -> (u32, u64) {
        if self.at >= AHEAD {
            self.draw();
        }
        let turn = self.drawn[self.at % AHEAD];
        self.at += 1;
        (self.flows.its_share().flow(turn.index), turn.sequence)
    }

    fn draw(&mut self) {
        for turn in &mut self.drawn {
            turn.index = self.flows.next_index();
        }
        // A loop of its own, so that nothing stands between one miss and the next.
        for turn in &mut self.drawn {
            if let Some(next) = self.sequences.get_mut(turn.index as usize) {
                turn.sequence = *next;
                *next += 1;
            }
        }
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::Choice;

    #[test]
    fn drawing_ahead_takes_no_turn_and_a_flow_takes_eight_bytes() {
        let flows = Flows::new(5, Choice::Uniform, 3).unwrap();
        let mut plain = flows.clone();
        let mut turns = Turns::new(flows);
        assert_eq!(turns.sequences.capacity() * size_of::<u64>(), 40);
        let mut taken = [0; 5];
        for _ in 0..100 {
            let flow = plain.next_flow();
            assert_eq!(turns.take(), (flow, taken[flow as usize]));
            taken[flow as usize] += 1;
            assert_eq!([0, 1, 2, 3, 4].map(|flow| turns.taken(flow).unwrap()), taken);
        }
        assert_eq!(turns.taken(5), None);
    }
}
