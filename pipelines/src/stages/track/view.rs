//! Connections as people see them: what the words of a flow's record mean.
//!
//! Owns nothing: looks at another process's table, by its [`FlowView`].

use super::states::State as Tcp;
use super::tcp::{Connection, Packed};
use crate::spec::TrackSpec;
use crate::state::State;
use crate::tables::flow::{FlowView, Shown, bit};
use zsync_packet::header::protocol;

/// The table of a worker, in the stage's memory; `None` where it is not one.
pub fn view(spec: &TrackSpec, state: &State, worker: usize) -> Option<FlowView> {
    FlowView::open(state.shard(worker)?, spec.space(state.workers())).ok()
}

/// What a flow has come to: the state of a TCP connection, else whether it was answered, and, of UDP, for long.
pub fn state(flow: &Shown) -> &'static str {
    let has = |bit| flow.bits & bit != 0;
    match flow.original.protocol() {
        protocol::TCP => {
            let bits = flow.bits & ((1 << Packed::BITS) - 1);
            let state = Connection::unpack(&Packed { bits, ..Packed::default() }).state;
            if state == Tcp::None { "unknown" } else { state.name() }
        }
        _ if has(bit::ASSURED) => "stream",
        _ if has(bit::REPLIED) => "answered",
        _ => "unanswered",
    }
}

/// When a flow began, in nanoseconds of the monotonic clock; of TCP that is not kept.
pub fn began(flow: &Shown) -> Option<u64> {
    (flow.original.protocol() != protocol::TCP).then_some(flow.cold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_packet::flow::FlowKey;

    #[test]
    fn each_protocol_has_its_words() {
        let flow = |protocol, bits| {
            let original = FlowKey::v4(([10, 0, 0, 1].into(), 1), ([10, 0, 0, 2].into(), 2), protocol);
            Shown { id: 0, original, reply: original.reversed(), bits, cold: 7, mark: 0, life: 9 }
        };
        for state in Tcp::ALL {
            let packed = Connection { state, ..Connection::default() }.pack();
            let flow = flow(protocol::TCP, packed.bits | bit::REPLIED | bit::ASSURED);
            let name = if state == Tcp::None { "unknown" } else { state.name() };
            assert_eq!((super::state(&flow), began(&flow)), (name, None));
        }
        for (bits, name) in [
            (bit::WEAK, "unanswered"),
            (bit::REPLIED, "answered"),
            (bit::REPLIED | bit::ASSURED | bit::MARKED, "stream"),
        ] {
            let flow = flow(protocol::UDP, bits);
            assert_eq!((state(&flow), began(&flow)), (name, Some(7)));
        }
    }
}
