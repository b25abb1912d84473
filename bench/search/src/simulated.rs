//! A simulated device of known capacity, behind a simulated generator: what searches are tested against.
//!
//! Owns: the model. Keeps true: the same seed gives the same counts, and [`Device::rate_at_loss`] says from the model's
//! parameters, not from its counts, what a search must find.

use crate::back_to_back::{Burst, Bursts};
use crate::connections::{Connections, Established};
use crate::recovery::{Overload, Relieved};
use crate::reset::Arrival;
use crate::trial::{Latency, Measured, Trial};
use std::convert::Infallible;
use std::f64::consts::TAU;
use std::time::Duration;

/// How a device loses packets, besides those beyond its capacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// It does not.
    None,
    /// This part of all packets, at any load.
    Floor(f64),
    /// None below `knee` (a part of the capacity), then more and more, up to `most` (a part of the packets) at the capacity.
    Growing {
        /// Where it begins, as a part of the capacity, below 1.
        knee: f64,
        /// Part of the packets lost at the capacity and beyond.
        most: f64,
    },
    /// Now and then some packets in a row.
    Random {
        /// Mean number of such events per second.
        per_second: f64,
        /// Packets lost in each.
        packets: u64,
    },
    /// The capacity itself goes up and down, as a sine of the device's time.
    Drift {
        /// By this part of the capacity.
        amplitude: f64,
        /// In this time.
        period: Duration,
    },
}

/// The device, and the generator before it.
#[derive(Clone, Debug)]
pub struct Device {
    /// Packets per second that it forwards.
    pub capacity: f64,
    /// How it loses packets.
    pub loss: Loss,
    /// Packets that it buffers.
    pub buffer: u64,
    /// Latency of a packet that meets no other, nanoseconds.
    pub latency: u64,
    /// For how long it goes on losing packets after an overload.
    pub recovery: Duration,
    /// Packets per second of the generator at most.
    pub generator: f64,
    /// The generator reaches half of the rate in every trial whose number, from 1, is a multiple of this; 0 for never.
    pub hiccup_every: u32,
    /// Each trial's rate is too low, and its duration too long, by up to this part.
    pub jitter: f64,
    /// What changes from trial to trial.
    pub state: State,
}

/// A device's time and randomness.
#[derive(Clone, Debug)]
pub struct State {
    random: Random,
    now: f64,
    trials: u32,
}

impl Device {
    /// A device that loses nothing below its capacity, behind a generator without limit.
    pub fn new(capacity: f64, seed: u64) -> Self {
        Self {
            capacity,
            loss: Loss::None,
            buffer: 0,
            latency: 5_000,
            recovery: Duration::ZERO,
            generator: f64::INFINITY,
            hiccup_every: 0,
            jitter: 0.0,
            state: State { random: Random(seed), now: 0.0, trials: 0 },
        }
    }

    /// The greatest rate, in packets per second, at which no more than this part is lost in a long trial: what a search must
    /// find. Random events and drift are left out. None where every load loses more.
    pub fn rate_at_loss(&self, ratio: f64) -> Option<f64> {
        let overload = self.capacity / (1.0 - ratio);
        match self.loss {
            Loss::Floor(floor) if floor > ratio => None,
            Loss::Growing { knee, most } if most > ratio => {
                Some(self.capacity * (knee + ratio / most * (1.0 - knee)))
            }
            _ => Some(overload),
        }
    }

    /// Packets of `sent` that are lost before they meet the capacity.
    fn lost(&mut self, sent: u64, rate: f64, seconds: f64) -> u64 {
        let sent = sent as f64;
        let expected = match self.loss {
            Loss::None | Loss::Drift { .. } => 0.0,
            Loss::Floor(floor) => sent * floor,
            Loss::Growing { knee, most } => {
                let beyond = (rate / self.capacity - knee) / (1.0 - knee);
                sent * most * beyond.clamp(0.0, 1.0)
            }
            Loss::Random { per_second, packets } => {
                // Waiting times of a Poisson process, until the trial is over.
                let (mut at, mut events) = (self.state.random.exponential() / per_second, 0);
                while at < seconds {
                    at += self.state.random.exponential() / per_second;
                    events += 1;
                }
                ((events * packets) as f64).min(sent)
            }
        };
        // A part of a packet is a packet with that probability.
        (expected.floor() + f64::from(u8::from(self.state.random.unit() < expected.fract()))) as u64
    }

    /// Packets that it can forward in the next `seconds`.
    fn forwardable(&self, seconds: f64) -> f64 {
        match self.loss {
            Loss::Drift { amplitude, period } => {
                let turn = TAU / period.as_secs_f64();
                let swing = (turn * self.state.now).cos() - (turn * (self.state.now + seconds)).cos();
                self.capacity * (seconds + amplitude * swing / turn)
            }
            _ => self.capacity * seconds,
        }
    }

    /// An M/M/1 queue's quantiles, which the buffer cuts off.
    fn quantiles(&self, rate: f64) -> Latency {
        let service = 1e9 / self.capacity;
        let full = self.buffer as f64 * service;
        let load = rate / self.capacity;
        let quantile = |part: f64| {
            let wait = if load < 1.0 { -(1.0 - part).ln() * service * load / (1.0 - load) } else { full };
            self.latency + wait.min(full) as u64
        };
        let [p50, p90, p99, p999, max] = [0.5, 0.9, 0.99, 0.999, 0.999_999].map(quantile);
        Latency { min: self.latency, p50, p90, p99, p999, max }
    }
}

impl Trial for Device {
    type Error = Infallible;

    fn run(&mut self, rate: f64, duration: Duration) -> Result<Measured, Infallible> {
        self.state.trials += 1;
        let hiccup = self.hiccup_every > 0 && self.state.trials.is_multiple_of(self.hiccup_every);
        let slower = 1.0 - self.jitter * self.state.random.unit();
        let offered = rate.min(self.generator) * slower * if hiccup { 0.5 } else { 1.0 };
        let duration = duration.mul_f64(1.0 + self.jitter * self.state.random.unit());
        let seconds = duration.as_secs_f64();
        let sent = (offered * seconds) as u64;
        let arrived = sent - self.lost(sent, offered, seconds).min(sent);
        // Half a packet, as the product of two floats may miss a whole number from below.
        let forwarded = (self.forwardable(seconds) + 0.5) as u64 + self.buffer;
        self.state.now += seconds;
        let latency = Some(self.quantiles(offered));
        Ok(Measured { asked: rate, offered, sent, received: arrived.min(forwarded), duration, latency })
    }
}

impl Bursts for Device {
    type Error = Infallible;

    /// At the generator's rate, which must be finite: the queue grows by what arrives and shrinks by what is forwarded.
    fn burst(&mut self, packets: u64) -> Result<Burst, Infallible> {
        let (mut received, mut forwarded, mut credit) = (0, 0, 0.0);
        for _ in 0..packets {
            if received - forwarded < self.buffer {
                received += 1;
            }
            credit += self.capacity / self.generator;
            while credit >= 1.0 {
                credit -= 1.0;
                forwarded = received.min(forwarded + 1);
            }
        }
        Ok(Burst { sent: packets, received, rate: self.generator })
    }
}

impl Overload for Device {
    type Error = Infallible;

    fn run(&mut self, overload: f64, relief: f64, duration: Duration) -> Result<Relieved, Infallible> {
        let offered = overload.min(self.generator);
        let excess = (offered - self.capacity) * duration.as_secs_f64() - self.buffer as f64;
        let last_lost_at = (excess > 0.0).then(|| duration + self.recovery);
        let after = relief * self.recovery.as_secs_f64();
        let lost = if excess > 0.0 { (excess + after) as u64 } else { 0 };
        Ok(Relieved { offered, cut_at: duration, last_lost_at, lost })
    }
}

/// What arrives of `sent` packets, `apart` from each other, through a device that is away from one time until (not including)
/// another, each such time counted from the first packet on.
pub fn arrivals(sent: u64, apart: Duration, away: &[(Duration, Duration)]) -> Vec<Arrival> {
    let at = |sequence: u64| Duration::from_nanos(apart.as_nanos() as u64 * sequence);
    let gone = |now: Duration| away.iter().any(|&(from, until)| (from..until).contains(&now));
    (0..sent)
        .map(|sequence| Arrival { sequence, at: at(sequence) })
        .filter(|arrival| !gone(arrival.at))
        .collect()
}

/// What a table does with a connection too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Refuses the new one.
    Refuses,
    /// Forgets the oldest one.
    ForgetsOldest,
}

/// A stateful device's table of connections.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Connections that it holds.
    pub capacity: u64,
    /// Connections that it opens per second.
    pub rate: f64,
    /// What it does beyond its capacity.
    pub full: Full,
    /// Connections per second of the generator at most.
    pub generator: f64,
    /// Connections that it holds now.
    pub held: u64,
}

impl Connections for Table {
    type Error = Infallible;

    fn clear(&mut self) -> Result<(), Infallible> {
        self.held = 0;
        Ok(())
    }

    fn establish(&mut self, count: u64, rate: f64) -> Result<Established, Infallible> {
        let offered = rate.min(self.generator);
        let opened = (count as f64 * (self.rate / offered).min(1.0)) as u64;
        let room = self.capacity - self.held;
        let established = if self.full == Full::Refuses { opened.min(room) } else { opened };
        self.held = (self.held + established).min(self.capacity);
        let duration = Duration::from_secs_f64(count as f64 / offered);
        Ok(Established { offered, tried: count, established, duration })
    }

    fn validate(&mut self, count: u64) -> Result<u64, Infallible> {
        Ok(count.min(self.held))
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough for counts.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    /// From 0 up to, not including, 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Of mean 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}
