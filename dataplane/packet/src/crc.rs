//! CRC32c, the checksum of SCTP (RFC 9260 appendix A): of bytes, and of a change of them.
//!
//! A CRC is linear: the CRCs of two datagrams of one length differ by what the difference of their bytes alone gives, so a
//! change of ports needs the length of what follows them and not its bytes. Owns the table; keeps nothing.
#![forbid(unsafe_code)]

/// The CRC of `bytes`. SCTP writes it with the lowest byte first, and takes it of the whole datagram, with its own field zero (§6.8).
#[must_use]
pub fn of(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// What the CRC of a datagram of `len` bytes changes by when its first four change by `difference` (old ^ new, both read
/// little-endian).
pub(crate) fn change(difference: u32, len: usize) -> u32 {
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
        assert_eq!(of(b"123456789"), 0xe306_9283);
        // RFC 3720 appendix B.4.
        assert_eq!((of(&[0; 32]), of(&[0xff; 32]), of(&[])), (0x8a91_36aa, 0x62a8_ab43, 0));
    }

    #[test]
    fn a_change_is_the_difference_of_two_whole_crcs() {
        for len in 4..200usize {
            let old: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            let mut new = old.clone();
            new[..4].copy_from_slice(&((len as u32).wrapping_mul(0x9e37_79b1)).to_le_bytes());
            let first = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            assert_eq!(change(first(&old) ^ first(&new), len), of(&old) ^ of(&new), "{len}");
        }
    }
}
