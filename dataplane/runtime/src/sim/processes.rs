//! Processes: the program and its children, and the signals that they are sent.
//!
//! Keeps true: a process ends once, and its parent is sent SIGCHLD then, which a child that does not listen to it does not keep; what it
//! has open is closed; a signal that is pending is not pending twice. The program itself is the first process, and like a kernel's it
//! dies of no signal; a child dies of one that it does not listen to, unless that is one to be ignored.

use rustix::io::Errno;
use rustix::process::Signal;
use std::collections::BTreeMap;

/// The program itself.
pub(super) const FIRST: u32 = 1;

/// What does nothing where nobody listens to it (signal(7)).
const IGNORED: [Signal; 4] = [Signal::CHILD, Signal::CONT, Signal::URG, Signal::WINCH];
/// What stops a process; none is stopped here.
const STOPS: [Signal; 4] = [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU];
/// What is read before others (SYNCHRONOUS_MASK, kernel/signal.c).
const SYNCHRONOUS: [Signal; 6] =
    [Signal::SEGV, Signal::BUS, Signal::ILL, Signal::TRAP, Signal::FPE, Signal::SYS];

struct Process {
    parent: u32,
    /// By signal, who sent it.
    pending: BTreeMap<i32, u32>,
    /// wait(2)'s word.
    ended: Option<i32>,
}

/// See the module.
pub(super) struct Processes {
    all: BTreeMap<u32, Process>,
    made: u32,
}

impl Processes {
    pub(super) fn new() -> Self {
        let first = Process { parent: FIRST, pending: BTreeMap::new(), ended: None };
        Self { all: BTreeMap::from([(FIRST, first)]), made: FIRST }
    }

    /// A child of this one.
    pub(super) fn begin(&mut self, parent: u32) -> u32 {
        self.made += 1;
        self.all.insert(self.made, Process { parent, pending: BTreeMap::new(), ended: None });
        self.made
    }

    /// It ends with this word; `listens`: to SIGCHLD, whether its parent does.
    pub(super) fn end(&mut self, number: u32, word: i32, listens: impl FnOnce(u32) -> bool) {
        let Some(process) = self.all.get_mut(&number).filter(|process| process.ended.is_none()) else {
            return;
        };
        process.ended = Some(word);
        let parent = process.parent;
        if (parent == FIRST || listens(parent))
            && let Some(parent) = self.all.get_mut(&parent)
        {
            parent.pending.entry(Signal::CHILD.as_raw()).or_insert(number);
        }
        // Who is left behind has another parent, which waits for nobody.
        self.all.retain(|_, process| process.parent != number || process.ended.is_none());
        self.all
            .values_mut()
            .filter(|process| process.parent == number)
            .for_each(|process| process.parent = 0);
    }

    pub(super) fn has_ended(&self, number: u32) -> bool {
        self.all.get(&number).is_none_or(|process| process.ended.is_some())
    }

    /// How it ended, told once. ECHILD: it was told.
    pub(super) fn wait(&mut self, number: u32) -> Result<Option<i32>, Errno> {
        let ended = self.all.get(&number).ok_or(Errno::CHILD)?.ended;
        if ended.is_some() {
            self.all.remove(&number);
        }
        Ok(ended)
    }

    /// Sends a signal; `listens`: to it, the other one does. What that one ends with by it, if it does. ESRCH: its end has been told.
    pub(super) fn signal(
        &mut self,
        from: u32,
        to: u32,
        signal: Signal,
        listens: bool,
    ) -> Result<Option<i32>, Errno> {
        let process = self.all.get_mut(&to).ok_or(Errno::SRCH)?;
        let (kills, first) = (signal == Signal::KILL, to == FIRST);
        if process.ended.is_some() || first && (kills || signal == Signal::STOP) {
            return Ok(None);
        }
        if !kills && (listens || first) {
            process.pending.entry(signal.as_raw()).or_insert(from);
            return Ok(None);
        }
        if STOPS.contains(&signal) {
            return Err(Errno::OPNOTSUPP);
        }
        Ok((!IGNORED.contains(&signal)).then_some(signal.as_raw()))
    }

    /// The next one that is pending of these, and who sent it.
    pub(super) fn take(&mut self, number: u32, signals: &[Signal]) -> Option<(Signal, u32)> {
        let pending = &mut self.all.get_mut(&number)?.pending;
        let waits = signals.iter().filter(|signal| pending.contains_key(&signal.as_raw()));
        let next = waits.min_by_key(|signal| (!SYNCHRONOUS.contains(signal), signal.as_raw()))?;
        pending.remove(&next.as_raw()).map(|from| (*next, from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_reads_and_who_does_not_dies() {
        let mut processes = Processes::new();
        let child = processes.begin(FIRST);
        // Of a process, what ends it.
        let mut send = |to, signal, listens| processes.signal(FIRST, to, signal, listens);
        assert_eq!(send(child, Signal::TERM, true), Ok(None));
        assert_eq!(send(child, Signal::CHILD, false), Ok(None));
        assert_eq!(send(child, Signal::KILL, true), Ok(Some(9)));
        assert_eq!(send(child, Signal::STOP, false), Err(Errno::OPNOTSUPP));
        assert_eq!(send(FIRST, Signal::KILL, false), Ok(None));
        assert_eq!(send(FIRST, Signal::SEGV, false), Ok(None));
        assert_eq!(send(FIRST, Signal::HUP, false), Ok(None));
        assert_eq!(send(99, Signal::HUP, true), Err(Errno::SRCH));
        // The one that is the program's own fault is first.
        let all = [Signal::HUP, Signal::SEGV];
        assert_eq!(processes.take(FIRST, &all[..1]), Some((Signal::HUP, FIRST)));
        assert_eq!(processes.take(FIRST, &all), Some((Signal::SEGV, FIRST)));
        assert_eq!(processes.take(FIRST, &all), None);
    }

    #[test]
    fn an_end_is_told_once_and_orphans_are_nobodys() {
        let mut processes = Processes::new();
        let child = processes.begin(FIRST);
        let [ended, running] = [0; 2].map(|_| processes.begin(child));
        assert_eq!(processes.wait(child), Ok(None));
        processes.end(ended, 0, |_| false);
        assert_eq!(processes.take(child, &[Signal::CHILD]), None);
        processes.end(child, 3 << 8, |_| false);
        processes.end(child, 9, |_| false);
        assert_eq!(processes.take(FIRST, &[Signal::CHILD]), Some((Signal::CHILD, child)));
        assert_eq!(processes.wait(child), Ok(Some(3 << 8)));
        assert_eq!(processes.wait(child), Err(Errno::CHILD));
        assert_eq!((processes.wait(ended), processes.wait(running)), (Err(Errno::CHILD), Ok(None)));
        processes.end(running, 0, |_| true);
        assert!(processes.has_ended(running));
    }
}
