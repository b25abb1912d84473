//! Maglev: which backend a flow gets, by its hash alone (Eisenbud et al., "Maglev: A Fast and Reliable Software Network
//! Load Balancer", NSDI 2016, §3.4), with weights.
//!
//! Owns: the table in force, and the one that is being filled for a changed set. Refuses: a size that is no prime, or has
//! no room for the backends. Keeps true: a table depends on the size and on the backends' identities and weights, not on
//! their order, nor on what was there before; so every balancer, and every start of one, comes to the same table.
//!
//! Each backend has an order of its own in which it likes the entries, and they take turns: whose turn it is takes the
//! entry that it likes best of those left. A backend of weight *w* has its turns at the times ½/*w*, 1½/*w*, 2½/*w* …, whatever
//! the others weigh (seats are dealt out so by Sainte-Laguë's method); so shares are right to an entry, and who comes or
//! goes moves few entries of the others.
//!
//! A table is filled in slices between bursts ([`Maglev::advance`]), and nothing is allocated after [`Maglev::new`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Entries of a table unless configured otherwise: the paper's small size (§5.3).
pub const SIZE: u32 = 65_537;
/// Most entries of a table: the paper's large size.
pub const MAX_SIZE: u32 = 655_373;
/// Most backends of a table: an entry is 16 bits, and one value says "none".
pub const MAX_MEMBERS: usize = 0xffff;

const NONE: u16 = u16::MAX;

/// A backend of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is, wherever and whenever the table is built: see [`identity`].
    pub identity: u64,
    /// Its share of the flows beside the others'; 0 takes none.
    pub weight: u16,
    /// What a lookup answers; below [`MAX_MEMBERS`]. The table does not depend on it.
    pub value: u16,
}

/// The identity of whatever these bytes name: the same in every process, on every machine.
pub fn identity(name: &[u8]) -> u64 {
    // FNV-1a, whose weak high bits the last step mixes.
    mix(name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Maglev {
    tables: [Box<[u16]>; 2],
    /// Which of the tables is in force.
    current: usize,
    next: Filling,
}

/// The work on the next table.
#[derive(Debug, Default)]
struct Filling {
    /// Sorted by identity, without those of weight 0.
    members: Vec<Likes>,
    /// The next turn of each member: its time, and its place in `members`.
    turns: BinaryHeap<Reverse<(u64, u16)>>,
    /// Entries that nobody took yet.
    left: usize,
    under_way: bool,
}

impl Clone for Filling {
    /// With the same room, so that a copy allocates no more than the original.
    fn clone(&self) -> Self {
        let mut members = Vec::with_capacity(self.members.capacity());
        members.extend_from_slice(&self.members);
        let mut turns = BinaryHeap::with_capacity(self.turns.capacity());
        turns.extend(self.turns.iter().copied());
        Self { members, turns, left: self.left, under_way: self.under_way }
    }
}

/// A backend's order of entries: `position`, then `skip` further each time, round and round.
#[derive(Clone, Copy, Debug)]
struct Likes {
    identity: u64,
    value: u16,
    weight: u16,
    position: u32,
    skip: u32,
}

impl Maglev {
    /// An empty table of `size` entries for up to `members` backends. `None`: the size is no prime from 2 to [`MAX_SIZE`],
    /// or is less than a backend each, or there are more than [`MAX_MEMBERS`].
    pub fn new(size: u32, members: usize) -> Option<Self> {
        let entries = size as usize;
        if !(2..=MAX_SIZE).contains(&size) || !is_prime(size) || members > entries.min(MAX_MEMBERS) {
            return None;
        }
        let table = || vec![NONE; entries].into_boxed_slice();
        let next = Filling {
            members: Vec::with_capacity(members),
            turns: BinaryHeap::with_capacity(members),
            ..Filling::default()
        };
        Some(Self { tables: [table(), table()], current: 0, next })
    }

    /// Entries.
    pub fn size(&self) -> u32 {
        self.tables[0].len() as u32
    }

    /// The value of the backend that has this hash; none if no backend has a weight. All bits of the hash must be good.
    #[inline]
    pub fn find(&self, hash: u64) -> Option<u16> {
        let table = &self.tables[self.current & 1];
        // By multiplication, not remainder: the high bits choose (Lemire, 2019).
        let entry = (u128::from(hash) * table.len() as u128) >> 64;
        table.get(entry as usize).copied().filter(|&value| value != NONE)
    }

    /// Starts to fill the next table, for these backends; what was begun before and is not done is given up. The table in
    /// force stays so until [`Self::advance`] has finished. Backends beyond the room of [`Self::new`] are left out.
    pub fn begin(&mut self, members: impl IntoIterator<Item = Member>) {
        let size = self.size();
        let next = &mut self.next;
        next.members.clear();
        next.turns.clear();
        let room = next.members.capacity();
        let takers = members.into_iter().filter(|member| member.weight > 0 && member.value != NONE);
        next.members.extend(takers.take(room).map(|member| Likes::new(member, size)));
        next.members.sort_unstable_by_key(|likes| (likes.identity, likes.value));
        let first = |(place, likes): (usize, &Likes)| Reverse((likes.interval() / 2, place as u16));
        next.turns.extend(next.members.iter().enumerate().map(first));
        next.left = size as usize;
        next.under_way = true;
        self.tables[(self.current ^ 1) & 1].fill(NONE);
    }

    /// Goes on filling for about `probes` looks at an entry, some 10 ns each. True when there is nothing left to do: the
    /// table in force is the one last begun.
    pub fn advance(&mut self, probes: usize) -> bool {
        let next = &mut self.next;
        if !next.under_way {
            return true;
        }
        let table = &mut self.tables[(self.current ^ 1) & 1];
        let size = table.len() as u32;
        for _ in 0..probes {
            if next.left == 0 {
                break;
            }
            let Some(&Reverse((time, place))) = next.turns.peek() else { break };
            let Some(likes) = next.members.get_mut(usize::from(place)) else { break };
            let liked = likes.walk(size);
            // The walk visits every entry, because the size is prime; so it comes to one that is free.
            if let Some(entry) = table.get_mut(liked as usize).filter(|entry| **entry == NONE) {
                *entry = likes.value;
                next.left -= 1;
                if let Some(mut turn) = next.turns.peek_mut() {
                    *turn = Reverse((time + likes.interval(), place));
                }
            }
        }
        if next.left > 0 && !next.members.is_empty() {
            return false;
        }
        next.under_way = false;
        self.current ^= 1;
        true
    }

    /// The table of these backends, at once.
    pub fn of(size: u32, members: &[Member]) -> Option<Self> {
        let mut table = Self::new(size, members.len())?;
        table.begin(members.iter().copied());
        while !table.advance(usize::MAX) {}
        Some(table)
    }
}

impl Likes {
    fn new(member: Member, size: u32) -> Self {
        let (position, skip) = (mix(member.identity ^ 0x6f66_6673), mix(member.identity ^ 0x736b_6970));
        let Member { identity, value, weight } = member;
        let size = u64::from(size);
        Self {
            identity,
            value,
            weight,
            position: (position % size) as u32,
            skip: (skip % (size - 1) + 1) as u32,
        }
    }

    /// The entry that it likes best of those it has not come by, which it comes by.
    #[inline]
    fn walk(&mut self, size: u32) -> u32 {
        let here = self.position;
        let next = here + self.skip;
        self.position = if next >= size { next - size } else { next };
        here
    }

    /// Between two turns. Largest time: 2⁴⁰ for each of 2²⁰ entries.
    #[inline]
    fn interval(&self) -> u64 {
        (1 << 40) / u64::from(self.weight.max(1))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every bit of the input moves every bit of the output.
fn mix(word: u64) -> u64 {
    let z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Whether a table may have so many entries.
pub fn is_prime(number: u32) -> bool {
    let number = u64::from(number);
    number >= 2
        && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| number % divisor != 0)
}

#[cfg(test)]
mod tests;
