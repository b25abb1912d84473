//! A short name for a text, or for other bytes.

/// 32 hexadecimal digits that are the same for the same bytes, on every machine and in every version: FNV-1a with 128 bits.
///
/// It tells apart what people write. It is no cryptographic hash: who wants to can find two texts with one fingerprint.
#[must_use]
pub fn fingerprint(source: impl AsRef<[u8]>) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = (1 << 88) + 0x13b;
    let hash =
        source.as_ref().iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_fnv_reference_code() {
        assert_eq!(fingerprint(""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(fingerprint("a"), "d228cb696f1a8caf78912b704e4a8964");
        assert_eq!(fingerprint("foobar"), "343e1662793c64bf6f0d3597ba446f18");
    }
}
