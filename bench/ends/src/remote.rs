//! A far end on another host: [`Remote`] is the driver's side of it, [`lend`] the host that lends its port.
//!
//! Keeps true: latency is told only within what the two clocks are known to; exchanges of time go on while the trial does.
//! Both ends on one clock (two namespaces of one host) need none. Over a network the bound is half of the shortest round
//! trip, which is more than most devices take: for latencies, have both ends on one host, or measure there and back.

use crate::channel::{Answer, Ask, Channel, VERSION, clock as which_clock, went, words};
use crate::counter::{Counter, Marks, probes_at};
use crate::far::{FarEnd, Seen};
use crate::order::{Order, Sent};
use crate::pair::clocks;
use crate::reader::{Manner, Reader};
use crate::{Enter, Port};
use anyhow::{Context, Result, bail, ensure};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use zsync_bench_xsk::{Match, clock};
use zsync_sink::clock::{Exchange, Exchanges, Host, Relation, STEPS_KEPT, Step, Watch};
use zsync_traffic::flows::MOST;

/// How long a host is tried to be reached.
const REACH: Duration = Duration::from_secs(5);
/// Exchanges before a trial, and with each question during it.
const FIRST: usize = 64;
const ALSO: usize = 8;
/// Phases of an order at most.
const PHASES: usize = 1024;
/// Exchanges of which the quickest is kept.
const ROUND: u32 = 8;

/// The driver's side. See the module.
pub struct Remote {
    channel: Channel,
    marks: Marks,
    read: bool,
}

impl Remote {
    /// Reaches the host that lends its port at `address`. It is to read every packet, or to count only.
    ///
    /// # Errors
    /// Nobody is there, or speaks another version.
    pub fn reach(address: SocketAddr, marks: Marks, read: bool) -> Result<Self> {
        Self::reach_with(address, marks, read, which_clock())
    }

    /// As [`Self::reach`], with a name of the clock that this side reads: where it is not the far end's, clocks are related by
    /// exchanges.
    ///
    /// # Errors
    /// Those of [`Self::reach`].
    pub fn reach_with(address: SocketAddr, marks: Marks, read: bool, clock: String) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, REACH).with_context(|| {
            format!("nobody lends a port at {address}: start `zsync-bench receive --listen {address}` there")
        })?;
        let mut remote = Self { channel: Channel::new(stream)?, marks, read };
        remote.ask(&Ask::Hello { version: VERSION, clock })?;
        Ok(remote)
    }

    /// Asks, tells the time as often as it is wanted, and hears the answer.
    fn ask(&mut self, what: &Ask) -> Result<Answer> {
        self.channel.say(what)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        loop {
            match self.channel.hear()?.context("the far end has hung up")? {
                Answer::Time => {
                    let heard_ns = clock::now();
                    self.channel.say(&Ask::Time { heard_ns, answered_ns: clock::now() })?;
                }
                Answer::Failed(why) => bail!("the far end: {why}"),
                answer => return Ok(answer),
            }
        }
    }
}

impl FarEnd for Remote {
    fn begin(&mut self, order: &Order) -> Result<()> {
        let flows = order.what.flows();
        ensure!(flows > 0 || !self.read, "a capture has no probes to read: count its packets instead");
        let marks = match self.marks.of(&order.what)? {
            Match::All => None,
            Match::Bytes { at, .. } => Some(at),
        };
        self.ask(&Ask::Begin {
            run: order.run,
            flows,
            marks,
            log: order.log.then(|| order.most()),
            read: self.read,
        })
        .map(drop)
    }

    fn counted(&mut self) -> Result<u64> {
        match self.ask(&Ask::Counted)? {
            Answer::Counted(count) => Ok(count),
            other => bail!("the far end was asked for a count, and said {other:?}"),
        }
    }

    fn keep(&mut self) -> Result<()> {
        // The far end asks for the time with each question.
        self.counted().map(drop)
    }

    fn line(&mut self, took: Duration) -> Result<String> {
        match self.ask(&Ask::Line { took_ns: took.as_nanos() as u64 })? {
            Answer::Line(line) => Ok(line),
            other => bail!("the far end was asked for a line, and said {other:?}"),
        }
    }

    fn end(&mut self, sent: &Sent, steps: &[Step]) -> Result<Seen> {
        self.channel.say(&Ask::End {
            phases: sent.phases.iter().map(words).collect(),
            flows: sent.flows.len() as u32,
            steps: steps.iter().map(|step| (step.at_ns, step.by_ns)).collect(),
        })?;
        self.channel.say_numbers(&sent.flows)?;
        match self.answer()? {
            Answer::Seen(seen) => Ok(*seen),
            other => bail!("the far end was asked for its result, and said {other:?}"),
        }
    }
}

/// Lends the queues of a device to one driver after the other, for ever; `say` is told what goes on.
///
/// # Errors
/// None: what goes wrong with one driver is told to it and to `say`, and ends its session only.
pub fn lend(
    listener: &TcpListener,
    ports: &[Port],
    manner: Manner,
    enter: &Enter,
    say: &dyn Fn(&str),
) -> Result<()> {
    loop {
        let (stream, driver) = match listener.accept() {
            Ok(accepted) => accepted,
            // It may pass, as a shortage of descriptors does.
            Err(error) => {
                say(&error.to_string());
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        say(&format!("{driver} drives"));
        match Session::new(stream, ports, manner, enter).and_then(|mut session| session.serve(say)) {
            Ok(()) => say(&format!("{driver} has hung up")),
            Err(error) => say(&format!("{driver}: {}", printable(&format!("{error:#}")))),
        }
    }
}

/// What another host said may be in it: nothing that a terminal takes for a command, and not too much.
fn printable(text: &str) -> String {
    text.chars().take(300).flat_map(char::escape_debug).collect()
}

/// A driver's time with the port.
struct Session {
    channel: Channel,
    reader: Reader,
    counter: Counter,
    /// Whether the present trial is read.
    reads: bool,
    exchanges: Option<Exchanges>,
    watch: Watch,
    /// Whether every packet may be taken.
    takes_all: bool,
    /// The present order, as far as it is told here: for the counter, which needs no more.
    marks: Match,
}

impl Session {
    fn new(stream: TcpStream, ports: &[Port], manner: Manner, enter: &Enter) -> Result<Self> {
        let device = &ports.first().context("there is no port to lend")?.device;
        Ok(Self {
            channel: Channel::new(stream)?,
            reader: Reader::new(ports.to_vec(), manner, enter)?,
            counter: Counter::new(device, manner.marks, enter),
            reads: false,
            exchanges: None,
            watch: Watch::new(Host::Sink, 1_000),
            takes_all: manner.marks == Marks::All,
            marks: Match::All,
        })
    }

    fn serve(&mut self, say: &dyn Fn(&str)) -> Result<()> {
        while self.channel.wait()? {
            let Some(ask) = self.channel.hear::<Ask>()? else { break };
            let answer = self.answer(ask).unwrap_or_else(|error| {
                say(&printable(&format!("{error:#}")));
                Answer::Failed(format!("{error:#}"))
            });
            self.channel.say(&answer)?;
        }
        Ok(())
    }

    fn answer(&mut self, ask: Ask) -> Result<Answer> {
        self.watch.observe(&clocks());
        match ask {
            Ask::Hello { version, clock } => {
                ensure!(
                    version == VERSION,
                    "it speaks version {VERSION}, and was asked for {version}: update both"
                );
                self.exchanges = (clock != which_clock()).then(|| Exchanges::new(ROUND));
                Ok(Answer::Done)
            }
            Ask::Begin { run, flows, marks, log, read } => {
                ensure!(flows <= MOST, "{flows} flows: there can be {MOST}");
                self.reads = read;
                // The driver says where marks are, and not what counts as one.
                self.marks = match marks {
                    Some(at) => probes_at(at),
                    None => {
                        ensure!(
                            self.takes_all,
                            "the port is lent for packets with marks, and all were asked for: \
                             start `receive --take all` there"
                        );
                        Match::All
                    }
                };
                self.watch = Watch::new(Host::Sink, 1_000);
                self.watch.observe(&clocks());
                self.relate(FIRST)?;
                if read {
                    self.counter.close();
                    self.reader.expect(self.marks, run, flows, log)?;
                } else {
                    self.reader.give_up();
                    self.counter.expect(self.marks)?;
                }
                Ok(Answer::Done)
            }
            Ask::Counted => {
                self.relate(ALSO)?;
                let count = if self.reads { self.reader.counted() } else { self.counter.counted() };
                Ok(Answer::Counted(count?))
            }
            Ask::Line { took_ns } => {
                self.relate(ALSO)?;
                let took = Duration::from_nanos(took_ns);
                let line = if self.reads { self.reader.line(took) } else { self.counter.line(took) };
                Ok(Answer::Line(line?))
            }
            Ask::End { phases, flows, steps } => {
                ensure!(flows <= MOST, "{flows} flows: there can be {MOST}");
                let flows = self.channel.hear_numbers(flows)?;
                ensure!(
                    phases.len() <= PHASES && steps.len() <= STEPS_KEPT,
                    "more phases or steps than there can be"
                );
                let sent = Sent { phases: phases.into_iter().map(went).collect(), flows, ..Sent::default() };
                let theirs =
                    steps.into_iter().map(|(at_ns, by_ns)| Step { host: Host::Sender, at_ns, by_ns });
                let steps: Vec<Step> = theirs.chain(self.watch.steps().iter().copied()).collect();
                let seen = if self.reads {
                    self.reader.end(&sent, &steps)?
                } else {
                    self.counter.end(&sent, &steps)?
                };
                Ok(Answer::Seen(Box::new(seen)))
            }
            Ask::Time { .. } => bail!("it was told the time without having asked"),
        }
    }

    /// Exchanges the time, where the clocks are two.
    fn relate(&mut self, times: usize) -> Result<()> {
        let Some(exchanges) = &mut self.exchanges else {
            self.reader.set_clock(Relation::SAME);
            return Ok(());
        };
        for _ in 0..times {
            let asked_ns = clock::now();
            self.channel.say(&Answer::Time)?;
            let Some(Ask::Time { heard_ns, answered_ns }) = self.channel.hear()? else {
                bail!("the driver was asked for the time, and said something else");
            };
            let returned_ns = clock::now();
            exchanges.observe(&Exchange { asked_ns, heard_ns, answered_ns, returned_ns });
        }
        let relation = exchanges.relation().context("the clocks of both hosts contradict each other")?;
        self.reader.set_clock(relation);
        Ok(())
    }
}
