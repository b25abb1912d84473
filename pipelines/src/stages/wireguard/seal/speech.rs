//! What a tunnel says of itself, and what waited for it: handshake messages, empty messages, packets that have their session now.
//!
//! Owns nothing. Keeps true: whoever joins a burst joins it as a whole packet; what finds no room waits on.

use super::work::{Not, Work, age, wrap};
use crate::stage::Cx;
use crate::stages::tunnel::Inner;
use crate::stages::wireguard::outer::Ends;
use crate::stages::wireguard::segments::clamp;
use crate::stages::wireguard::waiting::Packet as Waiter;
use crate::stages::wireguard::{Office, Shared};
use zsync_packet::burst::Burst;
use zsync_packet::verdict::{PortId, Verdict};
use zsync_wireguard::desk::Written;
use zsync_wireguard::message::OVERHEAD;
use zsync_wireguard::record::Endpoint;

/// Handshake messages are of the class AF41, as the kernel's are (messages.h, HANDSHAKE_DSCP).
const HANDSHAKE_TOS: u8 = 0x88;
/// Peers that are looked at in a slice because something waits for them.
const WANTED: usize = 8;

impl Office {
    /// Calls those whom packets wait for and whose handshake could not be begun yet, or for whose packets there was no room in a burst.
    pub(super) fn call<'b>(
        &mut self,
        shared: &'b Shared,
        burst: &mut Burst,
        cx: &mut Cx<'_>,
        unix: u64,
        work: &mut Work<'b>,
    ) {
        for _ in 0..WANTED {
            let Some(slot) = self.waiting.next_wanted() else { break };
            if shared.session(slot, cx.now).is_some() {
                self.go_on(shared, burst, cx, slot, work);
            } else if !self.desk.as_mut().is_some_and(|desk| desk.want(slot, cx.now, unix)) {
                self.waiting.want_later(slot);
            }
        }
    }

    /// Lets all go that waits for the peer in `slot`, as far as there is room in the burst. False: nothing waits.
    pub(super) fn go_on<'b>(
        &mut self,
        shared: &'b Shared,
        burst: &mut Burst,
        cx: &mut Cx<'_>,
        slot: u32,
        work: &mut Work<'b>,
    ) -> bool {
        let mut any = false;
        while let Some(waiter) = self.waiting.next(slot) {
            any = true;
            let gone =
                if burst.room() > 1 { go_on(shared, burst, cx, slot, waiter, work) } else { Err(waiter) };
            if let Err(waiter) = gone {
                self.waiting.put_back(slot, waiter);
                self.waiting.want_later(slot);
                break;
            }
        }
        any
    }
}

/// Makes a packet of a handshake message.
#[cold]
pub(super) fn send(
    shared: &Shared,
    burst: &mut Burst,
    cx: &mut Cx<'_>,
    port: PortId,
    written: &Written,
    endpoint: Endpoint,
) {
    let Some(ends) = Ends::to(shared, endpoint) else { return };
    let message = written.bytes();
    let made = cx.join(burst, port, ends.len() + message.len(), |bytes| {
        ends.write(bytes, shared.settings.port, HANDSHAKE_TOS, 0, 0);
        if let Some(place) = bytes.get_mut(ends.len()..) {
            place.copy_from_slice(message);
        }
        ends.finish(shared, bytes);
    });
    if let Some(i) = made {
        ends.know(shared, burst, i);
    }
}

/// Makes an empty message for a peer.
#[cold]
pub(super) fn say_nothing<'b>(
    shared: &'b Shared,
    burst: &mut Burst,
    cx: &mut Cx<'_>,
    port: PortId,
    slot: u32,
    work: &mut Work<'b>,
) {
    let Ok(group) = work.group(shared, slot, cx.now) else { return };
    let ends = work.groups[group].ends;
    let made = cx.join(burst, port, ends.len() + OVERHEAD, |bytes| {
        bytes.fill(0);
        ends.write(bytes, shared.settings.port, 0, 0, 0);
    });
    if let Some(i) = made {
        work.add(i, group, ends.len());
    }
}

/// Lets a packet go that has waited. What cannot go comes back.
#[cold]
fn go_on<'b>(
    shared: &'b Shared,
    burst: &mut Burst,
    cx: &mut Cx<'_>,
    slot: u32,
    waiter: Waiter,
    work: &mut Work<'b>,
) -> Result<(), Waiter> {
    let group = match work.group(shared, slot, cx.now) {
        Ok(group) => group,
        Err(Not::Session) => return Err(waiter),
        // There is no way there.
        Err(Not::Decided(_)) => {
            shared.give_up(1);
            return Ok(());
        }
    };
    let Some(inner) = Inner::of(&waiter.bytes) else { return Ok(()) };
    let made = cx.join(burst, waiter.port, waiter.bytes.len(), |bytes| bytes.copy_from_slice(&waiter.bytes));
    let Some(i) = made else { return Err(waiter) };
    burst.facts_mut(i).mark = waiter.mark;
    let packet = burst.bytes_mut(i);
    clamp(packet, shared.settings.mtu);
    if !shared.with.ports.get(usize::from(waiter.port.0)).is_some_and(|from| from.of_host) {
        age(packet);
    }
    if let Err(reason) = wrap(shared, burst, i, inner, group, work) {
        burst.decide(i, Verdict::Drop(reason));
    }
    Ok(())
}
