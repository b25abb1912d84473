//! Batches that are handed over, and come back when they are done: what works beside the processor has the same face.
//!
//! Owns: orders, each with its buffer and key, from when they are submitted until they are polled for. Refuses: orders
//! beyond its capacity, which it gives back. Keeps true: orders come back in the order in which they were submitted,
//! and those that failed with their data wiped; a queue allocates nothing once it is made; one that is dropped drops
//! its buffers as they are.

use super::{Aead, Job, Key, NONCE_LEN, PART, Way};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A packet to seal or to open, and the buffer it is in.
#[derive(Debug)]
pub struct Order<B> {
    way: Way,
    key: Arc<Key>,
    nonce: [u8; NONCE_LEN],
    aad: Range<usize>,
    data: Range<usize>,
    buffer: B,
    done: bool,
}

impl<B: AsMut<[u8]>> Order<B> {
    /// Seals the bytes `data` of `buffer`, as [`Job::new`] has it; `aad` are the bytes of it that are authenticated
    /// only, and are before them. The error is the buffer: it is too short, or the ranges are not in this order.
    pub fn seal(
        key: Arc<Key>,
        nonce: [u8; NONCE_LEN],
        aad: Range<usize>,
        data: Range<usize>,
        buffer: B,
    ) -> Result<Self, B> {
        Self { way: Way::Seal, key, nonce, aad, data, buffer, done: false }.checked()
    }

    /// Opens them.
    pub fn open(
        key: Arc<Key>,
        nonce: [u8; NONCE_LEN],
        aad: Range<usize>,
        data: Range<usize>,
        buffer: B,
    ) -> Result<Self, B> {
        Self { way: Way::Open, key, nonce, aad, data, buffer, done: false }.checked()
    }

    fn checked(mut self) -> Result<Self, B> {
        if self.job().is_some() { Ok(self) } else { Err(self.buffer) }
    }

    /// `None`: its buffer has not all of its ranges.
    fn job(&mut self) -> Option<Job<'_>> {
        let (before, rest) = self.buffer.as_mut().split_at_mut_checked(self.data.start)?;
        let len = self.data.end.checked_sub(self.data.start)?;
        Some(Job::new(&self.key, self.nonce, before.get(self.aad.clone())?, rest.get_mut(..len)?))
    }
}

impl<B> Order<B> {
    /// Whether it was done: sealed, or opened and authentic. If it was polled for and is not, its data are zeros.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Its buffer.
    #[inline]
    pub fn into_buffer(self) -> B {
        self.buffer
    }
}

/// What does orders.
pub trait Queue<B: AsMut<[u8]>> {
    /// Takes an order. The error is the order: the queue is full of what was not polled for.
    fn submit(&mut self, order: Order<B>) -> Result<(), Order<B>>;

    /// Sees to it that all that was submitted will be done without more being submitted.
    fn flush(&mut self);

    /// The next order that was worked on, in the order of submission. `None`: none yet. Never waits.
    fn poll(&mut self) -> Option<Order<B>>;

    /// Orders that were submitted and not polled for.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Works on this processor, in the caller's time: as soon as there are enough orders for a part, or at [`Queue::flush`].
#[derive(Debug)]
pub struct Local<B> {
    aead: Aead,
    orders: VecDeque<Order<B>>,
    /// How many of them wait: the last ones.
    waiting: usize,
    capacity: usize,
}

impl<B: AsMut<[u8]>> Local<B> {
    /// For at most `capacity` orders at a time.
    pub fn new(aead: Aead, capacity: usize) -> Self {
        Self { aead, orders: VecDeque::with_capacity(capacity), waiting: 0, capacity }
    }

    /// Does those of the waiting orders that go this way; they are no more than a part.
    fn work(&mut self, way: Way) {
        let from = self.orders.len() - self.waiting;
        let filler = Key::chacha([0; 32]);
        let mut jobs: [Job<'_>; PART] = std::array::from_fn(|_| Job::new(&filler, [0; 12], &[], &mut []));
        let mut count = 0;
        for order in self.orders.range_mut(from..).filter(|order| order.way == way) {
            // An order that has lost its ranges since it was made keeps its place, as what has no room for a tag.
            if let Some(job) = order.job() {
                jobs[count] = job;
            }
            count += 1;
        }
        match way {
            Way::Seal => self.aead.seal(&mut jobs[..count]),
            Way::Open => self.aead.open(&mut jobs[..count]),
        }
        let done = jobs.map(|job| job.is_done());
        for (order, done) in self.orders.range_mut(from..).filter(|order| order.way == way).zip(done) {
            order.done = done;
            if !done {
                // If it has lost its ranges, nobody knows which bytes are its data.
                match order.job() {
                    Some(mut job) => job.end(false),
                    None => order.buffer.as_mut().fill(0),
                }
            }
        }
    }
}

impl<B: AsMut<[u8]>> Queue<B> for Local<B> {
    fn submit(&mut self, order: Order<B>) -> Result<(), Order<B>> {
        if self.orders.len() == self.capacity {
            return Err(order);
        }
        self.orders.push_back(order);
        self.waiting += 1;
        if self.waiting == PART {
            self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) {
        if self.waiting > 0 {
            self.work(Way::Seal);
            self.work(Way::Open);
            self.waiting = 0;
        }
    }

    fn poll(&mut self) -> Option<Order<B>> {
        if self.orders.len() == self.waiting { None } else { self.orders.pop_front() }
    }

    fn len(&self) -> usize {
        self.orders.len()
    }
}
