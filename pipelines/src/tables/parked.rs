//! Packets that wait for something, as copies: a fixed number of places in a [`Region`].
//!
//! A frame cannot wait in a stage: every frame has an owner at every pass boundary, and a stage is none. So what must wait is
//! copied here, where a successor finds it too, and copied into a frame again when it may go on. That is for rare packets.
//!
//! Owns the places; one writer. Refuses: what is longer than [`LONGEST`], and nothing else: a full store makes room by giving
//! up what has waited longest. Keeps true: a place is in use only when all of it was written.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;

/// Longest packet that can wait, in bytes: one of a frame of 2 KiB.
pub const LONGEST: usize = 1792;

/// Words of a place beside its bytes: until when it waits; for what, where it came in and how long it is; its owner's note.
/// They lie together for all places, to be looked through fast.
const HEAD: usize = 3;
const WORDS: usize = LONGEST / 8;

/// See the module.
#[derive(Clone, Debug)]
pub struct Parked {
    region: Region,
    places: usize,
    /// Places in use.
    waiting: usize,
}

/// A packet that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its place.
    place: usize,
    /// What it waits for.
    pub reason: u32,
    /// Where it came in.
    pub port: PortId,
    /// Its bytes.
    pub len: usize,
    /// Until when, in nanoseconds.
    pub until: u64,
    /// What its owner wanted to remember.
    pub note: u64,
}

impl Parked {
    /// Bytes of a region for `places` packets.
    pub fn bytes(places: usize) -> usize {
        places * (HEAD + WORDS) * 8
    }

    /// The store in `region`, made for as many places. `None` when the region is too short or misaligned. A zeroed region
    /// is an empty store.
    pub fn open(region: Region, places: usize) -> Option<Self> {
        region.u64s(0, places * (HEAD + WORDS))?;
        let mut parked = Self { region, places, waiting: 0 };
        parked.count();
        Some(parked)
    }

    /// Counts anew what waits: for one that was opened while another writer was still at work, once that has stopped.
    pub fn count(&mut self) {
        self.waiting = self.all().count();
    }

    /// Packets that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether no packet waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Lets a packet wait for `reason` until `until` (nanoseconds, not 0). False when it is too long. When no place is free,
    /// what was to wait for the shortest time from now is given up, and goes to `given_up` first.
    pub fn park(
        &mut self,
        bytes: &[u8],
        port: PortId,
        reason: u32,
        note: u64,
        until: u64,
        given_up: impl FnOnce(&Ticket),
    ) -> bool {
        if bytes.is_empty() || bytes.len() > LONGEST || self.places == 0 {
            return false;
        }
        let free = (0..self.places).find(|&place| self.ticket(place).is_none());
        let place = match free {
            Some(place) => place,
            None => {
                let Some(oldest) = self.all().min_by_key(|ticket| ticket.until) else { return false };
                given_up(&oldest);
                self.give_up(&oldest);
                oldest.place
            }
        };
        let (Some([life, about, kept]), Some(words)) = (self.head(place), self.words(place)) else {
            return false;
        };
        for (word, bytes) in words.iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(padded), Relaxed);
        }
        about.store(u64::from(reason) | u64::from(port.0) << 32 | (bytes.len() as u64) << 48, Relaxed);
        kept.store(note, Relaxed);
        life.store(until.max(1), Release);
        self.waiting += 1;
        true
    }

    /// All that wait.
    pub fn all(&self) -> impl Iterator<Item = Ticket> {
        (0..self.places).filter_map(|place| self.ticket(place))
    }

    /// The packet of the lowest place that is `wanted`.
    pub fn find(&self, wanted: impl Fn(&Ticket) -> bool) -> Option<Ticket> {
        if self.waiting == 0 {
            return None;
        }
        self.all().find(wanted)
    }

    /// The packet of the lowest place that waits for `reason`.
    pub fn waiting_for(&self, reason: u32) -> Option<Ticket> {
        self.find(|ticket| ticket.reason == reason)
    }

    /// Writes a waiting packet's bytes to `out`, as many as fit.
    pub fn read(&self, ticket: &Ticket, out: &mut [u8]) {
        let Some(words) = self.words(ticket.place) else { return };
        let len = ticket.len.min(out.len());
        for (bytes, word) in out[..len].chunks_mut(8).zip(words) {
            bytes.copy_from_slice(&word.load(Relaxed).to_le_bytes()[..bytes.len()]);
        }
    }

    /// Frees a packet's place.
    pub fn give_up(&mut self, ticket: &Ticket) {
        if let Some([life, ..]) = self.head(ticket.place)
            && life.swap(0, Release) != 0
        {
            self.waiting -= 1;
        }
    }

    fn ticket(&self, place: usize) -> Option<Ticket> {
        let [life, about, note] = self.head(place)?;
        let until = life.load(Relaxed);
        if until == 0 {
            return None;
        }
        let about = about.load(Relaxed);
        let len = ((about >> 48) as usize).min(LONGEST);
        let (reason, port, note) = (about as u32, PortId((about >> 32) as u16), note.load(Relaxed));
        Some(Ticket { place, reason, port, len, until, note })
    }

    fn head(&self, place: usize) -> Option<&[AtomicU64; HEAD]> {
        if place >= self.places {
            return None;
        }
        self.region.u64s(place * HEAD * 8, HEAD)?.first_chunk()
    }

    fn words(&self, place: usize) -> Option<&[AtomicU64]> {
        self.region.u64s((self.places * HEAD + place * WORDS) * 8, WORDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(places: usize) -> Parked {
        Parked::open(Region::heap(Parked::bytes(places)), places).unwrap()
    }

    fn read(parked: &Parked, ticket: &Ticket) -> Vec<u8> {
        let mut bytes = vec![0xee; ticket.len];
        parked.read(ticket, &mut bytes);
        bytes
    }

    #[test]
    fn what_was_parked_comes_out_as_it_was() {
        let mut parked = store(4);
        for len in [1, 7, 8, 9, 60, 1500, LONGEST] {
            let packet: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            assert!(parked.park(&packet, PortId(3), len as u32, 77, 50, |_| panic!("there is room")));
            let ticket = parked.waiting_for(len as u32).unwrap();
            assert_eq!((ticket.port, ticket.until, ticket.note), (PortId(3), 50, 77));
            assert_eq!(read(&parked, &ticket), packet);
            parked.give_up(&ticket);
            parked.give_up(&ticket);
            assert!(parked.is_empty());
        }
        assert!(!parked.park(&[], PortId(0), 0, 0, 1, |_| ()));
        assert!(!parked.park(&[0; LONGEST + 1], PortId(0), 0, 0, 1, |_| ()));
    }

    #[test]
    fn a_full_store_gives_up_what_has_waited_longest() {
        let mut parked = store(3);
        for (i, until) in [30, 10, 20].into_iter().enumerate() {
            parked.park(&[i as u8], PortId(0), i as u32, 0, until, |_| panic!("there is room"));
        }
        let mut gone = None;
        assert!(parked.park(&[9], PortId(0), 9, 0, 40, |ticket| gone = Some(ticket.reason)));
        assert_eq!(gone, Some(1));
        assert_eq!((parked.len(), parked.waiting_for(1)), (3, None));
        let reasons: Vec<u32> = parked.all().map(|ticket| ticket.reason).collect();
        assert_eq!(reasons, [0, 9, 2]);
    }

    #[test]
    fn a_successor_finds_what_waits() {
        let region = Region::heap(Parked::bytes(2));
        let mut first = Parked::open(region.clone(), 2).unwrap();
        first.park(b"packet", PortId(1), 5, 0, 9, |_| ());
        let second = Parked::open(region.clone(), 2).unwrap();
        assert_eq!(second.len(), 1);
        assert_eq!(read(&second, &second.waiting_for(5).unwrap()), b"packet");
        assert!(Parked::open(region, 3).is_none());
    }
}
