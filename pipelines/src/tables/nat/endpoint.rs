//! One end of a flow: an address, a port, and the protocol whose port it is.
//!
//! Owns its form in shared memory: three words, of which equal ends have equal ones, and no IPv4 end equals an IPv6 one.

use std::net::IpAddr;

use zsync_packet::flow::{FlowKey, HashKey};

/// See the module. For an echo the port is its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address, as in [`FlowKey::words`].
    address: [u64; 2],
    /// Protocol and version, as in the last of [`FlowKey::words`] without its ports.
    kind: u64,
    port: u16,
}

impl Endpoint {
    /// Words of its form in shared memory.
    pub const WORDS: usize = 3;

    /// An end of its own.
    pub fn new(address: IpAddr, port: u16, protocol: u8) -> Self {
        let key = match address {
            IpAddr::V4(v4) => FlowKey::v4((v4, port), ([0; 4].into(), 0), protocol),
            IpAddr::V6(v6) => FlowKey::v6((v6, port), ([0; 16].into(), 0), protocol),
        };
        Self::source(&key)
    }

    /// The end that sends.
    #[inline]
    pub fn source(key: &FlowKey) -> Self {
        let [a, b, _, _, rest] = key.words();
        Self { address: [a, b], kind: rest >> 32 << 32, port: rest as u16 }
    }

    /// The end that receives.
    #[inline]
    pub fn destination(key: &FlowKey) -> Self {
        Self::source(&key.reversed())
    }

    /// The flow from here to `to`, an end of the same family and protocol.
    #[inline]
    pub fn to(&self, to: &Self) -> FlowKey {
        let rest = self.kind | u64::from(self.port) | u64::from(to.port) << 16;
        FlowKey::from_words([self.address[0], self.address[1], to.address[0], to.address[1], rest])
    }

    /// The same address and protocol with another port.
    #[inline]
    pub fn with_port(&self, port: u16) -> Self {
        Self { port, ..*self }
    }

    /// The same port and protocol at another address of the same family.
    pub fn with_address(&self, address: IpAddr) -> Self {
        Self::new(address, self.port, self.protocol())
    }

    /// The address alone: port and protocol zero.
    #[inline]
    pub fn host(&self) -> Self {
        Self { address: self.address, kind: self.kind >> 40 << 40, port: 0 }
    }

    /// The address.
    #[inline]
    pub fn address(&self) -> IpAddr {
        self.to(self).source()
    }

    /// The port, or the identifier of an echo.
    #[inline]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The IP protocol.
    #[inline]
    pub fn protocol(&self) -> u8 {
        (self.kind >> 32) as u8
    }

    /// Whether both are of one family and protocol, so that a flow can go between them.
    #[inline]
    pub fn agrees(&self, other: &Self) -> bool {
        self.kind == other.kind
    }

    /// Its hash.
    #[inline]
    pub fn hash(&self, key: &HashKey) -> u64 {
        self.to(&Self { address: [0; 2], kind: self.kind, port: 0 }).hash(key)
    }

    /// As it lies in shared memory.
    #[inline]
    pub fn words(&self) -> [u64; Self::WORDS] {
        [self.address[0], self.address[1], self.kind | u64::from(self.port)]
    }

    /// What [`Self::words`] gave.
    #[inline]
    pub fn from_words([a, b, rest]: [u64; Self::WORDS]) -> Self {
        Self { address: [a, b], kind: rest >> 32 << 32, port: rest as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_make_flows_and_come_out_of_them() {
        for (a, b) in [("10.0.0.1", "192.0.2.9"), ("fd00::1", "2001:db8::9"), ("::ffff:10.0.0.1", "::")] {
            let (a, b): (IpAddr, IpAddr) = (a.parse().unwrap(), b.parse().unwrap());
            let (from, to) = (Endpoint::new(a, 4000, 17), Endpoint::new(b, 53, 17));
            let key = from.to(&to);
            assert_eq!((key.source(), key.source_port()), (a, 4000));
            assert_eq!((key.destination(), key.destination_port(), key.protocol()), (b, 53, 17));
            assert_eq!((Endpoint::source(&key), Endpoint::destination(&key)), (from, to));
            assert_eq!(Endpoint::from_words(from.words()), from);
            assert_eq!((from.address(), from.port(), from.protocol()), (a, 4000, 17));
            assert_eq!(from.with_port(7).with_address(b), Endpoint::new(b, 7, 17));
            assert_eq!(from.host(), from.with_port(0).host());
            assert_ne!(from.host(), to.host());
        }
        let mapped = Endpoint::new("::ffff:10.0.0.1".parse().unwrap(), 1, 6);
        assert_ne!(mapped, Endpoint::new([10, 0, 0, 1].into(), 1, 6));
        assert!(!mapped.agrees(&Endpoint::new([10, 0, 0, 1].into(), 1, 6)));
    }
}
