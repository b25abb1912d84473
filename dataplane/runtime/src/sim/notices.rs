//! What else can be waited for: watches, signals, a child's end.
//!
//! Keeps true: what is asked of one is answered in its order. It plans nothing by itself, as the network does.

use super::processes::Processes;
use super::watches::Watches;
use super::{KINDS, OTHER, Reply, Request};
use crate::driver::Operation;
use crate::signals::{SignalInfo, encode};
use rustix::io::Errno;
use rustix::process::Signal;
use std::collections::{BTreeMap, VecDeque};

/// One of these.
pub(super) enum What {
    Watches(Watches),
    /// These, of the process that is the first.
    Signals(u32, Vec<Signal>),
    Child(u32),
}

struct Open {
    what: What,
    wants: VecDeque<(u32, Request)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Notices {
    open: BTreeMap<u32, Open>,
    made: u32,
}

impl Notices {
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Its number is none of a socket or a file: see [`KINDS`].
    pub(super) fn add(&mut self, what: What) -> u32 {
        self.made += 1;
        let number = self.made * KINDS + OTHER;
        self.open.insert(number, Open { what, wants: VecDeque::new() });
        number
    }

    pub(super) fn close(&mut self, number: u32) {
        self.open.remove(&number);
    }

    pub(super) fn request(&mut self, number: u32, flight: u32, request: Request) {
        if let Some(open) = self.open.get_mut(&number) {
            open.wants.push_back((flight, request));
        }
    }

    /// Takes back what was asked; false when it is answered already.
    pub(super) fn cancel(&mut self, flight: u32) -> bool {
        let before: usize = self.waiting();
        self.open.values_mut().for_each(|open| open.wants.retain(|(want, _)| *want != flight));
        self.waiting() < before
    }

    fn waiting(&self) -> usize {
        self.open.values().map(|open| open.wants.len()).sum()
    }

    pub(super) fn watches(&mut self, number: u32) -> Result<&mut Watches, Errno> {
        match self.open.get_mut(&number) {
            Some(Open { what: What::Watches(watches), .. }) => Ok(watches),
            _ => Err(Errno::INVAL),
        }
    }

    /// All who watch.
    pub(super) fn all_watches(&mut self) -> impl Iterator<Item = &mut Watches> {
        self.open.values_mut().filter_map(|open| match &mut open.what {
            What::Watches(watches) => Some(watches),
            _ => None,
        })
    }

    pub(super) fn child(&self, number: u32) -> Result<u32, Errno> {
        match self.open.get(&number) {
            Some(Open { what: What::Child(process), .. }) => Ok(*process),
            _ => Err(Errno::BADF),
        }
    }

    /// Whether a process listens to a signal.
    pub(super) fn listens(&self, process: u32, signal: Signal) -> bool {
        let listens = |open: &Open| matches!(&open.what, What::Signals(who, which) if *who == process && which.contains(&signal));
        self.open.values().any(listens)
    }

    /// Answers all that can be answered now, by flight.
    pub(super) fn answer(&mut self, processes: &mut Processes) -> Vec<(u32, Reply)> {
        let mut answers = Vec::new();
        for Open { what, wants } in self.open.values_mut() {
            while let Some((flight, request)) = wants.front() {
                let Some(reply) = what.answer(request, processes) else { break };
                answers.push((*flight, reply));
                wants.pop_front();
            }
        }
        answers
    }
}

impl What {
    /// None: it waits.
    fn answer(&mut self, request: &Request, processes: &mut Processes) -> Option<Reply> {
        match (self, request.operation) {
            (Self::Watches(watches), Operation::ReadNext) => {
                watches.read(request.room).map(|read| read.map_or_else(Reply::Failed, Reply::Bytes))
            }
            (Self::Signals(process, signals), Operation::ReadNext) => {
                let (signal, process) = processes.take(*process, signals)?;
                Some(Reply::Bytes(encode(SignalInfo { signal, process })))
            }
            (Self::Child(process), Operation::Readable) => {
                processes.has_ended(*process).then_some(Reply::Done(0))
            }
            _ => Some(Reply::Failed(Errno::INVAL)),
        }
    }
}
