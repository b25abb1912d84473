//! Programs that a simulation's children run: each is a function, which a test has given a name.
//!
//! Keeps true: a child ends once, with all that it has open closed; then whoever waits for it is told. What its program spawns outside
//! of a [`scope`](crate::scope()) is left behind, as a process is that another one has started.

use super::notices::What;
use super::world::World;
use super::{Sim, SimDescriptor, SimIo};
use crate::calls::{Started, Streams};
use crate::io::Io;
use crate::pipe::{PipeReader, PipeWriter};
use crate::task::{Handle, Tasks};
use rustix::io::Errno;
use rustix::process::Signal;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::pin::Pin;
use std::process::Command;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

/// What a program ends with that panics, as one of Rust does (101), as wait(2) has it.
const PANICKED: i32 = 101 << 8;

/// A program that is run. Its streams that are no pipes lead nowhere, as /dev/null does.
#[derive(Debug)]
pub struct SimProcess {
    /// In the same world as who started it, as a process of its own: signals for it are read by this one.
    pub io: SimIo,
    /// What it was called with, without its name.
    pub arguments: Vec<OsString>,
    /// What it reads.
    pub input: PipeReader<Sim>,
    /// What it says.
    pub output: PipeWriter<Sim>,
    /// What it complains of.
    pub errors: PipeWriter<Sim>,
}

type Program = Rc<dyn Fn(SimProcess) -> Pin<Box<dyn Future<Output = u8>>>>;

/// A child that runs, and what it is to have ended with.
type Running = (Handle<()>, Rc<Cell<i32>>);

/// See the module.
#[derive(Default)]
pub(super) struct Programs {
    known: RefCell<BTreeMap<OsString, Program>>,
    running: RefCell<BTreeMap<u32, Running>>,
    tasks: RefCell<Weak<Tasks>>,
}

/// A program on its way. (What is its goes first.)
struct Life {
    program: Pin<Box<dyn Future<Output = u8>>>,
    end: End,
}

impl Future for Life {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let code = ready!(self.program.as_mut().poll(cx));
        if self.end.word.get() == PANICKED {
            self.end.word.set(i32::from(code) << 8);
        }
        Poll::Ready(())
    }
}

/// Tells that a child has ended, when all else that is its is gone.
struct End {
    world: Rc<World>,
    process: u32,
    word: Rc<Cell<i32>>,
}

impl Drop for End {
    fn drop(&mut self) {
        let handle = self.world.programs.running.borrow_mut().remove(&self.process);
        drop(handle);
        let state = &mut *self.world.state();
        let listens = |parent| state.notices.listens(parent, Signal::CHILD);
        state.processes.end(self.process, self.word.get(), listens);
        state.tell();
    }
}

impl SimIo {
    /// From now on a [`Child`](crate::Child) of this name is this program. What it returns is the code that it ends with, and a panic is
    /// its own (101); what has no program is ENOENT. Where it is killed its future is dropped: unlike a process's, its destructors run.
    pub fn program<F>(&self, name: &str, program: impl Fn(SimProcess) -> F + 'static)
    where
        F: Future<Output = u8> + 'static,
    {
        let program = Rc::new(program);
        // It is called by its task, so that it panics there, too.
        let program: Program = Rc::new(move |process| {
            let program = program.clone();
            Box::pin(async move { program(process).await })
        });
        let before = self.driver().world.programs.known.borrow_mut().insert(name.into(), program);
        drop(before);
    }
}

impl World {
    pub(super) fn runs_on(&self, tasks: &Rc<Tasks>) {
        self.programs.tasks.replace(Rc::downgrade(tasks));
    }

    /// Sends a signal from one process to another.
    pub(super) fn signal(&self, from: u32, to: u32, signal: Signal) -> Result<(), Errno> {
        let mut state = self.state();
        let listens = state.notices.listens(to, signal);
        let ends = state.processes.signal(from, to, signal, listens)?;
        state.tell();
        drop(state);
        let Some(word) = ends else { return Ok(()) };
        let running = self.programs.running.borrow_mut().remove(&to);
        if let Some((handle, last)) = running {
            last.set(word);
            handle.abort();
        }
        Ok(())
    }
}

impl Sim {
    /// Starts the program of this name.
    pub(super) fn start_program(
        &self,
        command: &Command,
        streams: Streams,
    ) -> Result<Started<SimDescriptor>, Errno> {
        let programs = &self.world.programs;
        let program = programs.known.borrow().get(command.get_program()).cloned().ok_or(Errno::NOENT)?;
        let tasks = programs.tasks.borrow().upgrade().ok_or(Errno::AGAIN)?;
        let Streams { input, output, errors } = streams;
        // The child's three, an end of each pipe here, and the child itself.
        self.world.has_room(4 + [input, output, errors].map(usize::from).iter().sum::<usize>())?;
        let (reads, input) = self.stream(input, false);
        let (says, output) = self.stream(output, true);
        let (complains, errors) = self.stream(errors, true);
        let process = self.world.state().processes.begin(self.process);
        let descriptor = self.other(What::Child(process))?;
        let io = Io::beside(&tasks, Self { world: self.world.clone(), process });
        let word = Rc::new(Cell::new(PANICKED));
        let program = program(SimProcess {
            arguments: command.get_args().map(OsString::from).collect(),
            input: PipeReader::around(&io, reads),
            output: PipeWriter::around(&io, says),
            errors: PipeWriter::around(&io, complains),
            io,
        });
        let end = End { world: self.world.clone(), process, word: word.clone() };
        let running = tasks.spawn(Life { program, end });
        programs.running.borrow_mut().insert(process, (running, word));
        Ok(Started { process, descriptor, input, output, errors })
    }

    /// A child's stream and, of a pipe, its end here.
    fn stream(&self, piped: bool, written: bool) -> (SimDescriptor, Option<SimDescriptor>) {
        if !piped {
            let nowhere = self.world.state().net().nowhere();
            return (self.descriptor(nowhere), None);
        }
        let (reads, writes) = self.world.state().net().pair(None);
        let [reads, writes] = [reads, writes].map(|number| self.descriptor(number));
        if written { (writes, Some(reads)) } else { (reads, Some(writes)) }
    }
}
