//! CRC32c (RFC 9260 appendix A), as far as a change of bytes needs it.
//!
//! A CRC is linear: the CRCs of two datagrams of one length differ by what the difference of their bytes alone gives, so a
//! change of ports needs the length of what follows them and not its bytes. Owns the table; keeps nothing.

/// What the CRC of a datagram of `len` bytes changes by when its first four change by `difference` (old ^ new, both read
/// little-endian).
pub(super) fn change(difference: u32, len: usize) -> u32 {
    (0..len).fold(difference, |crc, _| crc >> 8 ^ TABLE[usize::from(crc as u8)])
}

/// The reflected polynomial of Castagnoli.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_polynomial() {
        // "123456789" has the CRC e3069283; the register starts as all ones, which is a change of the first four bytes.
        let mut crc = u32::MAX;
        for byte in b"123456789" {
            crc = crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)];
        }
        assert_eq!(!crc, 0xe306_9283);
    }

    #[test]
    fn a_change_is_the_difference_of_two_whole_crcs() {
        let whole = |bytes: &[u8]| {
            bytes.iter().fold(u32::MAX, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
        };
        for len in 4..200usize {
            let old: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            let mut new = old.clone();
            new[..4].copy_from_slice(&((len as u32).wrapping_mul(0x9e37_79b1)).to_le_bytes());
            let first = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            assert_eq!(change(first(&old) ^ first(&new), len), whole(&old) ^ whole(&new), "{len}");
        }
    }
}
