//! The generator: the kernel itself as the source of packets, as many as one core can send.
//!
//! An XDP program (`zsync_generator`) is run by `BPF_PROG_TEST_RUN` with live frames: it writes the headers into pages of a
//! pool and has them transmitted by the device, from inside of the system call. Owns: the loaded program. Refuses: frames
//! too short for their headers, and addresses of two families.
//!
//! A call on its own costs some 18 ms at its end, when nothing is sent: the kernel takes the program out of the dispatcher
//! of XDP programs, and waits for an RCU grace period (`bpf_prog_test_run_xdp` in net/bpf/test_run.c, kernel/bpf/dispatcher.c).
//! As long as another call has the program there, nothing is taken out and nobody waits. So a second thread on the same core,
//! of the least priority, is always within a call: it takes one or two hundredths of the core, and its frames count too.
//! Calls are of many frames all the same: this is a source for full rate, not for paced traffic.

use crate::traffic::udp_frame;
use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray, PerCpuValues};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, TestRun, TestRunAttrs, TestRunOptions};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zsync_control::xdp::GENERATOR_OBJECT;
use zsync_ebpf_common::{Pace, TEMPLATE_BYTES, Template, map};
use zsync_packet::checksum::Delta;
use zsync_traffic::probe::{LOAD_MAGIC, SHORT};

/// Frames of the first call: short, to learn the rate.
const FIRST: u32 = 1 << 18;
/// Most frames of a call: 1 to 4 s, so that its end costs little where it does wait.
const MOST: u32 = 1 << 22;
/// Frames of a call of the second thread, which it makes alone when the first is done: about a millisecond's.
const HELD: u32 = 1 << 12;
/// The least priority (a nice value): a hundredth of the core, or two, beside a thread that wants all of it.
const LEAST: i32 = 19;
/// Pages that the kernel uses in turn, of one call.
const PAGES: u32 = 64;
const ETHERNET: usize = 14;

/// For how long softirqs may wait for a paced batch.
const HELD_BACK: Duration = Duration::from_micros(100);

/// When paced packets went, nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paced {
    /// The first one.
    pub first_ns: u64,
    /// The last one.
    pub last_ns: u64,
    /// How many there were.
    pub made: u64,
}

/// Which of the packets have a probe; all others are load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    /// The first of each so many; 0: none.
    pub every: u64,
    /// The run that they are of.
    pub run: u32,
}

/// What is sent: UDP packets, the same but for their flow.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Number of the device that they leave by, in the caller's network namespace.
    pub ifindex: u32,
    /// Source MAC address.
    pub source_mac: [u8; 6],
    /// Destination MAC address: the router's.
    pub destination_mac: [u8; 6],
    /// Source address, and the first flow's source port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Bytes of a frame from its Ethernet header on, without the frame check sequence.
    pub size: usize,
    /// Flows, told by their source ports.
    pub flows: u32,
}

/// A loaded generator. See the module.
pub struct Generator {
    program: Ebpf,
    flows: u32,
    numbers: bool,
    /// Held while packets are paced: there is one pace.
    paces: Mutex<PerCpuArray<MapData, Pace>>,
    frame: Vec<u8>,
}

impl Generator {
    /// Loads the program.
    ///
    /// # Errors
    /// Impossible traffic; the kernel refuses the program (which takes CAP_BPF and CAP_NET_ADMIN).
    pub fn load(traffic: &Traffic) -> Result<Self> {
        let (template, frame) = template(traffic)?;
        Self::load_template(&template, frame)
    }

    /// Loads the program to send this frame, of UDP over IPv4 without a checksum, by the device with that number; `flows` source
    /// ports from the frame's on.
    ///
    /// # Errors
    /// Too short a frame; the kernel refuses the program.
    pub fn of_frame(ifindex: u32, frame: &[u8], flows: u32) -> Result<Self> {
        let l4 = ETHERNET + 20;
        let length = (l4 + 8).next_multiple_of(8);
        let mut bytes = [0; TEMPLATE_BYTES];
        let head = frame.get(..length).with_context(|| format!("a frame of {} bytes", frame.len()))?;
        bytes[..length].copy_from_slice(head);
        let template = Template {
            ifindex,
            length: length as u32,
            flows,
            destinations: 1,
            source_port_at: l4 as u32,
            destination_at: 0,
            ip_checksum_at: 0,
            l4_checksum_at: 0,
            payload_at: 0,
            payload_bytes: 0,
            bytes,
        };
        Self::load_template(&template, frame.to_vec())
    }

    fn load_template(template: &Template, frame: Vec<u8>) -> Result<Self> {
        let (flows, numbers) = (template.flows.max(1), template.payload_at != 0);
        let mut program =
            EbpfLoader::new().btf(None).load(GENERATOR_OBJECT).context("loading the generator")?;
        let map = program.map_mut(map::TEMPLATE).context("the generator has no template")?;
        let mut templates: Array<&mut MapData, Template> = map.try_into()?;
        templates.set(0, template, 0)?;
        let xdp: &mut Xdp = program.program_mut("zsync_generator").context("no generator")?.try_into()?;
        xdp.load().context("the kernel refuses the generator")?;
        let paces = program.take_map(map::PACE).context("the generator has no pace")?;
        Ok(Self { program, flows, numbers, paces: Mutex::new(paces.try_into()?), frame })
    }

    /// Sends for that long from the calling thread, whose network namespace the device is in; or until `stop`. Returns how
    /// many frames were made: what the other end does not take, the device drops.
    ///
    /// Without gaps if the thread is pinned to one core; otherwise there is one at the end of each call (see the module),
    /// because the second thread could not be kept from sending on another core.
    ///
    /// # Errors
    /// The kernel cannot run it: live frames are in Linux since 5.18.
    pub fn run(&self, time: Duration, stop: &AtomicBool) -> Result<u64> {
        if rustix::thread::sched_getaffinity(None)?.count() != 1 {
            return self.send(time, stop);
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            // It has this thread's core and namespace.
            let held = threads.spawn(|| self.hold(&done));
            let sent = self.send(time, stop);
            done.store(true, Ordering::Relaxed);
            let held = held.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(sent? + held?)
        })
    }

    /// Has the program in a call until `done`, at the least priority. Returns how many frames were made.
    fn hold(&self, done: &AtomicBool) -> Result<u64> {
        rustix::process::setpriority_process(None, LEAST).context("lowering a thread's priority")?;
        let mut sent = 0;
        while !done.load(Ordering::Relaxed) {
            self.call(HELD)?;
            sent += u64::from(HELD);
        }
        Ok(sent)
    }

    /// One call.
    fn call(&self, frames: u32) -> Result<()> {
        let xdp: &Xdp = self.program.program("zsync_generator").context("no generator")?.try_into()?;
        xdp.test_run(TestRunOptions {
            data_in: Some(&self.frame),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(PAGES),
            ..TestRunOptions::default()
        })
        .context("the kernel cannot run the generator with live frames")?;
        Ok(())
    }

    fn send(&self, time: Duration, stop: &AtomicBool) -> Result<u64> {
        let start = Instant::now();
        let (mut sent, mut frames) = (0, FIRST);
        while start.elapsed() < time && !stop.load(Ordering::Relaxed) {
            let before = Instant::now();
            self.call(frames)?;
            sent += u64::from(frames);
            // As many as the time that is left has room for, at the rate of this call.
            let left = time.saturating_sub(start.elapsed()).as_secs_f64();
            let fit = f64::from(frames) / before.elapsed().as_secs_f64() * left;
            frames = (fit as u32).clamp(FIRST / 4, MOST);
        }
        Ok(sent)
    }

    /// Flows, between which probes take turns.
    pub fn flows(&self) -> u32 {
        self.flows
    }

    /// Whether it can write probes: UDP over IPv4, with room for them.
    pub fn has_numbers(&self) -> bool {
        self.numbers
    }

    /// Sends that many packets, evenly spaced, `rate` a second, from the calling thread, which has to be on one core. A packet
    /// more than `patience` late moves the schedule: what was reached is told by the times. One call, so nothing ends it.
    ///
    /// # Errors
    /// As of [`Self::run`]; more packets than a call can make (2³² - 1).
    pub fn run_paced(&self, rate: u64, packets: u64, patience: Duration, probes: Probes) -> Result<Paced> {
        let frames = u32::try_from(packets).ok().context("one call makes 4,294,967,295 packets at most")?;
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        let all = |pace: Pace| PerCpuValues::try_from(vec![pace; cpus]);
        paces.set(
            0,
            all(Pace {
                sample: probes.every,
                run: probes.run.into(),
                ..Pace::of(rate, patience.as_nanos() as u64)
            })?,
            0,
        )?;
        let batch = (HELD_BACK.as_secs_f64() * rate as f64) as u32;
        let xdp: &Xdp = self.program.program("zsync_generator").context("no generator")?.try_into()?;
        let run = xdp.test_run(TestRunOptions {
            data_in: Some(&self.frame),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(batch.clamp(1, PAGES)),
            ..TestRunOptions::default()
        });
        let went = paces.get(&0, 0)?;
        // At full rate again.
        paces.set(0, all(Pace::default())?, 0)?;
        run.context("the kernel cannot run the generator with live frames")?;
        let went = went.iter().filter(|pace| pace.first > 0).max_by_key(|pace| pace.last);
        let went = went.context("the generator made nothing")?;
        Ok(Paced { first_ns: went.first, last_ns: went.last, made: went.made })
    }

    /// As [`Self::run`], in a thread of its own that is pinned to `core`, after `enter` (which may change its namespace).
    pub fn spawn(
        self: &Arc<Self>,
        core: usize,
        time: Duration,
        enter: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let (generator, stopped) = (Arc::clone(self), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            enter()?;
            ensure!(
                core_affinity::set_for_current(core_affinity::CoreId { id: core }),
                "the generator cannot be pinned to core {core}"
            );
            generator.run(time, &stopped)
        });
        Running { thread, stop }
    }
}

/// A generator at work.
pub struct Running {
    thread: std::thread::JoinHandle<Result<u64>>,
    stop: Arc<AtomicBool>,
}

impl Running {
    /// Ends it after the call that it is in; how many frames it made.
    ///
    /// # Errors
    /// Those of [`Generator::run`].
    pub fn finish(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Ends it after the call that it is in, and does not wait for that.
    pub fn abandon(self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until its time is over; how many frames it made.
    ///
    /// # Errors
    /// Those of [`Generator::run`].
    pub fn join(self) -> Result<u64> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// What the program writes, and the frame that it writes it into.
fn template(traffic: &Traffic) -> Result<(Template, Vec<u8>)> {
    let macs = (traffic.source_mac, traffic.destination_mac);
    let mut frame =
        udp_frame(macs, traffic.source, traffic.destination, traffic.size).with_context(|| {
            format!(
                "no UDP packet of {} bytes from {} to {}",
                traffic.size, traffic.source, traffic.destination
            )
        })?;
    let (l4, ip_checksum_at) =
        if traffic.source.is_ipv4() { (ETHERNET + 20, ETHERNET + 10) } else { (ETHERNET + 40, 0) };
    let l4_checksum_at = if traffic.source.is_ipv4() {
        // UDP over IPv4 may do without (RFC 768), and the sender need not keep it up.
        frame[l4 + 6..l4 + 8].fill(0);
        0
    } else {
        l4 + 6
    };
    let length = (l4 + 8).next_multiple_of(8);
    ensure!(
        length <= frame.len(),
        "{} bytes are too few: the headers are written in words, {length} bytes",
        traffic.size
    );
    let payload = l4 + 8;
    mark(&mut frame, payload, l4_checksum_at);
    let has_room = traffic.size >= payload + SHORT;
    let mut bytes = [0; TEMPLATE_BYTES];
    bytes[..length].copy_from_slice(&frame[..length]);
    let template = Template {
        ifindex: traffic.ifindex,
        length: length as u32,
        flows: traffic.flows,
        destinations: 1,
        source_port_at: l4 as u32,
        destination_at: 0,
        ip_checksum_at: ip_checksum_at as u32,
        l4_checksum_at: l4_checksum_at as u32,
        // Numbers would have to be in the checksum, where there is one.
        payload_at: if has_room && l4_checksum_at == 0 { payload as u32 } else { 0 },
        payload_bytes: (traffic.size - payload) as u32,
        bytes,
    };
    Ok((template, frame))
}

/// Writes the mark of load at the payload's start, by which a far end tells the generator's packets from others'.
fn mark(frame: &mut [u8], payload: usize, checksum_at: usize) {
    let Some(room) = frame.get_mut(payload..payload + 2) else { return };
    room.copy_from_slice(&LOAD_MAGIC);
    if checksum_at != 0 {
        let old = u16::from_be_bytes([frame[checksum_at], frame[checksum_at + 1]]);
        let new = Delta::of(&[0; 2], &LOAD_MAGIC).apply_udp(old);
        frame[checksum_at..checksum_at + 2].copy_from_slice(&new.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
