//! The kind-length-value options that IPv4 (RFC 791 §3.1) and TCP (RFC 9293 §3.2) share.
//!
//! Owns the walk. Kind 0 ends the list, kind 1 is one byte of padding; every other has a length that counts its
//! first two bytes. Refuses a length under 2 or past the end, once, and ends there.
#![forbid(unsafe_code)]

use super::HeaderError;

/// One option, other than padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderOption<'a> {
    /// What it is.
    pub kind: u8,
    /// Where it begins, in bytes from the first option.
    pub offset: usize,
    /// What follows its kind and length.
    pub data: &'a [u8],
}

/// Walks the options of a header; padding is passed over.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Options<'a> {
    /// Walks `bytes`, the part of a header behind its fixed part.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Options { rest: bytes, offset: 0 }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<HeaderOption<'a>, HeaderError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.rest {
                [] | [0, ..] => {
                    self.rest = &[];
                    return None;
                }
                [1, ref rest @ ..] => {
                    self.rest = rest;
                    self.offset += 1;
                }
                [kind, ref tail @ ..] => {
                    let body = tail.split_first().and_then(|(&len, tail)| {
                        // A length under 2 wraps to a huge one, and the split refuses it.
                        tail.split_at_checked(usize::from(len).wrapping_sub(2))
                    });
                    let Some((data, rest)) = body else {
                        self.rest = &[];
                        return Some(Err(HeaderError::BadOption));
                    };
                    let offset = self.offset;
                    self.rest = rest;
                    self.offset += 2 + data.len();
                    return Some(Ok(HeaderOption { kind, offset, data }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Vec<Result<HeaderOption<'_>, HeaderError>> {
        Options::new(bytes).collect()
    }

    #[test]
    fn padding_is_passed_over_and_the_end_ends() {
        let first = HeaderOption { kind: 2, offset: 1, data: &[5, 180] };
        let second = HeaderOption { kind: 4, offset: 5, data: &[] };
        assert_eq!(walk(&[1, 2, 4, 5, 180, 4, 2, 0, 2, 4]), [Ok(first), Ok(second)]);
        assert_eq!(walk(&[]), []);
    }

    #[test]
    fn a_bad_length_is_said_once() {
        for bytes in [&[2][..], &[2, 0, 1, 1], &[2, 1, 1, 1], &[2, 5, 1, 1], &[2, 255]] {
            assert_eq!(walk(bytes), [Err(HeaderError::BadOption)], "{bytes:?}");
        }
    }
}
