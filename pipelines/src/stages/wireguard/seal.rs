//! `wireguard-seal`: into WireGuard. Packets to the inner addresses of a peer are sealed, those of a burst as one batch, in the
//! frames that they came in; from then on they are the outer packets, for a `route` behind, or leave by the tunnel's UDP socket at once. All
//! else goes on as it is, and so do packets to the host's own addresses. It is also where a tunnel speaks by itself: handshakes, empty messages, packets that
//! have waited for a session.
//!
//! Owns nothing but scratch. Refuses what is too long for the tunnel, which its sender is told; packets whose hops are used up,
//! for a tunnel is a hop; packets of peers of whom nobody knows where they are, which their senders are told. Keeps true: a counter is stored as used
//! before anything is sealed with it; the packets of a peer have counters in their order; an inner packet is never fragmented.

mod speech;
mod ways;
mod work;

use super::waiting::Packet as Waiter;
use super::{Shared, Tunnel};
use crate::snapshot::PortFacts;
use crate::stage::{Chore, Cx, Stage};
use crate::stages::tunnel::Inner;
use arrayvec::ArrayVec;
use speech::{say_nothing, send};
use std::task::Waker;
use ways::Ways;
use work::{Not, Work, plan, seal};
use zsync_packet::burst::Burst;
use zsync_packet::verdict::{DropReason, PortId, Verdict};
use zsync_wireguard::desk::{Action, Letter};

/// Things that a tunnel does of itself between two bursts.
const ACTIONS: usize = 32;

/// See the module.
#[derive(Clone, Debug)]
pub struct Seal {
    tunnel: Tunnel,
    ports: Vec<PortFacts>,
    worker: usize,
    /// The stage ahead, behind which another worker goes on.
    ahead: u8,
    /// Where packets that are the tunnel's own come from; none: another stage sends them.
    speaks: Option<PortId>,
    /// This worker has taken its peers' records over.
    ready: bool,
    /// Identification of IPv4 packets that may be taken apart.
    number: u16,
}

impl Seal {
    /// Of this tunnel. `ahead`: the number of the stage ahead. `speaks`: this stage sends what the tunnel says of itself, as if
    /// it came in there.
    pub fn new(tunnel: Tunnel, ports: Vec<PortFacts>, ahead: u8, speaks: Option<PortId>) -> Self {
        Self { tunnel, ports, worker: 0, ahead, speaks, ready: false, number: 0 }
    }

    /// The tunnel.
    pub fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }
}

impl Stage for Seal {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let Self { tunnel: Tunnel(shared), ports, worker, ahead, ready, number, .. } = self;
        let (now, worker) = (cx.now, *worker);
        let mut work = Work::new(*number);
        let mut ways = Ways::of(shared);
        for i in burst.undecided() {
            let Some(slot) = ways.peer_of(burst, i) else { continue };
            let owner = shared.owner(slot);
            if owner != worker {
                burst.decide(i, Verdict::Worker(owner as u8, *ahead));
                continue;
            }
            if !*ready {
                // Where a process has left the records, this one goes on.
                *ready = shared.office(worker, now).is_some();
            }
            match plan(shared, ports, burst, i, slot, &mut work, cx) {
                Ok(()) => {}
                Err(Not::Session) if !shared.is_somewhere(slot) => {
                    let verdict = shared.nowhere(burst, i, ports, cx);
                    burst.decide(i, verdict);
                }
                Err(Not::Session) => {
                    let verdict = keep(shared, burst, i, slot, worker, now);
                    burst.decide(i, verdict);
                }
                Err(Not::Decided(verdict)) => burst.decide(i, verdict),
            }
        }
        *number = work.number;
        seal(shared, burst, &mut work, now);
    }

    fn assign(&mut self, worker: usize) {
        (self.worker, self.ready) = (worker, false);
    }

    fn chore(&self) -> Option<Chore> {
        self.speaks.map(|_| Chore::sliced("handshakes, and the timers of peers"))
    }

    fn wake_with(&mut self, waker: &Waker) {
        self.tunnel.0.wake_with(self.worker, waker);
    }

    fn emit(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) -> bool {
        let Some(port) = self.speaks else { return false };
        let Self { tunnel: Tunnel(shared), worker, number, .. } = self;
        let (now, unix) = (cx.now, shared.unix(cx.now));
        let mut forwards: ArrayVec<(usize, Letter), ACTIONS> = ArrayVec::new();
        let mut work = Work::new(*number);
        let more = {
            let Some(mut office) = shared.office(*worker, now) else { return false };
            let office = &mut *office;
            if std::mem::take(&mut office.passed_over) {
                office.call(shared, burst, cx, unix, &mut work);
            }
            let rested = office.is_rested(now);
            for _ in 0..ACTIONS {
                if burst.room() < 2 {
                    break;
                }
                match office.poll(now, unix) {
                    None => break,
                    Some(Action::Send(written, endpoint)) => {
                        send(shared, burst, cx, port, &written, endpoint)
                    }
                    Some(Action::Forward(to, letter)) => forwards.push((to, letter)),
                    Some(Action::GiveUp(slot)) => shared.give_up(office.waiting.drop_all(slot)),
                    Some(Action::Keepalive(slot)) => say_nothing(shared, burst, cx, port, slot, &mut work),
                    Some(Action::Ready { slot, ours }) => {
                        if !office.go_on(shared, burst, cx, slot, &mut work) && ours {
                            say_nothing(shared, burst, cx, port, slot, &mut work);
                        }
                    }
                }
            }
            let had_turn = rested && !office.is_rested(now);
            office.call(shared, burst, cx, unix, &mut work);
            // Packets that wait have every other turn.
            office.passed_over = had_turn && !office.waiting.wants_nobody();
            *number = work.number;
            seal(shared, burst, &mut work, now);
            office.is_pressed() || !office.waiting.wants_nobody()
        };
        // Nobody holds two of these locks.
        for (to, letter) in forwards {
            shared.forward(to, letter, now);
        }
        more
    }

    fn explain(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        let shared = &self.tunnel.0;
        match Ways::of(shared).peer_of(burst, i) {
            Some(slot) => shared.sealed_in_words(burst, i, slot, now, out),
            None => out.push("its destination is no peer's: it stays as it is".to_owned()),
        }
    }
}

/// Keeps a packet until there is a session with its peer.
#[cold]
fn keep(shared: &Shared, burst: &Burst, i: usize, slot: u32, worker: usize, now: u64) -> Verdict {
    const NO: Verdict = Verdict::Drop(DropReason::WireguardNoSession);
    let Some(mut office) = shared.office(worker, now) else { return NO };
    if !office.waiting.has_room(slot) {
        return NO;
    }
    let facts = burst.facts(i);
    let packet = burst.bytes(i).get(usize::from(facts.l3)..).unwrap_or(&[]);
    let Some(inner) = Inner::of(packet).and_then(|inner| packet.get(..inner.len)) else { return NO };
    let waiter = Waiter { port: burst.port(i), bytes: inner.into(), mark: facts.mark };
    if !office.change(|office| office.waiting.keep(slot, waiter)) {
        return NO;
    }
    Verdict::Consume
}
