//! What tracking knows of a packet's flow, for people.
//!
//! Owns nothing. Keeps true: it looks, and changes nothing; what it says of a flow is what the table had when it was asked.

use super::Track;
use super::states::State;
use super::tcp::{Connection, Packed};
use crate::stages::nat::quoted;
use crate::tables::flow::{FlowId, Flows, Hot, bit};
use crate::trace::describe;
use std::sync::atomic::Ordering::Relaxed;
use zsync_packet::burst::{Burst, FlowState};
use zsync_packet::flow::FlowKey;
use zsync_packet::header::protocol;

impl Track {
    /// As [`Stage::explain`](crate::stage::Stage::explain).
    pub(super) fn say(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        let facts = burst.facts(i);
        let Some(flows) = &self.flows else {
            return out.push("no worker's yet: it knows no flows".to_owned());
        };
        if facts.state != FlowState::Untracked {
            return out
                .push(format!("tracked before, in another pipeline: {:?}", facts.state).to_lowercase());
        }
        let about = quoted(burst.bytes(i), facts);
        let key = match &about {
            // To whoever sent what it is about, as the answers to that go.
            Some(about) => about.reversed(),
            None => *burst.key(i),
        };
        if let Some(about) = &about {
            out.push(format!("an ICMP error about {}", describe::flow(about)));
        }
        let known =
            flows.find(&key, flows.hash(&key)).and_then(|(id, reply)| Some((id, flows.hot(id)?, reply)));
        match known {
            Some((id, hot, reply)) if hot.life() > now => tell(flows, id, hot, reply, now, out),
            Some(_) => out.push("a flow whose time is over".to_owned()),
            None if about.is_some() => out.push("no flow that it is about is known".to_owned()),
            None => out.push("no flow is known that it is of".to_owned()),
        }
    }

    /// The number that whoever sends the next segment with this key starts it with, and the one that he acknowledges: where
    /// the table has the connection at `now`, and knows.
    #[must_use]
    pub fn numbers(&self, key: &FlowKey, now: u64) -> Option<(u32, u32)> {
        let flows = self.flows.as_ref()?;
        let (id, reply) = flows.find(key, flows.hash(key))?;
        let hot = flows.hot(id).filter(|hot| hot.life() > now)?;
        let mut connection = connection(flows, id, hot)?;
        let (sender, receiver) = connection.ends(reply);
        (receiver.max_win != 0).then_some((sender.end, receiver.end))
    }
}

fn tell(flows: &Flows, id: FlowId, hot: Hot<'_>, reply: bool, now: u64, out: &mut Vec<String>) {
    let original = flows.original(id);
    out.push(format!("flow {}, begun as {}", id.0, describe::flow(&original)));
    if let Some(answers) = flows.translation(id) {
        out.push(format!("translated: its answers arrive as {}", describe::flow(&answers)));
    }
    let bits = hot.bits();
    let mut words = Vec::new();
    if let Some(connection) = connection(flows, id, hot).filter(|connection| connection.state != State::None)
    {
        words.push(connection.state.name());
    }
    for (flag, word) in [(bit::REPLIED, "answered"), (bit::ASSURED, "assured"), (bit::HALF_OPEN, "half open")]
    {
        if bits & flag != 0 {
            words.push(word);
        }
    }
    if words.is_empty() {
        words.push("not answered yet");
    }
    let side = if reply { "an answer" } else { "of who began it" };
    let left = (hot.life() - now) / 1_000_000_000;
    out.push(format!("{}; this is {side}; forgotten in {left} s, if nothing comes", words.join(", ")));
    if bits & bit::MARKED != 0 {
        out.push(format!("its mark is {:#x}", flows.mark(id)));
    }
}

/// What is known of a TCP connection.
fn connection(flows: &Flows, id: FlowId, hot: Hot<'_>) -> Option<Connection> {
    let cold = flows.cold(id).filter(|_| hot.key().protocol() == protocol::TCP)?;
    let sides = [&cold[0], &cold[1], &cold[2], &cold[3]].map(|word| word.load(Relaxed));
    let bits = hot.bits() & ((1 << Packed::BITS) - 1);
    Some(Connection::unpack(&Packed { bits, last_end: hot.last(), sides }))
}
