use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use zsync_packet::region::Region;

struct Heap(Region);

impl Memory for Heap {
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

const OFFSETS: RingOffsets = RingOffsets { producer: 0, consumer: 64, flags: 128, entries: 192 };

/// Both sides of one ring, in memory, whose indices start at `start`.
fn wired(size: u32, start: u32) -> (Producer<u64>, Consumer<u64>, Region) {
    let region = Region::heap(192 + size as usize * 8);
    for offset in [0, 64] {
        region.u32s(offset, 1).unwrap()[0].store(start, Ordering::Relaxed);
    }
    let memory: Arc<dyn Memory> = Arc::new(Heap(region.clone()));
    let producer = Producer::new(Arc::clone(&memory), OFFSETS, size).unwrap();
    (producer, Consumer::new(memory, OFFSETS, size).unwrap(), region)
}

#[test]
fn refuses_sizes_and_mappings_that_do_not_fit() {
    let memory: Arc<dyn Memory> = Arc::new(Heap(Region::heap(4096)));
    assert!(Producer::<u64>::new(Arc::clone(&memory), OFFSETS, 3).is_none());
    assert!(Producer::<u64>::new(Arc::clone(&memory), OFFSETS, 1024).is_none());
    assert!(Producer::<Descriptor>::new(Arc::clone(&memory), OFFSETS, 128).is_some());
    let odd = RingOffsets { entries: 196, ..OFFSETS };
    assert!(Consumer::<u64>::new(memory, odd, 8).is_none());
}

#[test]
fn a_lying_producer_index_yields_at_most_the_ring() {
    let (_, mut consumer, region) = wired(8, 0);
    region.u32s(0, 1).unwrap()[0].store(5_000_000, Ordering::Relaxed);
    assert_eq!(consumer.peek(64), 8);
    assert_eq!(consumer.pending(), 8);
}

#[test]
fn to_expect_entries_submits_none() {
    let (mut producer, mut consumer, _) = wired(8, u32::MAX - 3);
    producer.write(0, 7);
    producer.expect(64);
    assert_eq!((consumer.peek(8), producer.pending()), (0, 0));
    producer.submit(1);
    assert_eq!((consumer.peek(8), consumer.read(0), consumer.index()), (1, 7, u32::MAX - 3));
}

#[test]
fn leftovers_are_what_was_submitted_and_what_was_only_marked() {
    let (mut producer, mut consumer, _) = wired(8, u32::MAX - 1);
    for i in 0..3 {
        producer.write(i, u64::from(i));
    }
    producer.submit(3);
    consumer.peek(1);
    consumer.release(1);
    producer.write(0, 3);
    producer.write(1, 4);
    let mark = producer.index_after(2);
    assert_eq!(producer.leftovers(mark), (vec![1, 2], vec![3, 4]));
    assert_eq!(producer.leftovers(producer.index_after(0)), (vec![1, 2], vec![]));
    assert_eq!(producer.leftovers(mark.wrapping_add(1000)), (vec![1, 2], vec![]), "a mark of another life");
}

proptest! {
    /// Any sequence of operations on the two sides is a bounded queue, also where the indices wrap.
    #[test]
    fn is_a_bounded_queue(
        start in prop_oneof![Just(0u32), Just(u32::MAX - 5), any::<u32>()],
        ops in proptest::collection::vec((any::<bool>(), 0..12u32), 0..200),
    ) {
        let (mut producer, mut consumer, _) = wired(8, start);
        let mut oracle = VecDeque::new();
        let mut value = 0;
        for (produce, count) in ops {
            if produce {
                let room = producer.reserve(count);
                prop_assert_eq!(room, count.min(8 - oracle.len() as u32));
                for i in 0..room {
                    producer.write(i, value);
                    oracle.push_back(value);
                    value += 1;
                }
                producer.submit(room);
            } else {
                let there = consumer.peek(count);
                prop_assert_eq!(there, count.min(oracle.len() as u32));
                for i in 0..there {
                    prop_assert_eq!(Some(consumer.read(i)), oracle.pop_front());
                }
                consumer.release(there);
            }
            prop_assert_eq!(producer.pending(), oracle.len() as u32);
            prop_assert_eq!(consumer.pending(), oracle.len() as u32);
        }
    }
}

#[test]
fn two_threads_pass_a_million_entries_in_order() {
    let (mut producer, mut consumer, _) = wired(256, u32::MAX - 100);
    const COUNT: u64 = 1_000_000;
    let sender = std::thread::spawn(move || {
        let mut next = 0;
        while next < COUNT {
            let room = producer.reserve(32).min((COUNT - next) as u32);
            for i in 0..room {
                producer.write(i, next + u64::from(i));
            }
            producer.submit(room);
            next += u64::from(room);
            if room == 0 {
                std::thread::yield_now();
            }
        }
    });
    let mut next = 0;
    while next < COUNT {
        let there = consumer.peek(64);
        for i in 0..there {
            assert_eq!(consumer.read(i), next + u64::from(i));
        }
        consumer.release(there);
        next += u64::from(there);
        if there == 0 {
            std::thread::yield_now();
        }
    }
    sender.join().unwrap();
}
