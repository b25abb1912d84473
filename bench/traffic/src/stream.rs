//! A stream: one packet after the other, written into memory that the caller has; and what the sink makes of them.
//!
//! A packet costs a copy of the template, a few fields, and zeros for the rest: no allocation, no pass over the payload for
//! checksums.

use zsync_packet::header::{Ethernet, Icmp, Icmpv6, Ipv4, Ipv6, Tcp, Udp, ether_type, protocol};

use crate::flows::{Choice, FlowError, Flows};
use crate::pace::{Pace, PaceError, Shape};
use crate::probe::{Probe, Reading, SHORT};
use crate::share::Share;
use crate::size::{SizeError, SizeSequence, Sizes, in_memory};
use crate::sweep::{Sweep, SweepError, Values};
use crate::template::{Checks, Field, Layers, Shaped, Template, TemplateError, VXLAN_PORT};
use crate::turns::Turns;

/// All that a stream's packets are made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The headers.
    pub layers: Layers,
    /// Which fields vary from flow to flow, the fastest first.
    pub sweeps: Vec<(Field, Values)>,
    /// How long packets are.
    pub sizes: Sizes,
    /// How many flows there are.
    pub flows: u32,
    /// Which one is next.
    pub choice: Choice,
    /// The number of the run, which the sink knows it by.
    pub run: u32,
}

/// Why there is no such stream.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StreamError {
    /// The headers.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The sizes.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The flows.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// A sweep.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// More flows than different headers.
    #[error("the sweeps tell {told} flows apart, and {flows} were asked for: widen a sweep, or add one")]
    Alike {
        /// How many there can be.
        told: u64,
        /// How many were asked for.
        flows: u32,
    },
}

/// The memory given is shorter than the packet that is next; nothing was written, and it stays the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the next packet has {need} bytes, and there is room for {room}: the frame must be larger or the sizes smaller"
)]
pub struct NoRoom {
    /// Bytes of the packet.
    pub need: usize,
    /// Bytes that there are.
    pub room: usize,
}

/// Packets, one after the other.
#[derive(Clone, Debug)]
pub struct Stream {
    template: Template,
    shaped: Shaped,
    sweeps: Vec<Sweep>,
    sizes: SizeSequence,
    turns: Turns,
    run: u32,
    /// The next packet's bytes in memory.
    next_len: usize,
}

impl Stream {
    /// The packets of `content` that `seed` leads to.
    ///
    /// # Errors
    /// Any part that cannot be; sizes too short for headers and a short probe; sweeps that give two flows the same
    /// headers, as far as their counts tell (random values may still fall together). One flow needs no sweep.
    pub fn new(content: &Content, seed: u64) -> Result<Self, StreamError> {
        Self::share(content, seed, 0, 1)
    }

    /// Those packets whose flow leaves `part` (from 0) when divided by `of`: `of` generators with one content and one seed
    /// together send the whole stream, each flow from one of them, with the headers and sequence numbers that
    /// [`Stream::new`] gives it. [`Stream::pace`] says when. Each part keeps a mix of sizes exact by itself.
    ///
    /// # Errors
    /// As [`Stream::new`]; a part without flows.
    pub fn share(content: &Content, seed: u64, part: u32, of: u32) -> Result<Self, StreamError> {
        let template = Template::new(&content.layers)?;
        let flows = Flows::share(content.flows, content.choice, seed, part, of)?;
        let share = flows.its_share();
        let mut sizes = SizeSequence::new(&content.sizes, share.seed(seed))?;
        template.check_size(content.sizes.least().into(), SHORT)?;
        let sweeps = content
            .sweeps
            .iter()
            .map(|(field, values)| Sweep::new(&template, *field, values.clone(), seed))
            .collect::<Result<Vec<_>, _>>()?;
        let told = content.sweeps.iter().fold(1u64, |told, (_, values)| told.saturating_mul(values.count()));
        if told < content.flows.into() {
            return Err(StreamError::Alike { told, flows: content.flows });
        }
        let next_len = in_memory(sizes.next_size());
        let (shaped, turns) = (Shaped::new(&template), Turns::new(flows));
        Ok(Self { template, shaped, sweeps, sizes, turns, run: content.run, next_len })
    }

    /// The next packet's length in memory (without FCS).
    #[inline]
    pub fn next_len(&self) -> usize {
        self.next_len
    }

    /// Which share of the whole stream it is.
    pub fn its_share(&self) -> Share {
        self.turns.flows().its_share()
    }

    /// When its packets are to leave, if the whole stream has `rate` packets/s of that shape.
    ///
    /// # Errors
    /// See [`PaceError`].
    pub fn pace(&self, shape: Shape, rate: u64, seed: u64) -> Result<Pace, PaceError> {
        Pace::share(shape, rate, seed, self.its_share())
    }

    /// How many packets of `flow` were written; `None` when there is no such flow in this share.
    pub fn written(&self, flow: u32) -> Option<u64> {
        let share = self.its_share();
        let index =
            flow.checked_sub(share.part()).filter(|ahead| ahead.is_multiple_of(share.of()))? / share.of();
        self.turns.taken(index)
    }

    /// Writes the next packet to the front of `out`, and returns its length (without FCS).
    ///
    /// `departure` is when it was to leave, `now` when it does: ns of one clock.
    ///
    /// # Errors
    /// [`NoRoom`] when `out` is shorter than the packet.
    #[inline]
    pub fn write(&mut self, now: u64, departure: u64, out: &mut [u8]) -> Result<usize, NoRoom> {
        let (len, room) = (self.next_len, out.len());
        let Some(packet) = out.get_mut(..len) else { return Err(NoRoom { need: len, room }) };
        if !self.shaped.emit(&self.template, packet) {
            return Err(NoRoom { need: self.template.header_len(), room: len });
        }
        let mut checks = Checks::default();
        let (flow, sequence) = self.turns.take();
        let mut wheel = flow;
        for sweep in &self.sweeps {
            sweep.write(flow, &mut wheel, packet, &mut checks);
        }
        let probe = Probe { run: self.run, flow, sequence, intended: departure, departed: now, short: false };
        checks.payload(probe.put(&mut packet[self.template.header_len()..]).1);
        self.template.seal(packet, &checks);
        self.next_len = in_memory(self.sizes.next_size());
        Ok(len)
    }
}

/// What a received packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One of a generator's, intact.
    Probe(Probe),
    /// None of ours.
    Foreign,
    /// One of ours, and damaged.
    Corrupt(Damage),
}

/// What is wrong with a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The probe's check, the zeros behind it, or the payload's length.
    Payload,
    /// The checksum of an IPv4 header.
    Ip,
    /// The checksum of UDP, TCP or ICMP.
    Transport,
}

/// What a received packet (from its Ethernet header on, without FCS) is; `now` is the generator's clock.
///
/// Finds the probe behind tags and tunnels, whether the device under test added, removed or left them, and whatever
/// addresses it wrote. Checks the checksums of all headers on the way: of a packet that has a probe, none may be wrong.
pub fn classify(packet: &[u8], now: u64) -> Class {
    let Ok(ethernet) = Ethernet::parse(packet) else { return Class::Foreign };
    let mut damage = None;
    let Some(payload) = payload(ethernet.ether_type(), ethernet.payload(), &mut damage) else {
        return Class::Foreign;
    };
    match (Probe::read(payload, now), damage) {
        (Reading::Foreign, _) => Class::Foreign,
        (_, Some(damage)) => Class::Corrupt(damage),
        (Reading::Damaged, None) => Class::Corrupt(Damage::Payload),
        (Reading::Probe(probe), None) => Class::Probe(probe),
    }
}

/// The payload of the innermost transport header; notes the first wrong checksum on the way.
fn payload<'a>(mut kind: u16, mut bytes: &'a [u8], damage: &mut Option<Damage>) -> Option<&'a [u8]> {
    // Three IP headers: one more tunnel than we can send.
    for _ in 0..3 {
        let (next, inside, addresses) = match kind {
            ether_type::IPV4 => {
                let ip = Ipv4::parse(bytes).ok()?;
                if ip.verify_checksum().is_err() {
                    damage.get_or_insert(Damage::Ip);
                }
                if ip.is_fragment() {
                    return None;
                }
                (ip.protocol(), ip.payload(), ip.address_sum())
            }
            ether_type::IPV6 => {
                let ip = Ipv6::parse(bytes).ok()?;
                let upper = ip.upper().ok()?;
                if upper.is_fragment() {
                    return None;
                }
                (upper.protocol(), upper.payload(), ip.address_sum())
            }
            _ => return None,
        };
        let (found, valid) = match next {
            protocol::UDP => {
                let udp = Udp::parse(inside).ok()?;
                let zero_over_v6 = kind == ether_type::IPV6 && udp.checksum() == 0;
                let valid = udp.verify_checksum(addresses).is_ok();
                if udp.destination_port() == VXLAN_PORT
                    && let Some((vxlan, inner)) = udp.payload().split_at_checked(8)
                    && vxlan[0] == 0x08
                    && let Ok(ethernet) = Ethernet::parse(inner)
                {
                    if !valid && !zero_over_v6 {
                        damage.get_or_insert(Damage::Transport);
                    }
                    (kind, bytes) = (ethernet.ether_type(), ethernet.payload());
                    continue;
                }
                (udp.payload(), valid && !zero_over_v6)
            }
            protocol::TCP => {
                let tcp = Tcp::parse(inside).ok()?;
                (tcp.payload(), tcp.verify_checksum(addresses).is_ok())
            }
            protocol::ICMP => {
                let icmp = Icmp::parse(inside).ok().filter(Icmp::is_echo)?;
                (icmp.payload(), icmp.verify_checksum().is_ok())
            }
            protocol::ICMPV6 => {
                let icmp = Icmpv6::parse(inside).ok().filter(Icmpv6::is_echo)?;
                (icmp.payload(), icmp.verify_checksum(addresses).is_ok())
            }
            protocol::IPIP => {
                (kind, bytes) = (ether_type::IPV4, inside);
                continue;
            }
            protocol::IPV6 => {
                (kind, bytes) = (ether_type::IPV6, inside);
                continue;
            }
            crate::template::GRE => {
                let [flags, 0, high, low, rest @ ..] = inside else { return None };
                let rest = match flags {
                    0 => rest,
                    0x20 => rest.get(4..)?,
                    _ => return None,
                };
                (kind, bytes) = (u16::from_be_bytes([*high, *low]), rest);
                continue;
            }
            _ => return None,
        };
        if !valid {
            damage.get_or_insert(Damage::Transport);
        }
        return Some(found);
    }
    None
}

#[cfg(test)]
mod tests;
