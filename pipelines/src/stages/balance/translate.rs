//! Forwarding by NAT: the destination becomes the backend, and its answers come from the virtual address again.
//!
//! Owns no state: the flow table of the `track` stage ahead has both keys of a flow, so it is the connection table here. A
//! packet that no flow is known of goes on to the next stage as it is. Refuses: a new flow when no backend is up, or when none of those that
//! are can tell its answers from another flow's; what no translation can carry. Keeps true: packets of one flow always get the same
//! backend, both ways, as do the ICMP errors about them; lengths, and which packets exist, stay.

use std::net::IpAddr;

use zsync_packet::burst::{Burst, FlowState, Fragment};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::header::{TcpFlags, protocol};
use zsync_packet::rewrite::{Untranslatable, translate, translate_error};
use zsync_packet::verdict::{DropReason, Verdict};

use super::pool::Pool;
use super::service::Is;
use super::{Balance, flags_of, quoted};
use crate::tables::flow::{FlowId, Flows, Refused};

/// Backends that are tried when the answers of one would look like another flow's.
const TRIES: u64 = 4;

impl Balance {
    /// What [`Stage::process`](crate::stage::Stage::process) does for [`Forward::Nat`](crate::spec::balance::Forward::Nat).
    pub(super) fn translate(&mut self, burst: &mut Burst) {
        let Some(flows) = &self.flows else { return };
        for i in burst.undecided() {
            if let Some(id) = flow_of(burst, i) {
                flows.prefetch_translation(id);
            }
        }
        for i in burst.undecided() {
            let Some(id) = flow_of(burst, i) else { continue };
            let original = flows.original(id);
            if self.services.look(&original, Fragment::Whole) != Is::Served {
                continue;
            }
            let facts = *burst.facts(i);
            let outcome = match flows.translation(id) {
                Some(reply) if facts.state == FlowState::Related => relate(burst, i, &original, &reply),
                Some(_) if facts.reply => rewrite(burst, i, &original.reversed()),
                Some(reply) if self.pool.is_down(reply.source(), reply.source_port()) && opens(burst, i) => {
                    // The next one of the flow begins it anew, with another backend.
                    flows.remove(id);
                    Err(DropReason::NoBackend)
                }
                Some(reply) => rewrite(burst, i, &reply.reversed()),
                None if facts.reply || facts.state == FlowState::Related => continue,
                None => begin(&self.pool, &self.choice, flows, id, &original)
                    .and_then(|reply| rewrite(burst, i, &reply.reversed())),
            };
            if let Err(reason) = outcome {
                burst.decide(i, Verdict::Drop(reason));
            }
        }
    }
}

/// The flow of packet `i`, if it has one.
#[inline]
fn flow_of(burst: &Burst, i: usize) -> Option<FlowId> {
    burst.facts(i).flow.checked_sub(1).map(FlowId)
}

/// Gives a flow a backend: the key that its answers will have.
#[cold]
fn begin(
    pool: &Pool,
    choice: &HashKey,
    flows: &Flows,
    id: FlowId,
    original: &FlowKey,
) -> Result<FlowKey, DropReason> {
    let hash = original.hash(choice);
    for attempt in 0..TRIES {
        let hash = hash.wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let ticket = pool.choose(hash, original.version() == 4).ok_or(DropReason::NoBackend)?;
        let who = pool.target(ticket).ok_or(DropReason::NoBackend)?.who;
        let port = who.port.unwrap_or(original.destination_port());
        let reply = match (who.address, original.source()) {
            (IpAddr::V4(backend), IpAddr::V4(client)) => {
                FlowKey::v4((backend, port), (client, original.source_port()), original.protocol())
            }
            (IpAddr::V6(backend), IpAddr::V6(client)) => {
                FlowKey::v6((backend, port), (client, original.source_port()), original.protocol())
            }
            _ => return Err(DropReason::NoBackend),
        };
        match flows.translate(id, &reply) {
            Ok(()) => return Ok(reply),
            // The client talks to that backend by another virtual address, from the same port.
            Err(Refused::Taken) => {}
            Err(_) => return Err(DropReason::FlowTableFull),
        }
    }
    Err(DropReason::NatNoPort)
}

/// Gives packet `i` this key, in bytes too.
#[inline]
fn rewrite(burst: &mut Burst, i: usize, to: &FlowKey) -> Result<(), DropReason> {
    let facts = *burst.facts(i);
    translate(burst.bytes_mut(i), &facts, to).map_err(reason)?;
    burst.set_key(i, *to);
    Ok(())
}

/// Translates an ICMP error about a packet of a flow, whichever way that packet went.
#[cold]
fn relate(burst: &mut Burst, i: usize, original: &FlowKey, reply: &FlowKey) -> Result<(), DropReason> {
    let about = quoted(burst, i).ok_or(DropReason::IcmpUnrelated)?;
    // About an answer, as the client's side has it, or about a packet to the backend.
    let to = if same_ends(&about, &original.reversed()) { *reply } else { *original };
    let facts = *burst.facts(i);
    translate_error(burst.bytes_mut(i), &facts, &to).map_err(reason)?;
    let key = FlowKey::of(burst.bytes(i).get(usize::from(facts.l3)..).unwrap_or(&[]));
    burst.set_key(i, key.map_err(|_| DropReason::IpTruncated)?);
    Ok(())
}

/// Whether two keys have the same addresses; a quoted fragment has no ports.
fn same_ends(one: &FlowKey, other: &FlowKey) -> bool {
    one.source() == other.source() && one.destination() == other.destination()
}

/// Whether packet `i` may begin a flow: TCP SYN, any UDP.
fn opens(burst: &Burst, i: usize) -> bool {
    let flags = flags_of(burst, i);
    burst.key(i).protocol() != protocol::TCP
        || (flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK))
}

fn reason(error: Untranslatable) -> DropReason {
    match error {
        Untranslatable::Truncated => DropReason::TransportTruncated,
        Untranslatable::NotAnError => DropReason::IcmpUnrelated,
        _ => DropReason::NatUntranslatable,
    }
}

#[cfg(test)]
mod tests;
