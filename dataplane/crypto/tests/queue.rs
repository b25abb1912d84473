//! Orders do what jobs do, and come back as they went.

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zsync_crypto::aead::queue::{Local, Order, Queue};
use zsync_crypto::aead::{Aead, Algorithm, Job, Key, NONCE_LEN, TAG_LEN};

/// Bytes of additional data before each text.
const HEAD: usize = 13;

fn nonce(n: usize) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&(n as u64).to_le_bytes());
    nonce
}

fn seal(key: &Arc<Key>, n: usize, buffer: Vec<u8>) -> Order<Vec<u8>> {
    let len = buffer.len();
    Order::seal(key.clone(), nonce(n), 0..HEAD, HEAD..len, buffer).unwrap()
}

fn open(key: &Arc<Key>, n: usize, buffer: Vec<u8>) -> Order<Vec<u8>> {
    let len = buffer.len();
    Order::open(key.clone(), nonce(n), 0..HEAD, HEAD..len, buffer).unwrap()
}

fn all(queue: &mut Local<Vec<u8>>) -> Vec<Order<Vec<u8>>> {
    queue.flush();
    let all: Vec<_> = std::iter::from_fn(|| queue.poll()).collect();
    assert!(queue.is_empty());
    all
}

#[test]
fn orders_of_any_mix_come_back_in_order_and_as_jobs_do_them() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let aead = Aead::new();
    let mut queue = Local::new(aead.clone(), 300);
    for round in 0..300 {
        let count = 1 + rng.next_u32() as usize % 300;
        let made: Vec<(Arc<Key>, Vec<u8>, bool)> = (0..count)
            .map(|_| {
                let algorithm = Algorithm::ALL[rng.next_u32() as usize % 3];
                let mut bytes = [0; 32];
                rng.fill_bytes(&mut bytes);
                let key = Arc::new(Key::new(algorithm, &bytes[..algorithm.key_len()]).unwrap());
                let mut buffer = vec![0; HEAD + rng.next_u32() as usize % 300 + TAG_LEN];
                rng.fill_bytes(&mut buffer);
                (key, buffer, rng.next_u32().is_multiple_of(2))
            })
            .collect();
        for (n, (key, buffer, opens)) in made.iter().enumerate() {
            let order = if *opens { open(key, n, buffer.clone()) } else { seal(key, n, buffer.clone()) };
            queue.submit(order).unwrap();
        }
        let orders = all(&mut queue);
        assert_eq!(orders.len(), count);
        for (n, (order, (key, mut buffer, opens))) in orders.into_iter().zip(made).enumerate() {
            let (head, data) = buffer.split_at_mut(HEAD);
            let mut jobs = [Job::new(&key, nonce(n), head, data)];
            if opens {
                aead.open(&mut jobs)
            } else {
                aead.seal(&mut jobs)
            }
            // Random bytes are not authentic.
            assert_eq!((order.is_done(), jobs[0].is_done()), (!opens, !opens), "round {round}, order {n}");
            assert!(order.into_buffer() == buffer, "round {round}, order {n}");
        }
    }
}

#[test]
fn what_was_sealed_opens_and_what_was_changed_is_wiped() {
    let key = Arc::new(Key::chacha([9; 32]));
    let mut queue = Local::new(Aead::new(), 100);
    for n in 0..100 {
        queue.submit(seal(&key, n, vec![n as u8; HEAD + n + TAG_LEN])).unwrap();
    }
    for (n, order) in all(&mut queue).into_iter().enumerate() {
        let mut buffer = order.into_buffer();
        let at = n * 31 % buffer.len();
        if n % 3 == 0 {
            buffer[at] ^= 1;
        }
        queue.submit(open(&key, n, buffer)).unwrap();
    }
    for (n, order) in all(&mut queue).into_iter().enumerate() {
        assert_eq!(order.is_done(), n % 3 != 0, "{n}");
        let shown = if order.is_done() { n as u8 } else { 0 };
        let buffer = order.into_buffer();
        assert!(buffer[HEAD..HEAD + n].iter().all(|byte| *byte == shown), "{n}");
    }
}

#[test]
fn what_does_not_fit_is_given_back_untouched() {
    let key = Arc::new(Key::chacha([9; 32]));
    let mut queue = Local::new(Aead::new(), 2);
    let buffer = vec![5; HEAD + 8 + TAG_LEN];
    queue.submit(seal(&key, 0, buffer.clone())).unwrap();
    queue.submit(seal(&key, 1, buffer.clone())).unwrap();
    // Done or not: as long as they were not polled for, they have their places.
    let given = queue.submit(seal(&key, 2, buffer.clone())).unwrap_err();
    queue.flush();
    let given = queue.submit(given).unwrap_err();
    assert!(queue.poll().is_some_and(|order| order.is_done()));
    assert_eq!(queue.len(), 1);
    queue.submit(given).unwrap();
    assert!(queue.poll().is_some_and(|order| order.is_done()));
    assert!(queue.poll().is_none(), "it waits for more, or for a flush");
    queue.flush();
    assert!(queue.poll().is_some_and(|order| order.is_done()));
    assert!(Local::new(Aead::new(), 0).submit(seal(&key, 3, buffer.clone())).is_err());
}

#[test]
fn a_part_is_done_without_a_flush() {
    let key = Arc::new(Key::chacha([9; 32]));
    let mut queue = Local::new(Aead::new(), 200);
    for n in 0..130 {
        queue.submit(seal(&key, n, vec![5; HEAD + 8 + TAG_LEN])).unwrap();
    }
    assert_eq!(std::iter::from_fn(|| queue.poll()).count(), 128);
    assert_eq!(queue.len(), 2);
}

#[test]
fn ranges_that_are_not_in_the_buffer_are_refused() {
    let key = Arc::new(Key::chacha([9; 32]));
    let order = |aad, data| Order::seal(key.clone(), [0; NONCE_LEN], aad, data, vec![1_u8; 64]);
    assert!(order(0..16, 16..64).is_ok());
    for (aad, data) in [(0..16, 16..65), (0..17, 16..64), (0..0, 65..65), (0..16, usize::MAX..usize::MAX)] {
        assert_eq!(order(aad, data).unwrap_err(), [1; 64]);
    }
    #[allow(clippy::reversed_empty_ranges)]
    let turned = order(0..0, 40..20);
    assert_eq!(turned.unwrap_err(), [1; 64]);
}

/// A buffer that is counted, and gets shorter when it is told so.
struct Counted {
    bytes: Vec<u8>,
    live: Arc<AtomicUsize>,
    short: Arc<AtomicUsize>,
}

impl AsMut<[u8]> for Counted {
    fn as_mut(&mut self) -> &mut [u8] {
        let len = self.bytes.len() - self.short.load(Ordering::Relaxed);
        &mut self.bytes[..len]
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_queue_that_is_dropped_drops_its_buffers_and_keys() {
    let key = Arc::new(Key::chacha([9; 32]));
    let (live, short) = (Arc::new(AtomicUsize::new(70)), Arc::new(AtomicUsize::new(0)));
    let mut queue = Local::new(Aead::new(), 70);
    for n in 0..70 {
        let buffer = Counted { bytes: vec![1; 40], live: live.clone(), short: short.clone() };
        let order = Order::seal(key.clone(), nonce(n), 0..4, 4..40, buffer);
        assert!(queue.submit(order.unwrap_or_else(|_| unreachable!())).is_ok());
    }
    drop(queue.poll());
    assert_eq!((live.load(Ordering::Relaxed), Arc::strong_count(&key)), (69, 70));
    drop(queue);
    assert_eq!((live.load(Ordering::Relaxed), Arc::strong_count(&key)), (0, 1));
}

#[test]
fn a_buffer_that_got_shorter_is_wiped_and_the_others_are_done() {
    let key = Arc::new(Key::chacha([9; 32]));
    let live = Arc::new(AtomicUsize::new(3));
    let shorts: Vec<_> = (0..3).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let mut queue = Local::new(Aead::new(), 3);
    for (n, short) in shorts.iter().enumerate() {
        let buffer = Counted { bytes: vec![1; 40], live: live.clone(), short: short.clone() };
        let order = Order::seal(key.clone(), nonce(n), 0..4, 4..40, buffer);
        assert!(queue.submit(order.unwrap_or_else(|_| unreachable!())).is_ok());
    }
    shorts[1].store(1, Ordering::Relaxed);
    queue.flush();
    let done: Vec<_> = std::iter::from_fn(|| queue.poll()).collect();
    assert_eq!(done.iter().map(Order::is_done).collect::<Vec<_>>(), [true, false, true]);
    let wiped = done.into_iter().nth(1).map(Order::into_buffer);
    assert!(wiped.is_some_and(|buffer| buffer.bytes[..39].iter().all(|byte| *byte == 0)));
}
