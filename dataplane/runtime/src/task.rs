//! A task: a future on its way, and what became of it.
//!
//! ```text
//!             ┌ Head ─────────────────────────────────────┐┌ Body ──────────────────────┐
//!   a block:  │ word, flags, joiner, ready list, siblings ││ the future, then its result │
//!             └───────────────────────────────────────────┘└────────────────────────────┘
//! ```
//!
//! Owns: the block, from the spawn until the task has ended and neither the ready list nor a handle knows it. Keeps true: a
//! future is polled by the thread of its executor, never within its own poll, and dropped once, there; what it returned is
//! taken or dropped once.
//!
//! What is unsafe in this module and below: the executor knows its tasks as pointers to heads, whatever their future. A
//! [`Pointer`] is valid while the block's holders say so: `ALIVE`, `QUEUED` and `HANDLE`, in its flags. All of it stays on the
//! executor's thread, as neither [`Tasks`] nor a [`Handle`] can be sent.

mod dump;
mod handle;
mod memory;
mod scopes;
mod tasks;
mod waker;

pub use dump::{Doing, Dump, Overrun, TaskDump};
pub use handle::{Ended, Handle};
pub(crate) use scopes::ScopeId;
pub use tasks::{Pass, Tasks};
use waker::MAX_TASKS;
pub(crate) use waker::{MAX_EXECUTORS, Word, with_current};

use crate::time::Instant;
use memory::{Class, Memory};
use std::alloc::Layout;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

/// It has not ended.
const ALIVE: u8 = 1;
/// It is in the ready list.
const QUEUED: u8 = 1 << 1;
/// A handle knows it.
const HANDLE: u8 = 1 << 2;
/// It is being polled.
const RUNNING: u8 = 1 << 3;
/// It has ended, and its result was taken.
const TAKEN: u8 = 1 << 4;
/// It was asked to come to an end.
const CANCELLED: u8 = 1 << 5;
/// It is to be dropped when its poll is over.
const ABORTED: u8 = 1 << 6;
/// It was woken while it was polled, by another or by what it spawned.
const WOKEN: u8 = 1 << 7;
/// Who keeps the block.
const HOLDERS: u8 = ALIVE | QUEUED | HANDLE;

/// What the executor knows of a task, whatever its future.
struct Head {
    flags: Cell<u8>,
    scope: ScopeId,
    word: Word,
    vtable: &'static Vtable,
    /// The next one in the ready list.
    next: Cell<Option<Pointer>>,
    /// Tasks of the same scope.
    younger: Cell<Option<Pointer>>,
    older: Cell<Option<Pointer>>,
    /// Who waits for its end.
    joiner: Cell<Option<Waker>>,
    /// The line that spawned it.
    spawned: &'static Location<'static>,
    /// The beginning of the pass in which it was last polled, or spawned.
    polled: Cell<Instant>,
}

impl Head {
    fn has(&self, flags: u8) -> bool {
        self.flags.get() & flags != 0
    }

    fn set(&self, flags: u8) {
        self.flags.set(self.flags.get() | flags);
    }

    fn clear(&self, flags: u8) {
        self.flags.set(self.flags.get() & !flags);
    }
}

/// What a task's future decides.
struct Vtable {
    /// Polls; true when it has returned.
    poll: unsafe fn(Pointer, &mut Context<'_>) -> bool,
    /// Drops the future of a task that has not ended, which has no result for this reason.
    end: unsafe fn(Pointer, Ended),
    /// Moves the result to where this pointer points, an `Ended<T>`.
    take: unsafe fn(Pointer, *mut ()),
    /// Drops what is left in the block.
    drop: unsafe fn(Pointer),
    class: Class,
}

/// A task, while one of its holders keeps it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pointer(NonNull<Head>);

impl Pointer {
    fn head<'a>(self) -> &'a Head {
        // SAFETY: the module's invariant: a pointer is only kept where a holder is. The head is never borrowed mutably.
        unsafe { self.0.as_ref() }
    }

    fn is(self, flags: u8) -> bool {
        self.head().has(flags)
    }
}

/// What is in a block. The head is first, so a pointer to it is one to the block.
#[repr(C)]
struct Block<F: Future> {
    head: Head,
    body: UnsafeCell<Body<F>>,
}

enum Body<F: Future> {
    Waiting(F),
    Ended(Result<F::Output, Ended>),
    Empty,
}

impl<F: Future + 'static> Block<F> {
    const VTABLE: &'static Vtable =
        &Vtable { poll: poll::<F>, end: end::<F>, take: take::<F>, drop: drop_body::<F>, class: Self::CLASS };
    const CLASS: Class = Class::of(Layout::new::<Self>());

    /// A task in a block of its own, alive and with a handle.
    #[inline]
    fn place(
        memory: &Memory,
        word: Word,
        scope: ScopeId,
        (spawned, now): (&'static Location<'static>, Instant),
        future: F,
    ) -> Pointer {
        let block = memory.take(Self::CLASS).cast::<Self>();
        let head = Head {
            flags: Cell::new(ALIVE | HANDLE),
            scope,
            word,
            vtable: Self::VTABLE,
            next: Cell::new(None),
            younger: Cell::new(None),
            older: Cell::new(None),
            joiner: Cell::new(None),
            spawned,
            polled: Cell::new(now),
        };
        // SAFETY: the block is ours, and its class is that of this type.
        unsafe { block.write(Self { head, body: UnsafeCell::new(Body::Waiting(future)) }) };
        Pointer(block.cast())
    }

    /// # Safety
    /// The task was placed with this future, a holder keeps it, and nobody else uses its body meanwhile.
    unsafe fn body<'a>(task: Pointer) -> &'a mut Body<F> {
        // SAFETY: the block begins with the head. What the body does while it is borrowed (a poll, a drop) may reach the
        // head, which is outside of this cell, but not the body: the executor looks at RUNNING and ALIVE first.
        unsafe { &mut *task.0.cast::<Self>().as_ref().body.get() }
    }
}

/// # Safety
/// As [`Block::body`]; the task is alive.
unsafe fn poll<F: Future + 'static>(task: Pointer, cx: &mut Context<'_>) -> bool {
    // SAFETY: the caller's promise.
    let body = unsafe { Block::<F>::body(task) };
    let Body::Waiting(future) = body else { return true };
    // SAFETY: the future stays where it is until it is dropped there: blocks do not move, and a body is only ever
    // overwritten, which drops in place.
    let future = unsafe { Pin::new_unchecked(future) };
    let Poll::Ready(output) = future.poll(cx) else { return false };
    finish(body, Ok(output));
    true
}

/// # Safety
/// As [`Block::body`]; the task is alive.
unsafe fn end<F: Future + 'static>(task: Pointer, why: Ended) {
    // SAFETY: the caller's promise.
    finish(unsafe { Block::<F>::body(task) }, Err(why));
}

/// Drops the future and leaves what became of it.
fn finish<F: Future>(body: &mut Body<F>, result: Result<F::Output, Ended>) {
    if !mem::needs_drop::<F>() {
        *body = Body::Ended(result);
        return;
    }
    // A future that panics in its drop has ended by that, whatever it returned.
    let dropped = catch_unwind(AssertUnwindSafe(|| *body = Body::Empty));
    *body = Body::Ended(dropped.map_or_else(|panic| Err(Ended::Panicked(panic)), |()| result));
}

/// # Safety
/// As [`Block::body`]; the task has ended, and `to` is where a `Result<F::Output, Ended>` may be written.
unsafe fn take<F: Future + 'static>(task: Pointer, to: *mut ()) {
    // SAFETY: the caller's promise.
    let body = unsafe { Block::<F>::body(task) };
    let Body::Ended(result) = mem::replace(body, Body::Empty) else { unreachable!("a result is taken once") };
    // SAFETY: the caller's promise.
    unsafe { to.cast::<Result<F::Output, Ended>>().write(result) };
}

/// # Safety
/// As [`Block::body`]; the task has ended.
unsafe fn drop_body<F: Future + 'static>(task: Pointer) {
    // SAFETY: the caller's promise.
    *unsafe { Block::<F>::body(task) } = Body::Empty;
}

/// What a panic was about.
fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("not a text")
}

#[cfg(test)]
mod tests;
