//! Which routes `show fib` is about, and which ends of connections `show flows` and `show mappings` are.

use std::net::IpAddr;

/// Routes within a prefix, or those that cover an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteFilter {
    /// This prefix and all within it.
    Within(IpAddr, u8),
    /// All prefixes that the address lies in.
    Covering(IpAddr),
}

impl RouteFilter {
    /// Reads `10.0.0.0/8` or `10.0.0.1`. Bits past the length do not matter.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some((addr, len)) = text.split_once('/') else {
            return text.parse().map(Self::Covering).map_err(|_| "no IP address and no prefix");
        };
        let addr: IpAddr = addr.parse().map_err(|_| "no IP address before the `/`")?;
        let len = len.parse().ok().filter(|len| *len <= bits(addr));
        len.map(|len| Self::Within(addr, len)).ok_or("the length is no number of bits of the address")
    }

    /// Whether the address is one of them: it lies within the prefix, or is the address itself.
    #[must_use]
    pub fn has(self, addr: IpAddr) -> bool {
        self.matches(addr, bits(addr))
    }

    /// Whether the route `addr/len` is one of them.
    #[must_use]
    pub fn matches(self, addr: IpAddr, len: u8) -> bool {
        match self {
            Self::Within(around, least) => least <= len && same(around, addr, least),
            Self::Covering(host) => len <= bits(host) && same(addr, host, len),
        }
    }
}

fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// Whether two addresses are of one family and agree in their first `len` bits.
fn same(a: IpAddr, b: IpAddr, len: u8) -> bool {
    let (differ, width) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => ((a.to_bits() ^ b.to_bits()).leading_zeros(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => ((a.to_bits() ^ b.to_bits()).leading_zeros(), 128),
        _ => return false,
    };
    len <= width && differ >= u32::from(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_and_covering() {
        for (filter, addr, len, matches) in [
            ("10.0.0.0/8", "10.1.0.0", 16, true),
            ("10.0.0.0/8", "10.0.0.0", 8, true),
            ("10.9.9.9/8", "10.0.0.0", 8, true),
            ("10.0.0.0/8", "0.0.0.0", 0, false),
            ("10.0.0.0/8", "11.0.0.0", 16, false),
            ("0.0.0.0/0", "11.0.0.0", 16, true),
            ("0.0.0.0/0", "::", 0, false),
            ("10.1.2.3", "0.0.0.0", 0, true),
            ("10.1.2.3", "10.1.0.0", 16, true),
            ("10.1.2.3", "10.1.2.3", 32, true),
            ("10.1.2.3", "10.1.2.2", 32, false),
            ("10.1.2.3", "::", 0, false),
            ("2001:db8::/32", "2001:db8:1::", 48, true),
            ("2001:db8::/32", "2001:db9::", 48, false),
            ("2001:db8::1", "2001:db8::", 32, true),
            ("2001:db8::1", "2001:db8::1", 128, true),
        ] {
            let route: IpAddr = addr.parse().unwrap();
            assert_eq!(
                RouteFilter::parse(filter).unwrap().matches(route, len),
                matches,
                "{filter} {addr}/{len}"
            );
        }
    }

    #[test]
    fn addresses() {
        for (filter, addr, has) in [
            ("10.0.0.0/8", "10.9.9.9", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::1", "2001:db8::1", true),
            ("2001:db8::1", "2001:db8::2", false),
            ("0.0.0.0/0", "::", false),
            ("::", "0.0.0.0", false),
        ] {
            let filter = RouteFilter::parse(filter).unwrap();
            assert_eq!(filter.has(addr.parse().unwrap()), has, "{filter:?} {addr}");
        }
    }

    #[test]
    fn no_filter() {
        for text in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/", "/8", "10.0.0.0/-1", "10.0.0/8"] {
            assert!(RouteFilter::parse(text).is_err(), "{text}");
        }
    }
}
