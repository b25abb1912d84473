//! What all tasks do at this moment: a picture for people, and one for programs that draw flames.
//!
//! Keeps true: who looks changes nothing but this: each task that waits is polled once more, as any waker might have it. Those that are
//! ready, or whose poll has come to this, are not.

use super::waker::Entered;
use super::{CANCELLED, Pointer, QUEUED, RUNNING, Tasks, Word};
use crate::time::Instant;
use crate::trace::{Frame, Site, notes};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is being polled: it asked for this, or waits for who did.
    Runs,
    /// It waits for its turn.
    Ready,
    /// It waits for something else.
    Waits,
}

/// A task in a [`Dump`].
#[derive(Clone, Debug)]
pub struct TaskDump {
    /// Its name in wakers: another one's only when 2²⁸ tasks have been where it is.
    pub id: u64,
    /// The line that spawned it.
    pub spawned: &'static Location<'static>,
    /// The place in the dump of the task whose scope it is in; none: it is of no scope, or of one that no task has opened.
    pub parent: Option<usize>,
    /// What it does.
    pub doing: Doing,
    /// For how long: since the beginning of the pass in which it was last polled.
    pub since: Duration,
    /// Whether it was asked to come to its end.
    pub cancelled: bool,
    /// What it waits for: parts behind what they are parts of.
    pub waits: Vec<Frame>,
}

/// A poll that took longer than it was to; see [`Tasks::watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// As [`TaskDump::id`].
    pub id: u64,
    /// The line that spawned the task.
    pub spawned: &'static Location<'static>,
    /// When it began.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
}

/// All tasks of an executor.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// In the order of their slots.
    pub tasks: Vec<TaskDump>,
    /// The last polls that took too long.
    pub overruns: Vec<Overrun>,
    /// How many there were.
    pub overrun: u64,
    /// Tasks that are not in it; see [`Tasks::dump_some`].
    pub left_out: usize,
}

/// What was noted of polls that took too long.
#[derive(Debug, Default)]
pub(super) struct Overruns {
    last: VecDeque<Overrun>,
    count: u64,
}

impl Overruns {
    /// So many are remembered.
    const KEPT: usize = 64;

    pub(super) fn note(&mut self, overrun: Overrun) {
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(overrun);
        self.count += 1;
    }
}

impl Tasks {
    /// Looks at all tasks. Each that waits is polled for that.
    ///
    /// # Panics
    /// As a pass does.
    #[must_use]
    pub fn dump(&self) -> Dump {
        self.dump_some(usize::MAX)
    }

    /// As [`Tasks::dump`], of so many tasks at most: for those who have other work to do, as each takes about a microsecond.
    ///
    /// # Panics
    /// As a pass does.
    #[must_use]
    pub fn dump_some(&self, most: usize) -> Dump {
        let _entered = Entered::new(self);
        let mut all = self.all();
        let left_out = all.len().saturating_sub(most);
        all.truncate(most);
        let places: HashMap<u64, usize> =
            all.iter().enumerate().map(|(place, task)| (task.head().word.bits(), place)).collect();
        // What is told of all is taken down before any is polled, which may end it, or others.
        let mut tasks: Vec<TaskDump> = all.iter().map(|task| self.seen(*task, &places)).collect();
        for own in &mut tasks {
            if own.doing == Doing::Waits
                && let Some(task) = self.of_word(Word::of_bits(own.id))
                && !task.is(QUEUED | RUNNING)
            {
                own.waits = notes(|| self.run_within::<true>(task));
            }
        }
        let noted = self.overruns();
        Dump { tasks, overruns: noted.last.iter().copied().collect(), overrun: noted.count, left_out }
    }

    fn seen(&self, task: Pointer, places: &HashMap<u64, usize>) -> TaskDump {
        let head = task.head();
        let doing = match head.flags.get() {
            flags if flags & RUNNING != 0 => Doing::Runs,
            flags if flags & QUEUED != 0 => Doing::Ready,
            _ => Doing::Waits,
        };
        let owner = self.scopes().borrow().owner(head.scope);
        TaskDump {
            id: head.word.bits(),
            spawned: head.spawned,
            parent: owner.and_then(|owner| places.get(&owner.bits()).copied()),
            doing,
            since: self.now().since(head.polled.get()),
            cancelled: head.has(CANCELLED),
            waits: Vec::new(),
        }
    }
}

impl Dump {
    /// A line for each thing that is waited for, as programs that draw flame graphs take it: the task, those that it is a child
    /// of ahead of it, what it waits for, and for how long, in microseconds.
    #[must_use]
    pub fn folded(&self) -> String {
        use fmt::Write;
        let mut out = String::new();
        for task in &self.tasks {
            let stack = self.stack(task);
            let us = task.since.as_micros().max(1);
            let leaf = |n: usize| task.waits.get(n + 1).is_none_or(|next| next.depth <= task.waits[n].depth);
            let mut above: Vec<Site> = Vec::new();
            for (n, frame) in task.waits.iter().enumerate() {
                above.truncate(frame.depth);
                above.push(frame.site);
                if leaf(n) {
                    let sites: String =
                        above.iter().map(|site| format!(";{}", whole(&site.to_string()))).collect();
                    let _ = writeln!(out, "{stack}{sites} {us}");
                }
            }
            if task.waits.is_empty() {
                let _ = writeln!(out, "{stack};{} {us}", task.doing);
            }
        }
        out
    }

    /// A task behind those that it is a child of.
    fn stack(&self, task: &TaskDump) -> String {
        let mut line = vec![place(task.spawned)];
        let mut parent = task.parent;
        while let Some(task) = parent.and_then(|parent| self.tasks.get(parent)) {
            line.push(place(task.spawned));
            parent = task.parent;
        }
        line.reverse();
        line.join(";")
    }

    /// Each task with its depth in the tree, children behind their parents.
    #[must_use]
    pub fn tree(&self) -> Vec<(usize, &TaskDump)> {
        let mut children = vec![Vec::new(); self.tasks.len() + 1];
        for (own, task) in self.tasks.iter().enumerate() {
            let above = task.parent.filter(|parent| *parent < self.tasks.len());
            children[above.map_or(0, |parent| parent + 1)].push(own);
        }
        let mut tree = Vec::new();
        let mut next: Vec<_> = children[0].iter().rev().map(|own| (0, *own)).collect();
        while let Some((depth, own)) = next.pop() {
            tree.push((depth, &self.tasks[own]));
            next.extend(children[own + 1].iter().rev().map(|own| (depth + 1, *own)));
        }
        tree
    }
}

/// `file:line`
fn place(at: &Location<'_>) -> String {
    whole(&format!("{}:{}", at.file(), at.line()))
}

/// Without what ends a frame of a folded stack, or its line.
fn whole(text: &str) -> String {
    text.replace([';', '\n'], " ")
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runs => "runs",
            Self::Ready => "ready",
            Self::Waits => "waits",
        })
    }
}

/// The tree of tasks, each with what it waits for.
impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, task) in self.tree() {
            let margin = "  ".repeat(depth);
            let asked = if task.cancelled { ", cancelled" } else { "" };
            writeln!(f, "{margin}task {}: {} for {:?}{asked}", place(task.spawned), task.doing, task.since)?;
            for frame in &task.waits {
                writeln!(f, "{margin}  {}- {}", "  ".repeat(frame.depth), frame.site)?;
            }
        }
        if self.left_out > 0 {
            writeln!(f, "{} tasks more", self.left_out)?;
        }
        if self.overrun > 0 {
            writeln!(f, "{} polls took too long; of the last:", self.overrun)?;
        }
        for overrun in &self.overruns {
            writeln!(f, "  {:?} by the task of {}", overrun.took, place(overrun.spawned))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
