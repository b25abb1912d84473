//! Threads for calls that block. Each has a queue of its own, and takes from the others' when that is empty.
//!
//! Owns: the threads, and what is on its way to and from them. Keeps true: what was submitted is done once, and its answer is
//! there before the bell rings; dropped, it waits for what is being done, and does what was submitted.

use crate::driver::Operation;
use crate::remote::Remote;
use crate::system::do_with_file;
use crossbeam_queue::SegQueue;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Threads: as many calls as a disk profits from at a time.
const THREADS: usize = 4;

/// A call to make.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u32,
    pub(super) operation: Operation,
    pub(super) file: Arc<OwnedFd>,
    pub(super) other: Option<Arc<OwnedFd>>,
    pub(super) buffer: Vec<u8>,
    pub(super) buffers: Vec<Vec<u8>>,
}

/// One that was made.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) number: u32,
    pub(super) buffer: Vec<u8>,
    pub(super) buffers: Vec<Vec<u8>>,
    pub(super) result: Result<usize, Errno>,
}

#[derive(Debug)]
struct Shared {
    queues: [SegQueue<Job>; THREADS],
    /// Jobs that no thread has claimed yet; none when it is over.
    unclaimed: Mutex<Option<usize>>,
    more: Condvar,
    done: SegQueue<Done>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Threads {
    shared: Arc<Shared>,
    running: RefCell<Vec<JoinHandle<()>>>,
    next: Cell<usize>,
    remote: Cell<Option<&'static Remote>>,
}

impl Threads {
    pub(super) fn new() -> Self {
        let shared = Shared {
            queues: Default::default(),
            unclaimed: Mutex::new(Some(0)),
            more: Condvar::new(),
            done: SegQueue::new(),
        };
        Self {
            shared: Arc::new(shared),
            running: RefCell::default(),
            next: Cell::new(0),
            remote: Cell::new(None),
        }
    }

    /// Whose bell is rung.
    pub(super) fn answer_to(&self, remote: &'static Remote) {
        self.remote.set(Some(remote));
    }

    /// Hands over a call. Where no thread can be had, it is made here.
    pub(super) fn submit(&self, job: Job) {
        let mut running = self.running.borrow_mut();
        if running.len() < THREADS
            && let Some(remote) = self.remote.get()
        {
            let (shared, own) = (self.shared.clone(), running.len());
            let started = Builder::new().name(format!("pool-{own}")).spawn(move || shared.run(own, remote));
            running.extend(started);
        }
        if running.is_empty() {
            return self.shared.perform(job);
        }
        self.next.set((self.next.get() + 1) % running.len());
        self.shared.queues[self.next.get()].push(job);
        let mut unclaimed = self.shared.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unclaimed) = &mut *unclaimed {
            *unclaimed += 1;
        }
        drop(unclaimed);
        self.shared.more.notify_one();
    }

    /// Whether an answer is there.
    pub(super) fn has_done(&self) -> bool {
        !self.shared.done.is_empty()
    }

    /// An answer.
    pub(super) fn take_done(&self) -> Option<Done> {
        self.shared.done.pop()
    }
}

impl Shared {
    /// A thread's life.
    fn run(&self, own: usize, remote: &Remote) {
        loop {
            {
                let unclaimed = self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
                let waits = |unclaimed: &mut Option<usize>| *unclaimed == Some(0);
                let mut unclaimed =
                    self.more.wait_while(unclaimed, waits).unwrap_or_else(PoisonError::into_inner);
                match &mut *unclaimed {
                    Some(unclaimed) => *unclaimed -= 1,
                    None => return self.rest(own),
                }
            }
            // One that was claimed is in one of the queues; its own is the first.
            let job = loop {
                if let Some(job) = (0..THREADS).find_map(|step| self.queues[(own + step) % THREADS].pop()) {
                    break job;
                }
            };
            self.perform(job);
            remote.bell().ring();
        }
    }

    /// What is left at the end.
    fn rest(&self, own: usize) {
        while let Some(job) = self.queues[own].pop() {
            self.perform(job);
        }
    }

    fn perform(&self, job: Job) {
        let Job { number, operation, file, other, mut buffer, mut buffers } = job;
        let result = loop {
            let other = other.as_ref().map(AsFd::as_fd);
            match do_with_file(operation, file.as_fd(), other, &mut buffer, &mut buffers) {
                Err(Errno::INTR) => {}
                result => break result,
            }
        };
        // The file's owner may close it now.
        drop((file, other));
        self.done.push(Done { number, buffer, buffers, result });
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        *self.shared.unclaimed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.shared.more.notify_all();
        for thread in self.running.get_mut().drain(..) {
            let _ = thread.join();
        }
    }
}
