//! ChaCha20-Poly1305 with the blocks of all packets spread over the lanes of a vector (RFC 8439 §2.8).
//!
//! Owns: the order of the work. Every block of key stream that any packet needs, its one-time key and its short end
//! among them, goes into the next free lane, whatever packet, key or length it is of: only the last pass of a group may
//! have idle lanes. Tags are summed in the integer unit, and that between the rounds of another group's key stream,
//! where it has nothing else to do: what is sealed is summed one group later, and what is opened one group earlier.
//! Keeps true: only what is authentic gets key stream.
//!
//! What is wiped: one-time keys and short ends. What is not: sums, and spilled vectors of key stream, below the stack's end.

mod feed;
mod poly;
mod sums;

pub(super) use feed::{Lane, Wide};
pub(super) use sums::Sums;

use super::super::{Job, TAG_LEN, Way};
use feed::Feed;
use subtle::ConstantTimeEq;

/// Packets of a group at most. Fewer leave lanes idle; with more, a burst has no other group whose rounds hide the sums.
const GROUP: usize = 8;
/// A group of [`GROUP`] / 2 packets and so many bytes takes no more: its lanes are full for many passes.
const ENOUGH: usize = 2048;

/// A block of text or key stream.
type Block = [u8; 64];

/// Jobs that are done together.
type Group<'j, 'a> = [Option<&'j mut Job<'a>>; GROUP];

/// Seals or opens the jobs `picks` of `jobs`, which have room for a tag.
#[inline(always)]
pub(super) fn run<const L: usize>(wide: impl Wide<L>, jobs: &mut [Job<'_>], picks: &[u8], way: Way) {
    let mask = picks.iter().fold(0_u64, |mask, pick| mask | 1 << pick);
    let mut rest = jobs.iter_mut().enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|(_, job)| job);
    // What is in use of these is not zero.
    let (mut heads, mut other_heads) = ([[0; 64]; GROUP], [[0; 64]; GROUP]);
    let (mut heads, mut new_heads) = (&mut heads, &mut other_heads);
    let mut spare = [[0; 64]; GROUP];
    let mut before: Group<'_, '_> = [const { None }; GROUP];
    loop {
        let mut now: Group<'_, '_> = [const { None }; GROUP];
        let mut bytes = 0;
        for (n, place) in now.iter_mut().enumerate() {
            if n >= GROUP / 2 && bytes >= ENOUGH {
                break;
            }
            *place = rest.next();
            bytes += place.as_ref().map_or(0, |job| job.data.len());
        }
        let over = now[0].is_none();
        match way {
            Way::Seal => {
                let ends = sums::ends(&before);
                let mut sums = Sums::new(&before, heads, &ends);
                cipher(wide, &mut now, Some(new_heads), &mut spare, &mut sums);
                let tags = sums.finish();
                for (job, tag) in before.iter_mut().zip(tags) {
                    let Some(job) = job else { break };
                    if let Some(place) = job.data.last_chunk_mut() {
                        *place = tag;
                    }
                    job.end(true);
                }
                wipe(heads);
                (heads, new_heads) = (new_heads, heads);
            }
            Way::Open => {
                let mut feed = Feed::new(wide);
                let mut none = Sums::new(&NOBODY, &[[0; 64]; GROUP], &[[[0; 16]; 3]; GROUP]);
                for (job, head) in now.iter().flatten().zip(heads.iter_mut()) {
                    feed.push(Lane::new(job.key.long(), job.nonce, 0, head), &mut none);
                }
                feed.flush(&mut none);
                let ends = sums::ends(&now);
                let mut sums = Sums::new(&now, heads, &ends);
                cipher(wide, &mut before, None, &mut spare, &mut sums);
                let tags = sums.finish();
                wipe(heads);
                for (place, tag) in now.iter_mut().zip(tags) {
                    let Some(job) = place else { break };
                    let sent = job.data.last_chunk().map_or(0, |sent| u128::from_le_bytes(*sent));
                    let done = bool::from(sent.ct_eq(&u128::from_le_bytes(tag)));
                    job.end(done);
                    if !done {
                        *place = None;
                    }
                }
            }
        }
        if over {
            break;
        }
        before = now;
    }
}

const NOBODY: Group<'static, 'static> = [const { None }; GROUP];

/// Changes the texts of `group` by their key stream; its block 0, of which the one-time key is taken, goes to `heads`.
/// Meanwhile `sums` goes on. `spare` is zeros.
#[inline(always)]
fn cipher<const L: usize>(
    wide: impl Wide<L>,
    group: &mut Group<'_, '_>,
    heads: Option<&mut [Block; GROUP]>,
    spare: &mut [Block; GROUP],
    sums: &mut Sums<'_>,
) {
    let mut feed = Feed::new(wide);
    for (job, head) in group.iter().zip(heads.into_iter().flatten()) {
        if let Some(job) = job {
            feed.push(Lane::new(job.key.long(), job.nonce, 0, head), sums);
        }
    }
    for (job, end) in group.iter().zip(spare.iter_mut()) {
        let Some(job) = job else { continue };
        let (blocks, rest) = text(job.data).as_chunks::<64>();
        if !rest.is_empty() {
            end[..rest.len()].copy_from_slice(rest);
            feed.push(Lane::new(job.key.long(), job.nonce, 1 + blocks.len() as u32, end), sums);
        }
    }
    for job in group.iter_mut().flatten() {
        let (key, nonce) = (job.key.long(), job.nonce);
        let len = job.data.len() - TAG_LEN;
        // The longest text has 2^32 - 1 blocks.
        for (counter, block) in (1..).zip(job.data[..len].as_chunks_mut::<64>().0) {
            feed.push(Lane::new(key, nonce, counter, block), sums);
        }
    }
    feed.flush(sums);
    for (job, end) in group.iter_mut().zip(spare.iter_mut()) {
        let Some(job) = job else { continue };
        let len = job.data.len() - TAG_LEN;
        let rest = job.data[..len].as_chunks_mut::<64>().1;
        if !rest.is_empty() {
            rest.copy_from_slice(&end[..rest.len()]);
            *end = [0; 64];
        }
    }
    std::hint::black_box(spare);
}

#[inline(always)]
fn text(data: &[u8]) -> &[u8] {
    &data[..data.len() - TAG_LEN]
}

/// As far as the compiler is concerned somebody looks at the zeros.
#[inline(always)]
fn wipe(blocks: &mut [Block; GROUP]) {
    *blocks = [[0; 64]; GROUP];
    std::hint::black_box(blocks);
}
