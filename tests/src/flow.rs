//! A paced flow of numbered UDP packets.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::thread::gettid;

use crate::process::hurry;
use crate::{Lab, Namespace, Report, report::Arrival};

/// What the receiver's socket may hold: seconds of the fastest flow, so that a loss is not the receiver's.
const RECEIVE_BUFFER: usize = 64 << 20;
/// How often the receiver looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);
/// How long stragglers may take after the last packet is sent.
const STRAGGLERS: Duration = Duration::from_millis(300);
/// The sender's naps; as short as a timer's slack allows.
const NAP: Duration = Duration::from_micros(50);

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct FlowPlan {
    /// Packets a second.
    pub rate: u32,
    /// Source address; port 0 for any.
    pub source: SocketAddr,
    /// Where the receiver listens.
    pub target: SocketAddr,
    /// Bytes of UDP payload, 8 at least.
    pub payload: usize,
}

/// A running flow. Dropping it ends it.
#[derive(Debug)]
pub struct Flow {
    start: Instant,
    stop: Arc<Stop>,
    sender: Option<JoinHandle<Vec<Duration>>>,
    receiver: Option<JoinHandle<Vec<Arrival>>>,
}

#[derive(Debug, Default)]
struct Stop {
    sender: AtomicBool,
    receiver: AtomicBool,
}

impl Flow {
    /// From one namespace to another.
    ///
    /// # Errors
    /// When a socket cannot be bound.
    pub fn start(from: &Namespace, to: &Namespace, plan: FlowPlan) -> Result<Self> {
        let inbound = to.run(|| UdpSocket::bind(plan.target).context("the receiver's socket"))?;
        set_socket_recv_buffer_size_force(&inbound, RECEIVE_BUFFER)?;
        inbound.set_read_timeout(Some(LOOK))?;
        let outbound = from.run(|| UdpSocket::bind(plan.source).context("the sender's socket"))?;

        let start = Instant::now();
        let stop = Arc::new(Stop::default());
        let thread = |name: &str| thread::Builder::new().name(name.into());
        let receiver = {
            let stop = stop.clone();
            thread("flow-receiver").spawn(move || receive(&inbound, start, &stop.receiver))?
        };
        let sender = {
            let stop = stop.clone();
            thread("flow-sender").spawn(move || send(&outbound, plan, start, &stop.sender))?
        };
        Ok(Self { start, stop, sender: Some(sender), receiver: Some(receiver) })
    }

    /// From the lab's client to this UDP port of its server, over IPv4, 64 bytes a packet.
    ///
    /// # Errors
    /// As [`Flow::start`].
    pub fn to_server(lab: &Lab, rate: u32, port: u16) -> Result<Self> {
        let source = SocketAddr::new(lab.client_addresses[0], 0);
        let plan = FlowPlan { rate, source, target: lab.service(port), payload: 64 };
        Self::start(&lab.client, &lab.server, plan)
    }

    /// Time since its start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends it, waits for what is under way, and tells.
    ///
    /// # Errors
    /// When one of its threads panicked.
    pub fn finish(mut self) -> Result<Report> {
        let sent = self.join_sender()?;
        thread::sleep(STRAGGLERS);
        Ok(Report::new(sent, self.join_receiver()?))
    }

    fn join_sender(&mut self) -> Result<Vec<Duration>> {
        self.stop.sender.store(true, Relaxed);
        join(self.sender.take())
    }

    fn join_receiver(&mut self) -> Result<Vec<Arrival>> {
        self.stop.receiver.store(true, Relaxed);
        join(self.receiver.take())
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let _ = self.join_sender();
        let _ = self.join_receiver();
    }
}

fn join<T: Default>(thread: Option<JoinHandle<T>>) -> Result<T> {
    thread.map_or_else(
        || Ok(T::default()),
        |thread| thread.join().map_err(|_| anyhow!("a flow's thread panicked")),
    )
}

fn send(socket: &UdpSocket, plan: FlowPlan, start: Instant, stop: &AtomicBool) -> Vec<Duration> {
    hurry(gettid());
    let mut packet = vec![0; plan.payload.max(8)];
    let mut sent = Vec::with_capacity(plan.rate as usize * 64);
    while !stop.load(Relaxed) {
        let due = start.elapsed().as_nanos() * u128::from(plan.rate) / 1_000_000_000;
        while (sent.len() as u128) < due {
            packet[..8].copy_from_slice(&(sent.len() as u64).to_be_bytes());
            let at = start.elapsed();
            // Refused by our own stack (a neighbour, a full queue): not sent, and tried again.
            match socket.send_to(&packet, plan.target) {
                Ok(_) => sent.push(at),
                Err(_) => break,
            }
        }
        thread::sleep(NAP);
    }
    sent
}

fn receive(socket: &UdpSocket, start: Instant, stop: &AtomicBool) -> Vec<Arrival> {
    hurry(gettid());
    let mut packet = [0; 9000];
    let mut arrived = Vec::with_capacity(1 << 20);
    while !stop.load(Relaxed) {
        match socket.recv(&mut packet) {
            Ok(length) => {
                let at = start.elapsed();
                if let Some(number) = packet[..length].first_chunk() {
                    arrived.push(Arrival { number: u64::from_be_bytes(*number), at });
                }
            }
            // Interrupted: a socket with a timeout does not go on after the process was stopped (signal(7)).
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error) => panic!("receiving: {error}"),
        }
    }
    arrived
}
