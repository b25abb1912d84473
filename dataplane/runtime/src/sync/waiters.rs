//! Who waits for the same thing, in the order in which they came.
//!
//! Keeps true: a waiter is told once, and holds that until it takes it or leaves; who leaves with it passes it on. Memory grows
//! to as many waiters as there were at a time.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::task::{Context, Poll, Waker};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Waits,
    Told,
}

struct Node {
    state: State,
    next: u32,
    before: u32,
    /// How much it waits for: its owner's measure.
    wants: u32,
    waker: Option<Waker>,
}

/// See the module.
pub(crate) struct Waiters {
    list: RefCell<List>,
    /// Waiters that have been told, and have not taken it yet.
    told: Cell<u32>,
}

struct List {
    nodes: Vec<Node>,
    free: u32,
    first: u32,
    last: u32,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        let list = List { nodes: Vec::new(), free: NONE, first: NONE, last: NONE };
        Self { list: RefCell::new(list), told: Cell::new(0) }
    }

    /// How many have been told and not taken it yet: what they are about to take is theirs.
    #[inline]
    pub(crate) fn told(&self) -> u32 {
        self.told.get()
    }

    /// Nobody waits who has not been told.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().first == NONE
    }

    /// What the one wants who has waited longest and has not been told. None: nobody waits.
    #[inline]
    pub(crate) fn first_wants(&self) -> Option<u32> {
        let list = self.list.borrow();
        list.nodes.get(list.first as usize).map(|node| node.wants)
    }

    /// Tells the one who has waited longest. False: nobody waits.
    pub(crate) fn tell_one(&self) -> bool {
        let waker = {
            let mut list = self.list.borrow_mut();
            let first = list.first;
            if first == NONE {
                return false;
            }
            list.unlink(first);
            let node = &mut list.nodes[first as usize];
            node.state = State::Told;
            node.waker.take()
        };
        self.told.set(self.told.get() + 1);
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// Tells all who wait now.
    pub(crate) fn tell_all(&self) {
        // Who is woken runs later, so those who come meanwhile are none of these.
        while self.tell_one() {}
    }
}

impl List {
    fn unlink(&mut self, index: u32) {
        let Node { next, before, .. } = self.nodes[index as usize];
        match before {
            NONE => self.first = next,
            before => self.nodes[before as usize].next = next,
        }
        match next {
            NONE => self.last = before,
            next => self.nodes[next as usize].before = before,
        }
    }

    fn join(&mut self, wants: u32, waker: Waker) -> u32 {
        let node = Node { state: State::Waits, next: NONE, before: self.last, wants, waker: Some(waker) };
        let index = match self.free {
            NONE => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
            free => {
                self.free = self.nodes[free as usize].next;
                self.nodes[free as usize] = node;
                free
            }
        };
        match self.last {
            NONE => self.first = index,
            last => self.nodes[last as usize].next = index,
        }
        self.last = index;
        index
    }

    fn forget(&mut self, index: u32) -> Option<Waker> {
        let free = self.free;
        let node = &mut self.nodes[index as usize];
        node.state = State::Free;
        node.next = free;
        self.free = index;
        self.nodes[index as usize].waker.take()
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters").field("told", &self.told).field("empty", &self.is_empty()).finish()
    }
}

/// One who waits, from the first poll to the last. Dropped, it leaves.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    waiters: &'a Waiters,
    index: u32,
    wants: u32,
}

impl<'a> Wait<'a> {
    /// It does not wait yet.
    pub(crate) fn new(waiters: &'a Waiters) -> Self {
        Self::wanting(waiters, 1)
    }

    /// It does not wait yet, and will for so much.
    pub(crate) fn wanting(waiters: &'a Waiters, wants: u32) -> Self {
        Self { waiters, index: NONE, wants }
    }

    /// Whether it has been told, and has not taken it.
    #[inline]
    pub(crate) fn is_told(&self) -> bool {
        self.index != NONE && self.waiters.list.borrow().nodes[self.index as usize].state == State::Told
    }

    /// Whether it has been told, and may take what it waits for; then it waits no more.
    #[inline]
    pub(crate) fn take(&mut self) -> bool {
        if self.index == NONE {
            return false;
        }
        let mut list = self.waiters.list.borrow_mut();
        if list.nodes[self.index as usize].state != State::Told {
            return false;
        }
        let waker = list.forget(self.index);
        drop(list);
        drop(waker);
        self.index = NONE;
        self.waiters.told.set(self.waiters.told.get() - 1);
        true
    }

    /// Ready when it has been told, as [`Wait::take`]; else it waits, last in the list if it did not.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.take() {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let mut list = self.waiters.list.borrow_mut();
        if self.index == NONE {
            self.index = list.join(self.wants, waker);
            return Poll::Pending;
        }
        let before = list.nodes[self.index as usize].waker.replace(waker);
        drop(list);
        drop(before);
        Poll::Pending
    }
}

impl Wait<'_> {
    /// Waits no more. What it was told goes to the next.
    pub(crate) fn leave(&mut self) {
        if self.index == NONE || self.take() && self.waiters.tell_one() {
            return;
        }
        if self.index != NONE {
            let waker = {
                let mut list = self.waiters.list.borrow_mut();
                list.unlink(self.index);
                list.forget(self.index)
            };
            self.index = NONE;
            drop(waker);
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
