//! Which data messages are worth opening: their session is there, and their counter is none that came before.
//!
//! Owns nothing. Keeps true: a session is looked for once a burst; nothing is noted of a message that is not authentic yet.

use super::datagram::{Datagram, is_intact, outer_ecn};
use super::{Group, Opening, reason};
use crate::stages::wireguard::Shared;
use arrayvec::ArrayVec;
use zsync_crypto::aead::Key;
use zsync_packet::burst::{BURST, Burst};
use zsync_packet::verdict::DropReason;
use zsync_wireguard::record::Endpoint;
use zsync_wireguard::transport::Receiving;

/// Finds the session of a data message, and whether it is worth opening.
#[inline]
pub(super) fn admit<'b>(
    shared: &'b Shared,
    (groups, known): (&mut ArrayVec<Group<'b>, BURST>, Option<usize>),
    burst: &Burst,
    i: usize,
    datagram: &Datagram,
    (receiver, counter): (u32, u64),
    now: u64,
) -> Result<Opening, DropReason> {
    let number = match known {
        Some(number) => number,
        None => {
            let receiving = Receiving::find(&shared.book, &shared.peers, receiver, now).map_err(reason)?;
            let (key, endpoint) = (Key::chacha(receiving.room.receiving()), receiving.record.endpoint());
            groups.push(Group { receiving, key, endpoint, data: false, bytes: 0 });
            groups.len() - 1
        }
    };
    let group = &groups[number];
    group.receiving.admit(counter).map_err(reason)?;
    let here = Endpoint { remote: datagram.from, local: datagram.to };
    let moved = (group.endpoint != Some(here)).then_some(here);
    // Once it is opened, nobody can say any more whether the ports are those that were sent.
    if moved.is_some() && !is_intact(burst, i) {
        return Err(DropReason::WireguardForged);
    }
    let (at, len) = (datagram.at as u16, datagram.len as u16);
    Ok(Opening { at, len, group: number as u8, ecn: outer_ecn(burst, i), counter, moved })
}
