//! Swept fields: the sweeps of a profile's text, and what a template starts with.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zsync_packet::header::Mac;

use super::pairs::{Pairs, SWEPT};
use crate::sweep::Values;
use crate::template::{Field, Ip};

fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn mac(text: &str) -> Option<u128> {
    let mut bytes: Mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte =
            parts.next().filter(|part| part.len() == 2).and_then(|part| u8::from_str_radix(part, 16).ok())?;
    }
    parts.next().is_none().then(|| bytes.iter().fold(0, |word, byte| word << 8 | u128::from(*byte)))
}

fn address_number(text: &str, v6: bool) -> Option<u128> {
    match text.parse().ok()? {
        IpAddr::V4(address) => (!v6).then_some(address.to_bits().into()),
        IpAddr::V6(address) => v6.then_some(address.to_bits()),
    }
}

/// Which family a sweep of addresses is of: colons are IPv6's.
fn is_v6(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.trim_start_matches("random:").contains(':'))
}

/// What the sweeps of a text start with, for the template.
pub(super) struct Swept(pub(super) Vec<(Field, Values)>);

impl Swept {
    /// Reads the sweeps in the order of the text.
    pub(super) fn read(pairs: &mut Pairs<'_>) -> Self {
        let v6 = |pairs: &Pairs<'_>, keys: [&str; 2]| is_v6(keys.iter().find_map(|key| pairs.text(key)));
        let (inner, outer) = (v6(pairs, ["src", "dst"]), v6(pairs, ["outer-src", "outer-dst"]));
        // In the order of the text, because the first one turns fastest.
        let keys: Vec<&str> = pairs.pairs.iter().map(|(key, _)| *key).collect();
        let mut swept = Vec::new();
        for (name, field) in keys.iter().filter_map(|key| SWEPT.iter().find(|(name, _)| name == key)) {
            let address =
                |v6: bool| if v6 { "an IPv6 address as its pair's" } else { "an IPv4 address as its pair's" };
            let values = match field {
                Field::SourceMac | Field::DestinationMac => pairs.sweep(name, mac, "02:00:00:00:00:01"),
                Field::Source | Field::Destination => {
                    pairs.sweep(name, |text| address_number(text, inner), address(inner))
                }
                Field::OuterSource | Field::OuterDestination => {
                    pairs.sweep(name, |text| address_number(text, outer), address(outer))
                }
                _ => pairs.sweep(name, number, "a number"),
            };
            swept.extend(values.map(|values| (*field, values)));
        }
        Self(swept)
    }

    /// Whether the text says the field.
    pub(super) fn has(&self, field: Field) -> bool {
        self.0.iter().any(|(known, _)| *known == field)
    }

    /// The first value of a field as far as `T` can hold it; the sweep says so when it does not fit.
    pub(super) fn first<T: TryFrom<u128>>(&self, field: Field, default: T) -> T {
        let values = self.0.iter().find(|(known, _)| *known == field).map(|(_, values)| values.first());
        values.and_then(|value| T::try_from(value).ok()).unwrap_or(default)
    }

    /// The first value of a MAC address.
    pub(super) fn mac(&self, field: Field, default: u64) -> Mac {
        let bytes = self.first(field, default).to_be_bytes();
        [bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
    }

    /// An IP header with the first values; `text` tells its family.
    pub(super) fn ip(&self, fields: [Field; 4], text: Option<&str>, defaults: [IpAddr; 2]) -> Ip {
        let [source, destination, ttl, dscp] = fields;
        let v6 = is_v6(text);
        let address = |field, default: IpAddr| {
            let default = match default {
                IpAddr::V4(address) if v6 => address.to_ipv6_mapped().into(),
                other => other,
            };
            match default {
                IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(self.first(field, address.to_bits()))),
                IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(self.first(field, address.to_bits()))),
            }
        };
        let mut ip = Ip::new(address(source, defaults[0]), address(destination, defaults[1]));
        // Too large ones are the sweep's to refuse.
        (ip.ttl, ip.dscp) = (self.first(ttl, 64), self.first(dscp, 0).min(63));
        ip
    }
}
