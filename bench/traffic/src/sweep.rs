//! Sweeps: which value a field has in each flow.
//!
//! A value is a function of the flow's number alone: no memory for a flow, and the same one each time. Several sweeps of one
//! stream are nested, the first one fastest, as the wheels of a counter: 100 addresses and 50 ports tell 5000 flows
//! apart. Written as text: `V` (fixed), `V+STEPxCOUNT`, `V..W` (each from V to W), `random:V..W`, or a list `V,W,X`.

use zsync_packet::checksum::Delta;

use crate::random::{mix, scale};
use crate::template::{Checks, Field, Place, Template};

/// The values of a field. Addresses are their bits as a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// One.
    Fixed(u128),
    /// `start`, `start + step`, and so on, `count` of them.
    Step {
        /// The first one.
        start: u128,
        /// From one to the next.
        step: u128,
        /// How many, at least 1.
        count: u32,
    },
    /// Any from the first to the last, both included, scattered by the seed. The range spans at most 2^64 values.
    Random(u128, u128),
    /// These, in this order.
    List(Vec<u128>),
}

/// Why a field cannot be swept so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SweepError {
    /// The packet has no such field.
    #[error("the packet has no {0:?} that could vary")]
    Missing(Field),
    /// A value that the field cannot hold.
    #[error("{field:?} has {bits} bits: {value:#x} does not fit")]
    TooLarge {
        /// Which.
        field: Field,
        /// How wide it is.
        bits: u32,
        /// The largest value asked for.
        value: u128,
    },
    /// No value at all, or a range that ends before it starts.
    #[error(
        "the values of {0:?} are none: a count or a list must have at least 1, a range starts with the smaller"
    )]
    Empty(Field),
    /// A random range that is too wide to draw from.
    #[error("the random range of {0:?} is too wide: at most 2^64 values")]
    Wide(Field),
}

impl Values {
    /// How many flows these values tell apart at most.
    pub fn count(&self) -> u64 {
        match self {
            Self::Fixed(_) => 1,
            Self::Step { count, .. } => (*count).into(),
            Self::Random(low, high) => {
                u64::try_from(high.saturating_sub(*low)).unwrap_or(u64::MAX).saturating_add(1)
            }
            Self::List(list) => list.len() as u64,
        }
    }

    /// The first flow's value, which a template can start with; the lowest of a random range.
    pub fn first(&self) -> u128 {
        match self {
            Self::Fixed(value) | Self::Step { start: value, .. } | Self::Random(value, _) => *value,
            Self::List(list) => list.first().copied().unwrap_or_default(),
        }
    }

    /// The largest value; `None` when it is over 2^128, or there is none.
    fn most(&self) -> Option<u128> {
        match self {
            Self::Fixed(value) => Some(*value),
            Self::Step { start, step, count } => {
                step.checked_mul(count.checked_sub(1)?.into())?.checked_add(*start)
            }
            Self::Random(low, high) => (low <= high).then_some(*high),
            Self::List(list) => list.iter().max().copied(),
        }
    }
}

/// Values and the place that they are written to.
#[derive(Clone, Debug)]
pub struct Sweep {
    place: Place,
    values: Values,
    count: u32,
    seed: u64,
}

impl Sweep {
    /// Binds the values to the field of a template.
    ///
    /// # Errors
    /// See [`SweepError`].
    pub fn new(template: &Template, field: Field, values: Values, seed: u64) -> Result<Self, SweepError> {
        let place = template.place(field).ok_or(SweepError::Missing(field))?;
        let empty = match &values {
            Values::Step { count, .. } => *count == 0,
            Values::Random(low, high) => low > high,
            Values::List(list) => list.is_empty(),
            Values::Fixed(_) => false,
        };
        if empty {
            return Err(SweepError::Empty(field));
        }
        if let Values::Random(low, high) = &values
            && high - low > u128::from(u64::MAX)
        {
            return Err(SweepError::Wide(field));
        }
        let limit = if place.bits == 128 { u128::MAX } else { (1 << place.bits) - 1 };
        let value = values.most().unwrap_or(u128::MAX);
        if value > limit || values.most().is_none() {
            return Err(SweepError::TooLarge { field, bits: place.bits, value });
        }
        let count = u32::try_from(values.count()).unwrap_or(u32::MAX);
        Ok(Self { place, values, count, seed: mix(seed ^ field as u64) })
    }

    /// The value for flow `index` of this sweep alone.
    #[inline]
    fn value(&self, flow: u32, index: u32) -> u128 {
        match &self.values {
            Values::Fixed(value) => *value,
            Values::Step { start, step, .. } => start + step * u128::from(index),
            Values::Random(low, high) => {
                let random = mix(self.seed ^ mix(flow.into()));
                // A span of 2^64 is one more than fits, and then every number will do.
                let span = (high - low) as u64;
                low + u128::from(if span == u64::MAX { random } else { scale(random, span + 1) })
            }
            Values::List(list) => list.get(index as usize).copied().unwrap_or_default(),
        }
    }

    /// Writes this sweep's value for `flow` into a packet of its template, and counts the change.
    ///
    /// `wheel` is what the sweeps before left of the flow's number; it leaves the rest to the next.
    #[inline]
    pub fn write(&self, flow: u32, wheel: &mut u32, packet: &mut [u8], checks: &mut Checks) {
        let index = if matches!(self.values, Values::Random(..)) {
            0
        } else {
            let index = *wheel % self.count;
            *wheel /= self.count;
            index
        };
        let value = self.value(flow, index);
        let place = &self.place;
        let delta = match place.width {
            2 => replace::<2>(packet, place, value),
            4 => replace::<4>(packet, place, value),
            6 => replace::<6>(packet, place, value),
            _ => replace::<16>(packet, place, value),
        };
        checks.count(self.place.covers, delta);
    }
}

/// Reads the window anew, because the windows of two fields can overlap (DSCP and flow label).
#[inline]
fn replace<const N: usize>(packet: &mut [u8], place: &Place, value: u128) -> Delta {
    let Some(window) = packet.get_mut(place.offset..).and_then(|rest| rest.first_chunk_mut::<N>()) else {
        return Delta::NONE;
    };
    let old = *window;
    let mask = u128::MAX >> (128 - place.bits) << place.shift;
    let value = value << place.shift & mask;
    if N <= 8 {
        // Half as wide, and so a third of the work.
        let word = old.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let word = word & !(mask as u64) | value as u64;
        if let Some(new) = word.to_be_bytes().last_chunk::<N>() {
            *window = *new;
        }
    } else {
        let word = old.iter().fold(0, |word, byte| word << 8 | u128::from(*byte));
        let word = word & !mask | value;
        if let Some(new) = word.to_be_bytes().last_chunk::<N>() {
            *window = *new;
        }
    }
    Delta::of(&old, window)
}

#[cfg(test)]
mod tests;
