use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use zsync_packet::flow::HashKey;

const SECOND: u64 = 1_000_000_000;
const TIMEOUT: u64 = 30 * SECOND;
const FIRST: Transport = Transport { source_port: 4000, destination_port: 53, protocol: 17 };

fn table(capacity: usize) -> Fragments {
    Fragments::open(Region::heap(Fragments::bytes(capacity)), capacity, TIMEOUT).unwrap()
}

fn datagram(id: u16) -> FlowKey {
    FlowKey::v4(([10, 0, 0, 1].into(), id), ([10, 0, 0, 2].into(), 0), 17)
}

fn piece(offset: u16, len: u16, more: bool) -> Piece {
    Piece { offset, len, more, transport: (offset == 0).then_some(FIRST) }
}

/// Sends the pieces as datagram `id`.
fn send(table: &Fragments, id: u16, pieces: &[Piece]) -> Vec<Arrival> {
    let key = datagram(id);
    let hash = key.hash(&HashKey::from_seed(1));
    let arrive = |piece| table.arrive(table.slot(&key, hash, SECOND).number, piece);
    pieces.iter().map(arrive).collect()
}

const KNOWN: Arrival = Arrival::Known(FIRST);

fn refused(reason: DropReason) -> Arrival {
    Arrival::Refused(reason)
}

#[test]
fn later_fragments_get_the_ports_of_the_first_and_a_whole_datagram_is_forgotten() {
    let table = table(64);
    assert_eq!(send(&table, 1, &[piece(0, 1480, true), piece(1480, 1480, true)]), [KNOWN; 2]);
    assert_eq!(table.live(SECOND), 1);
    assert_eq!(send(&table, 1, &[piece(2960, 3, false)]), [KNOWN]);
    assert_eq!(table.live(SECOND), 0);
    // The last one first, when the first is there.
    assert_eq!(send(&table, 1, &[piece(0, 8, true), piece(16, 8, false), piece(8, 8, true)]), [KNOWN; 3]);
    assert_eq!(table.live(SECOND), 0);
}

#[test]
fn before_the_first_nothing_is_noted() {
    let table = table(64);
    let (second, last) = (piece(8, 8, true), piece(16, 1, false));
    assert_eq!(send(&table, 1, &[second, last, second]), [Arrival::Early; 3]);
    assert_eq!(send(&table, 1, &[piece(0, 8, true), second, last]), [KNOWN; 3]);
}

#[test]
fn an_overlap_ends_the_datagram_and_a_duplicate_only_itself() {
    let overlap = refused(DropReason::FragmentOverlap);
    let table = table(64);
    let start = [piece(0, 24, true), piece(24, 24, true)];
    send(&table, 1, &start);
    // Again, and the bytes of both: nothing new.
    assert_eq!(
        send(&table, 1, &[start[1], piece(8, 16, true), piece(48, 8, true)]),
        [overlap, overlap, KNOWN]
    );
    // One unit of old and one of new: from here on nothing is to be trusted.
    let bad = piece(48, 16, true);
    assert_eq!(send(&table, 1, &[bad, piece(56, 8, false), start[0]]), [overlap; 3]);
    // RFC 1858 and RFC 3128: the flags of a TCP header written over by a second fragment at 8.
    send(&table, 2, &[piece(0, 24, true)]);
    assert_eq!(send(&table, 2, &[Piece { offset: 8, len: 40, more: true, transport: None }]), [overlap]);
}

#[test]
fn there_is_one_end() {
    let malformed = refused(DropReason::FragmentMalformed);
    let table = table(64);
    let first = piece(0, 8, true);
    assert_eq!(send(&table, 1, &[first, piece(32, 8, false), piece(40, 8, true)])[2], malformed);
    assert_eq!(send(&table, 2, &[first, piece(32, 8, false), piece(16, 8, false)])[2], malformed);
    assert_eq!(send(&table, 3, &[first, piece(32, 8, true), piece(16, 8, false)])[2], malformed);
    assert_eq!(send(&table, 4, &[first, piece(32, 8, true), piece(40, 1, false)])[2], KNOWN);
}

#[test]
fn more_parts_than_it_can_remember_end_the_datagram() {
    let table = table(64);
    let pieces: Vec<Piece> = (0..=PARTS as u16).map(|i| piece(i * 16, 8, true)).collect();
    let seen = send(&table, 1, &pieces);
    assert!(seen[..PARTS].iter().all(|arrival| *arrival == KNOWN));
    assert_eq!(seen[PARTS], refused(DropReason::FragmentTableFull));
}

#[test]
fn what_takes_too_long_is_forgotten() {
    let table = table(64);
    let key = datagram(1);
    let first = table.slot(&key, 5, SECOND);
    table.arrive(first.number, &piece(0, 8, true));
    assert_eq!(table.slot(&key, 5, TIMEOUT), Slot { fresh: false, ..first });
    let again = table.slot(&key, 5, TIMEOUT + 2 * SECOND);
    assert!(again.fresh);
    assert_eq!(table.arrive(again.number, &piece(8, 8, true)), Arrival::Early);
}

#[test]
fn a_flood_takes_no_more_room_than_there_is_and_the_oldest_goes_first() {
    let table = table(64);
    let key = HashKey::from_seed(7);
    let mut fresh = 0;
    for id in 0..10_000u16 {
        let datagram = datagram(id);
        let hash = datagram.hash(&key);
        fresh += usize::from(table.slot(&datagram, hash, SECOND + u64::from(id) * 2_000_000).fresh);
    }
    assert_eq!(fresh, 10_000);
    assert_eq!(table.live(SECOND), 64);
    // The newest of all is still there, however the hashes fell.
    let last = datagram(9_999);
    assert!(!table.slot(&last, last.hash(&key), SECOND + 20_000_000_000).fresh);
    // Even when all hashes are equal, a bucket's worth is kept apart.
    let later = 60 * SECOND;
    for id in 0..8 {
        table.slot(&datagram(id), 0, later);
    }
    assert!((0..8).all(|id| !table.slot(&datagram(id), 0, later).fresh));
}

#[test]
fn a_successor_finds_what_was_there_and_a_short_region_is_refused() {
    let region = Region::heap(Fragments::bytes(64));
    let key = datagram(9);
    let first = Fragments::open(region.clone(), 64, TIMEOUT).unwrap();
    first.arrive(first.slot(&key, 77, SECOND).number, &piece(0, 8, true));
    let second = Fragments::open(region.clone(), 64, TIMEOUT).unwrap();
    let slot = second.slot(&key, 77, SECOND);
    assert!(!slot.fresh);
    assert_eq!(second.arrive(slot.number, &piece(8, 8, true)), KNOWN);
    assert!(Fragments::open(region, 65, TIMEOUT).is_none());
}

/// What a datagram is, byte by byte: the oracle.
#[derive(Default)]
struct Model {
    first: bool,
    refused: bool,
    length: Option<u32>,
    passed: Vec<bool>,
}

impl Model {
    fn arrive(&mut self, piece: &Piece) -> Arrival {
        if self.refused {
            return Arrival::Refused(DropReason::FragmentOverlap);
        }
        if !self.first && piece.offset != 0 {
            return Arrival::Early;
        }
        // The last unit counts whole.
        let (from, end) = (usize::from(piece.offset), u32::from(piece.offset) + u32::from(piece.len));
        let to = end.next_multiple_of(8) as usize;
        self.passed.resize(self.passed.len().max(to), false);
        let seen = self.passed[from..to].iter().filter(|passed| **passed).count();
        if seen == to - from {
            return Arrival::Refused(DropReason::FragmentOverlap);
        }
        let beyond = self.passed[to..].contains(&true);
        let bad_end = match (piece.more, self.length) {
            (false, Some(_)) => true,
            (false, None) => beyond,
            (true, Some(length)) => end > length,
            (true, None) => false,
        };
        if seen > 0 || bad_end {
            self.refused = true;
            let reason = if seen > 0 { DropReason::FragmentOverlap } else { DropReason::FragmentMalformed };
            return Arrival::Refused(reason);
        }
        self.passed[from..to].fill(true);
        self.first |= piece.offset == 0;
        self.length = if piece.more { self.length } else { Some(end) };
        KNOWN
    }

    fn is_whole(&self) -> bool {
        self.length.is_some_and(|length| {
            let units = (length as usize).next_multiple_of(8);
            self.passed.len() >= units && self.passed[..units].iter().all(|passed| *passed)
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any pieces of a few datagrams, in any order: what the table says is what a map of bytes says.
    #[test]
    fn the_table_agrees_with_a_map_of_bytes(
        sent in prop::collection::vec((0u16..3, 0u16..12, 1u16..5, 0u16..8, any::<bool>()), 1..60),
    ) {
        let table = table(64);
        let mut models: HashMap<u16, Model> = HashMap::new();
        for (id, offset, units, odd, more) in sent {
            let len = units * 8 - if more { 0 } else { odd };
            let piece = piece(offset * 8, len, more);
            let model = match models.entry(id) {
                Entry::Occupied(model) => model.into_mut(),
                Entry::Vacant(place) => place.insert(Model::default()),
            };
            let expected = model.arrive(&piece);
            prop_assert_eq!(send(&table, id, &[piece]), [expected], "{} {:?}", id, piece);
            if model.is_whole() {
                models.remove(&id);
            }
        }
    }

    /// Cut anywhere and shuffled, with the first fragment ahead: all of it passes, and nothing is left.
    #[test]
    fn honest_fragments_in_any_order_pass(
        cuts in prop::collection::btree_set(1u16..200, 1..15), last in 1u16..=8, seed: u64,
    ) {
        let table = table(64);
        let mut edges: Vec<u16> = std::iter::once(0).chain(cuts).collect();
        let end = edges.pop().unwrap() * 8;
        edges.push(end / 8);
        let mut pieces: Vec<Piece> = edges
            .windows(2)
            .map(|edge| piece(edge[0] * 8, (edge[1] - edge[0]) * 8, true))
            .collect();
        pieces.push(piece(end, last, false));
        // Fisher and Yates, but for the first.
        let mut state = seed;
        for i in (2..pieces.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            pieces.swap(i, 1 + (state >> 33) as usize % i);
        }
        prop_assert!(send(&table, 1, &pieces).iter().all(|arrival| *arrival == KNOWN));
        prop_assert_eq!(table.live(SECOND), 0);
    }
}
