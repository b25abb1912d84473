//! What traffic is named by: [`Prefix`], a range of addresses, and [`Service`], a protocol and its port.
//!
//! A `Prefix` never has a bit set past its length, and a `Service` never has port 0. Both are text when serialised, but for a
//! prefix in a format that nobody reads.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A range of IP addresses: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

/// Why a text is not a [`Prefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// There is no `/`.
    #[error("no length")]
    NoLength(IpAddr),
    /// The part before the `/` is no IPv4 or IPv6 address.
    #[error("not an IP address")]
    Address,
    /// The part after the `/` is no number, or too large a one.
    #[error("a length must be a number from 0 to {max}")]
    Length {
        /// 32 or 128.
        max: u8,
    },
    /// The address has bits set past the length.
    #[error("bits are set past the length")]
    HostBits(Prefix),
}

impl Prefix {
    /// The prefix that `addr` lies in.
    ///
    /// # Errors
    /// `len` is above 32 or 128, or `addr` has a bit set past it (the error has the masked prefix).
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, PrefixError> {
        let (max, masked) = match addr {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32u32.saturating_sub(len.into())).unwrap_or(0);
                (32, IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask)))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128u32.saturating_sub(len.into())).unwrap_or(0);
                (128, IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)))
            }
        };
        let prefix = Self { addr: masked, len };
        if len > max {
            Err(PrefixError::Length { max })
        } else if masked != addr {
            Err(PrefixError::HostBits(prefix))
        } else {
            Ok(prefix)
        }
    }

    /// The range of one address.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, len: if addr.is_ipv4() { 32 } else { 128 } }
    }

    /// Reads a prefix, or an address, which is the range of itself.
    ///
    /// # Errors
    /// The text is neither.
    pub fn of_hosts(text: &str) -> Result<Self, PrefixError> {
        match text.parse() {
            Err(PrefixError::NoLength(addr)) => Ok(Self::host(addr)),
            other => other,
        }
    }

    /// As [`Self::of_hosts`] reads it: an address, where it is one alone.
    #[must_use]
    pub fn to_hosts(&self) -> String {
        if *self == Self::host(self.addr) { self.addr.to_string() } else { self.to_string() }
    }

    /// The lowest address of the range.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// How many leading bits count: 0..=32 for IPv4, 0..=128 for IPv6.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "the length of a prefix, not of a collection")]
    pub fn len(&self) -> u8 {
        self.len
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let Some((addr, len)) = text.split_once('/') else {
            return Err(text.parse().map_or(PrefixError::Address, PrefixError::NoLength));
        };
        let addr: IpAddr = addr.parse().map_err(|_| PrefixError::Address)?;
        let digits = !len.is_empty() && len.bytes().all(|byte| byte.is_ascii_digit());
        let len = len.parse().ok().filter(|_| digits);
        let max = if addr.is_ipv4() { 32 } else { 128 };
        Self::new(addr, len.ok_or(PrefixError::Length { max })?)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { (self.addr, self.len).serialize(to) }
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let prefix = if from.is_human_readable() {
            String::deserialize(from)?.parse()
        } else {
            let (addr, len) = Deserialize::deserialize(from)?;
            Self::new(addr, len)
        };
        prefix.map_err(D::Error::custom)
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

/// Traffic to one port of one protocol, at any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Service {
    protocol: Protocol,
    port: u16,
}

/// Why a text is not a [`Service`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// What stands before the `/` is not `tcp` or `udp`.
    #[error("the protocol must be tcp or udp")]
    Protocol,
    /// What stands after the `/` is not a port.
    #[error("the port must be a number from 1 to 65535")]
    Port,
}

impl Service {
    /// The transport protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The destination port, 1..=65535.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let (protocol, port) = text.split_once('/').ok_or(ServiceError::Protocol)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(ServiceError::Protocol),
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0).ok_or(ServiceError::Port)?;
        Ok(Self { protocol, port })
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol}/{}", self.port)
    }
}

impl TryFrom<String> for Service {
    type Error = ServiceError;

    fn try_from(text: String) -> Result<Self, ServiceError> {
        text.parse()
    }
}

impl From<Service> for String {
    fn from(service: Service) -> String {
        service.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "2001:db8::/32", "::1/128"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        let masked = |text: &str| match text.parse::<Prefix>() {
            Err(PrefixError::HostBits(prefix)) => prefix.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(masked("10.1.2.3/8"), "10.0.0.0/8");
        assert_eq!(masked("128.0.0.0/0"), "0.0.0.0/0");
        assert_eq!(masked("192.0.2.1/31"), "192.0.2.0/31");
        assert_eq!(masked("2001:db8::1/127"), "2001:db8::/127");
        assert_eq!(masked("8000::/0"), "::/0");
    }

    #[test]
    fn not_prefixes() {
        let error = |text: &str| text.parse::<Prefix>().unwrap_err();
        assert_eq!(error("10.0.0.0/33"), PrefixError::Length { max: 32 });
        assert_eq!(error("::/129"), PrefixError::Length { max: 128 });
        for text in ["10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0.0/256"] {
            assert_eq!(error(text), PrefixError::Length { max: 32 }, "{text}");
        }
        assert_eq!(error("10.0.0/8"), PrefixError::Address);
        assert_eq!(error("10.0.0.1"), PrefixError::NoLength(Ipv4Addr::new(10, 0, 0, 1).into()));
    }

    #[test]
    fn services() {
        for text in ["tcp/1", "udp/65535"] {
            assert_eq!(text.parse::<Service>().unwrap().to_string(), text);
        }
        for text in ["tcp/0", "tcp/65536", "tcp/+1", "tcp/"] {
            assert_eq!(text.parse::<Service>(), Err(ServiceError::Port), "{text}");
        }
        for text in ["", "53", "icmp/1", "TCP/1"] {
            assert_eq!(text.parse::<Service>(), Err(ServiceError::Protocol), "{text}");
        }
    }
}
