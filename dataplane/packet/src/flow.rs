//! The identity of a flow, and its keyed hash.
//!
//! Owns [`FlowKey`]: addresses, ports and protocol of either family in one value of 40 bytes without pointers or
//! padding, so that it can lie in shared memory and be compared as bytes. Its invariant: equal keys have equal
//! bytes, and an IPv4 flow never equals an IPv6 one.
//!
//! **Fragments** carry no ports but the first, so every fragment has zero ports, **the first too**: else the first
//! would hash to another next hop, or another worker, than the rest of its datagram, and arrive out of order, or
//! never meet them. Who needs the ports of a fragmented datagram puts it together first. For IPv6 the protocol of a
//! fragment is the one that the fragment header names, which all fragments have in common.
#![forbid(unsafe_code)]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::header::{HeaderError, Icmp, Icmpv6, Ipv4, Ipv6, Ports, Upper, field, protocol};

/// Who talks to whom. Addresses and ports are in the direction of the packet; see [`reversed`](Self::reversed).
///
/// Words, not fields: a key is built, hashed and compared in registers, and a word that was just stored is loaded
/// again at the same width, without a stall.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct FlowKey {
    /// Source and destination, two words each, as their octets lie in a header; then, from the low end: source port
    /// (16 bits), destination port (16), protocol (8), version (8), zero (16).
    ///
    /// The version, 4 or 6, is there because an IPv6 packet may well carry `::ffff:192.0.2.1`, which must not pass
    /// for the IPv4 flow.
    words: [u64; 5],
}

const _: () = assert!(size_of::<FlowKey>() == 40);

impl FlowKey {
    /// No flow: of neither family.
    pub const NONE: FlowKey = FlowKey { words: [0; 5] };

    /// The flow of an IPv4 packet. IPv4 addresses are kept in their mapped form (RFC 4291 §2.5.5.2).
    #[inline]
    pub fn v4(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), protocol: u8) -> FlowKey {
        let mapped = |address: Ipv4Addr| (0xffff << 32 | u64::from(address.to_bits())).to_be();
        FlowKey { words: [0, mapped(from.0), 0, mapped(to.0), rest(from.1, to.1, protocol, 4)] }
    }

    /// The flow of an IPv6 packet.
    #[inline]
    pub fn v6(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), protocol: u8) -> FlowKey {
        let ([source_hi, source_lo], [destination_hi, destination_lo]) = (halves(from.0), halves(to.0));
        let rest = rest(from.1, to.1, protocol, 6);
        FlowKey { words: [source_hi, source_lo, destination_hi, destination_lo, rest] }
    }

    /// The flow of an IP packet of either family, from its first byte on.
    ///
    /// # Errors
    /// What [`Ipv4::parse`], [`Ipv6::parse`] and [`Ipv6::upper`] refuse; `BadVersion` for another family.
    #[inline]
    pub fn of(packet: &[u8]) -> Result<FlowKey, HeaderError> {
        match packet.first().ok_or(HeaderError::Truncated)? >> 4 {
            4 => Ok(FlowKey::of_ipv4(&Ipv4::parse(packet)?)),
            6 => FlowKey::of_ipv6(&Ipv6::parse(packet)?),
            _ => Err(HeaderError::BadVersion),
        }
    }

    /// The flow of a checked IPv4 packet.
    #[inline]
    pub fn of_ipv4(packet: &Ipv4<'_>) -> FlowKey {
        let ports = if packet.is_fragment() { (0, 0) } else { ports(packet.protocol(), packet.payload(), 4) };
        FlowKey::v4((packet.source(), ports.0), (packet.destination(), ports.1), packet.protocol())
    }

    /// The flow of a checked IPv6 packet. The addresses are those of the fixed header, whatever a routing header says.
    ///
    /// # Errors
    /// What [`Ipv6::upper`] refuses. A router, which need not care, may hash the addresses alone: [`FlowKey::v6`].
    #[inline]
    pub fn of_ipv6(packet: &Ipv6<'_>) -> Result<FlowKey, HeaderError> {
        Ok(FlowKey::of_ipv6_upper(packet, &packet.upper()?))
    }

    /// The flow of a checked IPv6 packet whose extension headers were walked already.
    #[inline]
    pub fn of_ipv6_upper(packet: &Ipv6<'_>, upper: &Upper<'_>) -> FlowKey {
        let (ports, protocol) = match upper.fragmented_protocol() {
            Some(protocol) if upper.is_fragment() => ((0, 0), protocol),
            _ => (ports(upper.protocol(), upper.payload(), 6), upper.protocol()),
        };
        FlowKey::v6((packet.source(), ports.0), (packet.destination(), ports.1), protocol)
    }

    /// The words that it is stored as; the upper 16 bits of the last one are 0.
    #[inline]
    pub fn words(&self) -> [u64; 5] {
        self.words
    }

    /// A key from the words that it was stored as. Words that were never a key make one that equals no packet's, or
    /// another flow's: who reads memory that others write must be content with that.
    #[inline]
    pub fn from_words(words: [u64; 5]) -> FlowKey {
        FlowKey { words }
    }

    /// 4 or 6; 0 for [`NONE`](Self::NONE).
    #[inline]
    pub fn version(&self) -> u8 {
        (self.words[4] >> 40) as u8
    }

    /// The same flow with these ports: a fragment with those of its first one.
    #[inline]
    pub fn with_ports(&self, source: u16, destination: u16) -> FlowKey {
        let [a, b, c, d, rest] = self.words;
        FlowKey { words: [a, b, c, d, rest >> 32 << 32 | u64::from(source) | u64::from(destination) << 16] }
    }

    /// The addresses and the version alone: the same for all that goes between two hosts in one direction.
    #[inline]
    pub fn addresses_alone(&self) -> FlowKey {
        let [a, b, c, d, rest] = self.words;
        FlowKey { words: [a, b, c, d, rest >> 40 << 40] }
    }

    /// A hash that is the same for a flow and its answers.
    #[inline]
    pub fn symmetric_hash(&self, key: &HashKey) -> u64 {
        let [a, b, c, d, rest] = self.words;
        let ports = rest as u32;
        // One of the two directions, whichever has the lower end first.
        if (a, b, ports & 0xffff) <= (c, d, ports >> 16) { self.hash(key) } else { self.reversed().hash(key) }
    }

    /// The flow of the answers.
    #[inline]
    pub fn reversed(&self) -> FlowKey {
        let [a, b, c, d, rest] = self.words;
        let ports = (rest as u32).rotate_left(16);
        FlowKey { words: [c, d, a, b, rest >> 32 << 32 | u64::from(ports)] }
    }

    /// Who sends.
    #[inline]
    pub fn source(&self) -> IpAddr {
        self.address(self.words[0], self.words[1])
    }

    /// To whom.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        self.address(self.words[2], self.words[3])
    }

    /// The sender's port; the identifier of an echo; 0 where there is neither.
    #[inline]
    pub fn source_port(&self) -> u16 {
        self.words[4] as u16
    }

    /// The receiver's port; the identifier of an echo; 0 where there is neither.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        (self.words[4] >> 16) as u16
    }

    /// One of [`protocol`].
    #[inline]
    pub fn protocol(&self) -> u8 {
        (self.words[4] >> 32) as u8
    }

    /// The hash under `key`: see [`HashKey`] for what it is good for.
    #[inline]
    pub fn hash(&self, key: &HashKey) -> u64 {
        let [k0, k1, k2, k3, k4, k5, k6, k7] = key.0;
        let [source_hi, source_lo, destination_hi, destination_lo, rest] = self.words;
        let sum = wide(source_lo.wrapping_add(k0), destination_lo.wrapping_add(k1))
            .wrapping_add(wide(source_hi.wrapping_add(k2), destination_hi.wrapping_add(k3)))
            .wrapping_add(wide(rest.wrapping_add(k4), k5));
        let last = wide(sum as u64 ^ k6, (sum >> 64) as u64 ^ k7);
        last as u64 ^ (last >> 64) as u64
    }

    #[inline]
    fn address(&self, hi: u64, lo: u64) -> IpAddr {
        let lo = u64::from_be(lo);
        if self.version() == 4 {
            IpAddr::V4(Ipv4Addr::from_bits(lo as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(u64::from_be(hi)) << 64 | u128::from(lo)))
        }
    }
}

impl core::fmt::Debug for FlowKey {
    /// `protocol 17: 192.0.2.1:4000 -> 192.0.2.2:53`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let end = |address, port| core::net::SocketAddr::new(address, port);
        let (from, to) =
            (end(self.source(), self.source_port()), end(self.destination(), self.destination_port()));
        write!(f, "protocol {}: {from} -> {to}", self.protocol())
    }
}

/// The ports of a transport that has them, twice the identifier of an echo, else zeros. A transport too short to have
/// them is left to the stage that reads it; here it has zeros.
#[inline]
fn ports(protocol: u8, payload: &[u8], version: u8) -> (u16, u16) {
    match protocol {
        protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::DCCP | protocol::SCTP => {
            Ports::parse(payload).map_or((0, 0), |ports| (ports.source(), ports.destination()))
        }
        protocol::ICMP if version == 4 => twice(Icmp::parse(payload).ok().and_then(|m| m.echo_id())),
        protocol::ICMPV6 if version == 6 => twice(Icmpv6::parse(payload).ok().and_then(|m| m.echo_id())),
        _ => (0, 0),
    }
}

/// The identifier counts as both ports, so that the flow of an echo reply is that of its request reversed.
#[inline]
fn twice(id: Option<u16>) -> (u16, u16) {
    let id = id.unwrap_or(0);
    (id, id)
}

/// The two words of an address, as its octets lie in a header.
#[inline]
fn halves(address: Ipv6Addr) -> [u64; 2] {
    let octets = address.octets();
    [*field::<0, 8, _>(&octets), *field::<8, 8, _>(&octets)].map(u64::from_ne_bytes)
}

/// The last word of a key.
#[inline]
fn rest(source_port: u16, destination_port: u16, protocol: u8, version: u8) -> u64 {
    u64::from(source_port)
        | u64::from(destination_port) << 16
        | u64::from(protocol) << 32
        | u64::from(version) << 40
}

#[inline]
fn wide(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

/// The secret of a hash: 64 random bytes, drawn anew at every boot and told to nobody.
///
/// The hash has two layers. The first is NH (Black et al., "UMAC", CRYPTO 1999, §4): two different keys that were
/// chosen without seeing any hash have the same 128 bits with a probability of at most 2⁻⁶⁴ over the secret. That
/// is proven. The second folds 128 bits to 64 by one more multiplication, as wyhash does; that it mixes well is
/// tested, not proven.
///
/// So it resists who sends many flows blindly to fill one bucket. It is **not** a pseudo-random function: who sees
/// hashes, or can measure which flows collide, may learn the secret. A table must therefore bound its probes and
/// stay correct when all hashes are equal, and hashes must not be shown or exported. Four multiplications, three of
/// them independent.
#[derive(Clone)]
pub struct HashKey([u64; 8]);

impl HashKey {
    /// A secret from 64 random bytes.
    pub fn from_bytes(bytes: &[u8; 64]) -> HashKey {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        HashKey(words)
    }

    /// The same secret for the same seed: for tests and simulations, whose hashes must not change.
    pub fn from_seed(seed: u64) -> HashKey {
        // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
        let mut state = seed;
        HashKey(core::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }))
    }
}

impl core::fmt::Debug for HashKey {
    /// Without the secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

#[cfg(test)]
mod tests;
