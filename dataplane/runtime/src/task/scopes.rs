//! Which tasks are of which scope, and who waits until a scope is empty.
//!
//! Keeps true: each task that has not ended is in the list of its scope, once, but for those of [`ScopeId::ROOT`], which nobody asks for; a
//! scope's number is used again only when it is empty and left.

use super::{CANCELLED, Pointer, Tasks, Word};
use std::task::{Context, Poll, Waker};

/// A scope's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScopeId(u32);

impl ScopeId {
    /// The executor's own, which is never left, cancelled or waited for: its tasks are in no list.
    pub(crate) const ROOT: Self = Self(0);
}

#[derive(Default)]
struct Node {
    /// The task that opened it.
    owner: Option<Word>,
    youngest: Option<Pointer>,
    alive: u32,
    /// Who waits until it is empty.
    leaver: Option<Waker>,
    cancelled: bool,
    left: bool,
}

/// See the module.
pub(crate) struct Scopes {
    nodes: Vec<Node>,
    free: Vec<u32>,
}

impl Scopes {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }

    fn node(&mut self, scope: ScopeId) -> &mut Node {
        &mut self.nodes[scope.0 as usize]
    }

    fn open(&mut self, owner: Option<Word>) -> ScopeId {
        let scope = match self.free.pop() {
            Some(free) => ScopeId(free),
            None => {
                self.nodes.push(Node::default());
                ScopeId((self.nodes.len() - 1) as u32)
            }
        };
        self.node(scope).owner = owner;
        scope
    }

    /// The task that opened a scope, if any did; it may have ended.
    pub(super) fn owner(&self, scope: ScopeId) -> Option<Word> {
        self.nodes.get(scope.0 as usize)?.owner
    }

    /// A new task's; one of a cancelled scope is cancelled from the start.
    #[inline]
    pub(super) fn adopt(&mut self, scope: ScopeId, task: Pointer) {
        let node = self.node(scope);
        let head = task.head();
        if node.cancelled {
            head.set(CANCELLED);
        }
        head.older.set(node.youngest);
        if let Some(youngest) = node.youngest.replace(task) {
            youngest.head().younger.set(Some(task));
        }
        node.alive += 1;
    }

    /// A task has ended. Who waits for the last one of its scope is to be woken.
    #[inline(never)]
    pub(super) fn lose(&mut self, scope: ScopeId, task: Pointer) -> Option<Waker> {
        let node = self.node(scope);
        let (younger, older) = (task.head().younger.take(), task.head().older.take());
        match younger {
            Some(younger) => younger.head().older.set(older),
            None => node.youngest = older,
        }
        if let Some(older) = older {
            older.head().younger.set(younger);
        }
        node.alive -= 1;
        if node.alive > 0 {
            return None;
        }
        let leaver = node.leaver.take();
        if node.left {
            *node = Node::default();
            self.free.push(scope.0);
        }
        leaver
    }
}

impl Scopes {
    /// Gives up one hold on a scope that is left.
    fn close(&mut self, scope: ScopeId) {
        let node = self.node(scope);
        node.left = true;
        node.alive -= 1;
        if node.alive == 0 {
            *node = Node::default();
            self.free.push(scope.0);
        }
    }
}

impl Tasks {
    /// A new scope. It is left by [`Tasks::leave_scope`].
    pub(crate) fn open_scope(&self) -> ScopeId {
        self.scopes().borrow_mut().open(self.running())
    }

    /// Asks all tasks of a scope to come to their ends, and those that it will have.
    pub(crate) fn cancel_scope(&self, scope: ScopeId) {
        let mut next = {
            let mut scopes = self.scopes().borrow_mut();
            let node = scopes.node(scope);
            node.cancelled = true;
            node.youngest
        };
        while let Some(task) = next {
            self.cancel(task);
            // Cancelling wakes and no more: the list stays as it is.
            next = task.head().older.get();
        }
    }

    /// Ready when the scope has no task.
    pub(crate) fn poll_empty(&self, scope: ScopeId, cx: &Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut scopes = self.scopes().borrow_mut();
        let node = scopes.node(scope);
        if node.alive == 0 {
            return Poll::Ready(());
        }
        let before = node.leaver.replace(waker);
        drop(scopes);
        drop(before);
        Poll::Pending
    }

    /// The scope is over: what it still has is dropped, the youngest first.
    pub(crate) fn leave_scope(&self, scope: ScopeId) {
        {
            let mut scopes = self.scopes().borrow_mut();
            let node = scopes.node(scope);
            node.cancelled = true;
            // One more keeps the number until the end of this, whatever is dropped.
            node.alive += 1;
        }
        // One that cannot end now stays in the list until it does, and is passed over. One that has may be gone, its memory too.
        let mut next = self.youngest(scope);
        while let Some(task) = next {
            next = if self.abort(task) { self.youngest(scope) } else { task.head().older.get() };
        }
        self.scopes().borrow_mut().close(scope);
    }

    fn youngest(&self, scope: ScopeId) -> Option<Pointer> {
        self.scopes().borrow_mut().node(scope).youngest
    }
}
