//! What the tests share: a network namespace of the test's own, and a device under test with known faults.
#![allow(dead_code, reason = "no test file uses all of it")]
#![allow(unsafe_code, reason = "unshare")]

pub mod nat;

use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use zsync_bench_xsk::{Action, Match, Options, Receiver, Sink, Transmitter};
use zsync_ends::source::What;
use zsync_ends::{Enter, Port};
use zsync_traffic::profile::Profile;

/// Runs `test` in a network namespace that ends with it, also when it panics, and takes its devices along: veth pairs
/// (`va`, `vb`) and (`vc`, `vd`) of two queues each, all up. Without root, says so and skips; in CI that is a failure.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let outcome = thread::spawn(|| {
        // SAFETY: the flag moves neither this thread's memory nor its descriptors.
        if let Err(error) = unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot make a network namespace: {error}");
            eprintln!("SKIPPED: cannot make a network namespace: {error}");
            return;
        }
        ip("link set lo up");
        for (one, other) in [("va", "vb"), ("vc", "vd")] {
            let queues = "numtxqueues 2 numrxqueues 2";
            ip(&format!("link add {one} {queues} type veth peer name {other} {queues}"));
            for device in [one, other] {
                // Or the kernel's own neighbour discovery would be among what is counted.
                ip(&format!("link set {device} addrgenmode none"));
                ip(&format!("link set {device} up"));
            }
        }
        test();
    })
    .join();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// New threads are where the test's is.
pub fn here() -> Enter {
    Arc::new(|| Ok(()))
}

pub fn port(device: &str, queue: u32) -> Port {
    Port { device: device.to_owned(), queue, core: None }
}

pub fn what(profile: &str) -> What {
    let profile: Profile = profile.parse().unwrap();
    What::Stream { content: Arc::new(profile.content), seed: profile.seed }
}

/// What becomes of a device's packet, by its number from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Drop,
    Twice,
    /// Passes after the next one.
    Late,
    /// With a byte of its payload changed.
    Spoilt,
}

/// A device under test between `vb` and `vc`, in a thread.
pub struct Device {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Device {
    /// One that does with each packet what `fate` says, which is told its number and shown its bytes.
    pub fn start(mut fate: impl FnMut(u64, &[u8]) -> Fate + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let options = Options { ring: 16_384, ..Options::default() };
            let mut program = Sink::attach("vb", Action::Receive, Match::All).unwrap();
            let mut receiver = Receiver::open(&mut program, 0, &options).unwrap();
            let mut transmitter = Transmitter::open("vc", 0, &options).unwrap();
            ready.send(()).unwrap();
            let mut number = 0;
            let mut held: Option<Vec<u8>> = None;
            let mut out: Vec<Vec<u8>> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                receiver
                    .wait(Duration::from_millis(1), |packet, _| {
                        let mut packet = packet.to_vec();
                        let fate = fate(number, &packet);
                        number += 1;
                        match fate {
                            Fate::Drop => return,
                            Fate::Late => return drop(held.replace(packet)),
                            Fate::Twice => out.push(packet.clone()),
                            Fate::Spoilt => *packet.last_mut().unwrap() ^= 1,
                            Fate::Pass => {}
                        }
                        out.push(packet);
                        out.extend(held.take());
                    })
                    .unwrap();
                let mut next = out.drain(..);
                while next.len() > 0 {
                    transmitter
                        .send(next.len(), |frame| {
                            next.next().map_or(0, |packet| {
                                frame[..packet.len()].copy_from_slice(&packet);
                                packet.len()
                            })
                        })
                        .unwrap();
                }
            }
            assert_eq!(receiver.missed(), 0, "the device itself was too slow");
            number
        });
        is_ready.recv().unwrap();
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; how many packets it had.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
