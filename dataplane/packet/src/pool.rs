//! A worker's frames: its free ones, and the account of those that it gave away.
//!
//! Each worker owns a slice of the arena and keeps its free frames in a stack (the last one freed is the one whose bytes
//! are still in the cache). A frame of another worker's slice goes home over that worker's ring of returns.
//!
//! Owns: the free list, this worker's hand on the [ledger](crate::ledger), and the counts against which the ledger is
//! checked. Refuses: frames that the kernel returns but was not given (counted, never used twice). Keeps true: the free
//! list, the counts and the ledger's bytes say the same, which [`Pool::audit`] proves at any pass boundary.

use crate::frame::{Arena, ArenaError, Frame, FrameSize, MAX_FRAMES};
use crate::ledger::{Ledger, MAX_WORKERS, Misplaced, Owner, home_slice, ledger_bytes};
use crate::region::Region;
use crossbeam_queue::ArrayQueue;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// What the ledger says of one worker's frames, beside what the worker's own structures say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Free frames.
    pub pool: u32,
    /// With the kernel to receive into (the RX ring's among them).
    pub fill: u32,
    /// In the worker's hands; 0 at a pass boundary.
    pub burst: u32,
    /// With the kernel to send (the completion ring's among them).
    pub tx: u32,
    /// Kept by stages.
    pub held: u32,
    /// On their way here from other workers.
    pub remote: u32,
    /// Frames that the ledger shows in the worker's hands or pool, and that the worker does not have.
    pub leaked: u32,
    /// Frames that came from where they were not, since the pool was opened.
    pub misplaced: u64,
}

impl Audit {
    /// Frames that this worker answers for. Over all workers, at rest, the sum is the arena.
    pub fn total(&self) -> u32 {
        self.pool + self.fill + self.burst + self.tx + self.held + self.remote
    }
}

/// What a takeover found; see [`Pool::recover`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Frames that the dead worker held: they are free again, and the packets in them are lost.
    pub freed: u32,
    /// Frames that the kernel still has.
    pub with_kernel: u32,
}

/// One worker's pool. See the module.
#[derive(Debug)]
pub struct Pool {
    arena: Arena,
    ledger: Ledger,
    home: Range<u32>,
    slice: u32,
    free: Vec<u32>,
    returns: Arc<ArrayQueue<u32>>,
    peers: Vec<Arc<ArrayQueue<u32>>>,
    given: [u32; Owner::KINDS],
    misplaced: u64,
}

impl Pool {
    /// An arena in this process's memory, all frames free, and a pool for each of `workers` workers.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn heap(size: FrameSize, frames: u32, workers: usize) -> Result<Vec<Self>, ArenaError> {
        let memory = Region::heap(frames as usize * size.bytes());
        // SAFETY: the memory was made here and nobody else knows of it.
        unsafe { Self::open(memory, Region::heap(ledger_bytes(frames)), size, frames, workers, false) }
    }

    /// Opens the arena in `memory` with its `ledger`, and gives each of `workers` workers an equal slice of it.
    ///
    /// With `takeover` the ledger's bytes are kept, for [`Self::recover`] to read; the devices first say what they find in
    /// their rings, by [`Self::found`]. Otherwise all frames are free, except those that the ledger already says are
    /// with the kernel to receive into: who opened the sockets filled their rings.
    ///
    /// # Errors
    /// Memory too short, too many frames, or more workers than frames or than [`MAX_WORKERS`].
    ///
    /// # Safety
    /// No other pool, in this process or another, is open over this memory.
    pub unsafe fn open(
        memory: Region,
        ledger: Region,
        size: FrameSize,
        frames: u32,
        workers: usize,
        takeover: bool,
    ) -> Result<Vec<Self>, ArenaError> {
        let limit = MAX_WORKERS.min(frames as usize);
        if workers == 0 || workers > limit {
            return Err(ArenaError::Workers { workers, frames, limit });
        }
        let arena = Arena::new(memory, size, frames)?;
        let slice = frames / workers as u32;
        let peers: Vec<_> = (0..workers).map(|_| Arc::new(ArrayQueue::new(frames as usize))).collect();
        (0..workers)
            .map(|worker| {
                let mut pool = Self {
                    arena: arena.clone(),
                    ledger: Ledger::new(ledger.clone(), frames, worker as u8, arena.tag())?,
                    home: home_slice(frames, workers, worker),
                    slice,
                    free: Vec::with_capacity(frames as usize),
                    returns: Arc::clone(&peers[worker]),
                    peers: peers.clone(),
                    given: [0; Owner::KINDS],
                    misplaced: 0,
                };
                if !takeover {
                    pool.take_stock();
                }
                Ok(pool)
            })
            .collect()
    }

    /// The frames' memory.
    #[inline]
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// This worker's number.
    pub fn worker(&self) -> u8 {
        self.ledger.worker()
    }

    /// Frames of its slice of the arena.
    pub fn frames(&self) -> u32 {
        self.home.end - self.home.start
    }

    /// Free frames at hand.
    #[inline]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// A free frame, its bytes as the last owner left them.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        if self.free.is_empty() {
            self.collect_returns();
        }
        let number = self.free.pop()?;
        match self.ledger.claim(number, Owner::Pool) {
            Ok(frame) => Some(frame),
            Err(misplaced) => {
                self.note(misplaced);
                None
            }
        }
    }

    /// Up to `want` free frames, one after the other, as [`Self::alloc`] gives them. Returns how many.
    #[inline]
    pub fn alloc_many(&mut self, want: usize, mut each: impl FnMut(Frame)) -> usize {
        if self.free.len() < want {
            self.collect_returns();
        }
        let from = self.free.len().saturating_sub(want);
        let owners = self.ledger.owners();
        let mut came = 0;
        for number in self.free.drain(from..).rev() {
            match owners.claim(number, Owner::Pool) {
                Ok(frame) => {
                    came += 1;
                    each(frame);
                }
                Err(_) => self.misplaced += 1,
            }
        }
        came
    }

    /// Frees frames, as [`Self::free`] does with each.
    #[inline]
    pub fn free_many(&mut self, frames: impl ExactSizeIterator<Item = Frame>) {
        // The free list has room for the whole arena, so nothing is allocated. With the length known ahead, the loop
        // does not touch the list's own.
        let mut top = self.free.len();
        self.free.resize(top + frames.len(), 0);
        let home = self.home.clone();
        let owners = self.ledger.owners();
        for frame in frames {
            if home.contains(&frame.number())
                && let Some(slot) = self.free.get_mut(top)
            {
                owners.set(&frame, Owner::Pool);
                *slot = frame.into_raw() & (MAX_FRAMES - 1);
                top += 1;
            } else {
                send_home(&self.ledger, &self.peers, self.slice, frame);
            }
        }
        self.free.truncate(top);
    }

    /// Frees a frame: into this pool, or on the way to the worker whose slice it is of.
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        if self.home.contains(&frame.number()) {
            self.ledger.set(&frame, Owner::Pool);
            self.free.push(frame.number());
            let _ = frame.into_raw();
        } else {
            send_home(&self.ledger, &self.peers, self.slice, frame);
        }
    }

    /// Takes the frames that other workers sent home. Housekeeping, and when the pool is empty.
    pub fn collect_returns(&mut self) {
        while let Some(number) = self.returns.pop() {
            match self.ledger.claim(number, Owner::Remote) {
                Ok(frame) => self.free(frame),
                Err(misplaced) => self.note(misplaced),
            }
        }
    }

    /// Hands a frame to another worker: it is on the way, until that worker [adopts](Self::adopt) it.
    #[inline]
    pub fn hand_over(&self, frame: &Frame, worker: u8) {
        self.ledger.set_for(frame, Owner::Remote, worker);
    }

    /// Notes that a frame of the worker's is kept for later, until the worker [adopts](Self::adopt) it again. If it dies
    /// before, [`Self::recover`] frees the frame.
    #[inline]
    pub fn hold(&self, frame: &Frame) {
        self.ledger.set(frame, Owner::Held);
    }

    /// Takes a frame that was handed over to this worker, or that it had [put aside](Self::hold).
    #[inline]
    pub fn adopt(&self, frame: &Frame) {
        self.ledger.set(frame, Owner::Burst);
    }

    /// Gives a frame to the kernel, `to` receive into or to send; the descriptor is the caller's to submit, and the
    /// [mark](Self::mark) to be set before.
    #[inline]
    pub fn give(&mut self, frame: Frame, to: Owner) {
        self.ledger.set(&frame, to);
        self.given[to as usize] += 1;
        let _ = frame.into_raw();
    }

    /// Gives frames to the kernel, as [`Self::give`] does with each.
    #[inline]
    pub fn give_many(&mut self, frames: impl Iterator<Item = Frame>, to: Owner) {
        let owners = self.ledger.owners();
        let mut count = 0;
        for frame in frames {
            owners.set(&frame, to);
            let _ = frame.into_raw();
            count += 1;
        }
        self.given[to as usize] += count;
    }

    /// Takes the frame with this number back from the kernel, which had it as `from`.
    ///
    /// # Errors
    /// The kernel was not given that frame, or returned it already: it is counted, and must not be used.
    #[inline]
    pub fn take(&mut self, number: u32, from: Owner) -> Result<Frame, Misplaced> {
        // What is in the worker's hands exists as a frame already.
        if !matches!(from, Owner::Fill | Owner::Tx) {
            let misplaced = Misplaced { number, owner: u8::MAX };
            self.note(misplaced);
            return Err(misplaced);
        }
        match self.ledger.claim(number, from) {
            Ok(frame) => {
                self.given[from as usize] = self.given[from as usize].saturating_sub(1);
                Ok(frame)
            }
            Err(misplaced) => {
                self.note(misplaced);
                Err(misplaced)
            }
        }
    }

    /// Frames that are with the kernel as `owner`.
    #[inline]
    pub fn given(&self, owner: Owner) -> u32 {
        self.given[owner as usize]
    }

    /// The mark number `mark`: the producer index that a submission in flight will reach. Each fill and TX ring has its own.
    pub fn mark(&self, mark: usize) -> Option<&AtomicU32> {
        self.ledger.mark(mark)
    }

    #[cold]
    fn note(&mut self, _misplaced: Misplaced) {
        self.misplaced += 1;
    }

    /// During a takeover: a device found frame `number` in a ring, whose frames are `owner`'s.
    pub fn found(&mut self, number: u32, owner: Owner) {
        if number < self.arena.frames() {
            self.ledger.assign(number, owner);
        }
    }

    /// Ends a takeover, after every device of every worker has said what it [found](Self::found): the frames that the dead
    /// workers held are free, the others stay with the kernel. One answer for each pool.
    pub fn recover(pools: &mut [Self]) -> Vec<Recovered> {
        let mut freed = vec![0; pools.len()];
        for dead in 0..pools.len() {
            for number in 0..pools[dead].arena.frames() {
                let orphan = match pools[dead].ledger.owner(number) {
                    Some(Owner::Burst | Owner::Held | Owner::Remote) => true,
                    // Freed, but not home yet.
                    Some(Owner::Pool) => !pools[dead].home.contains(&number),
                    _ => false,
                };
                if orphan {
                    freed[dead] += 1;
                    let home = pools[dead].home_of(number);
                    pools[home].ledger.assign(number, Owner::Pool);
                }
            }
        }
        let answer = |(pool, freed): (&mut Self, u32)| {
            pool.take_stock();
            Recovered { freed, with_kernel: pool.given(Owner::Fill) + pool.given(Owner::Tx) }
        };
        pools.iter_mut().zip(freed).map(answer).collect()
    }

    fn home_of(&self, number: u32) -> usize {
        home_of(number, self.slice, self.peers.len())
    }

    /// Fills the free list and the counts from the ledger's bytes.
    fn take_stock(&mut self) {
        // A fresh ledger is all zero, which names worker 0's pool: the slice's own worker claims its part.
        if self.worker() != 0 {
            for number in self.home.clone() {
                if self
                    .ledger
                    .bytes()
                    .get(number as usize)
                    .is_some_and(|b| b.load(std::sync::atomic::Ordering::Relaxed) == 0)
                {
                    self.ledger.assign(number, Owner::Pool);
                }
            }
        }
        self.free.clear();
        // Backwards, so that the lowest number is on top of the stack.
        for number in self.home.clone().rev() {
            if self.ledger.owner(number) == Some(Owner::Pool) {
                self.free.push(number);
            }
        }
        let census = self.ledger.census();
        self.given = [0; Owner::KINDS];
        for owner in [Owner::Fill, Owner::Tx] {
            self.given[owner as usize] = census[owner as usize];
        }
    }

    /// Counts the ledger's bytes, and compares them with what this worker has. `in_hand` is how many frames are in the
    /// worker's bursts and queues now, `held` how many its stages keep.
    pub fn audit(&self, in_hand: u32, held: u32) -> Audit {
        let census = self.ledger.census();
        let count = |owner: Owner| census[owner as usize];
        let missing = |owner: Owner, there: u32| count(owner).abs_diff(there);
        Audit {
            pool: count(Owner::Pool),
            fill: count(Owner::Fill),
            burst: count(Owner::Burst),
            tx: count(Owner::Tx),
            held: count(Owner::Held),
            remote: count(Owner::Remote),
            leaked: missing(Owner::Pool, self.free.len() as u32)
                + missing(Owner::Burst, in_hand)
                + missing(Owner::Held, held)
                + missing(Owner::Fill, self.given(Owner::Fill))
                + missing(Owner::Tx, self.given(Owner::Tx)),
            misplaced: self.misplaced,
        }
    }
}

/// Which worker's slice a frame is of; the last one's takes the remainder.
fn home_of(number: u32, slice: u32, workers: usize) -> usize {
    ((number / slice) as usize).min(workers - 1)
}

/// Sends a frame on its way to the worker whose slice it is of.
fn send_home(ledger: &Ledger, peers: &[Arc<ArrayQueue<u32>>], slice: u32, frame: Frame) {
    let worker = home_of(frame.number(), slice, peers.len());
    ledger.set_for(&frame, Owner::Remote, worker as u8);
    let number = frame.number();
    let _ = frame.into_raw();
    // The ring has room for every frame of the arena, so it cannot be full.
    let pushed = peers[worker].push(number);
    debug_assert!(pushed.is_ok(), "a ring of returns holds the whole arena");
}

#[cfg(test)]
mod tests;
