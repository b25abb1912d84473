//! Keys of WireGuard: private, public, preshared.
//!
//! Owns: their text form, which is base64 as `wg` writes it, and the derivation of a public key. Refuses: text that is not 32
//! bytes. Keeps true: secrets are wiped when they go, and are never printed.

use base64ct::{Base64, Encoding};
use curve25519_dalek::montgomery::MontgomeryPoint;
use std::fmt;
use std::str::FromStr;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of any key.
pub const KEY_LEN: usize = 32;

/// A text that is no key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a key: 44 characters of base64, as `wg genkey` writes them")]
pub struct NotAKey;

fn decode(text: &str) -> Result<[u8; KEY_LEN], NotAKey> {
    let mut bytes = [0; KEY_LEN];
    match Base64::decode(text.trim(), &mut bytes) {
        Ok(decoded) if decoded.len() == KEY_LEN => Ok(bytes),
        _ => Err(NotAKey),
    }
}

/// A public key: who somebody is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; KEY_LEN]);

impl FromStr for PublicKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        decode(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base64::encode_string(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A private or a preshared key.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; KEY_LEN]>);

impl Secret {
    /// Of these bytes; a private key is clamped when it is used (RFC 7748 §5).
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes: for who computes with them, or hands them on.
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The public key of a private one.
    pub fn public(&self) -> PublicKey {
        PublicKey(MontgomeryPoint::mul_base_clamped(*self.0).to_bytes())
    }

    /// As text: for who keeps it in a file.
    pub fn expose_text(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64::encode_string(&*self.0))
    }
}

impl FromStr for Secret {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        decode(text).map(Self::new)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_what_wg_pubkey_says() {
        // RFC 7748 §6.1: Alice.
        let alice = Secret::new([
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
            0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ]);
        assert_eq!(alice.public().to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn text_goes_both_ways_and_bad_text_is_refused() {
        let text = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        assert_eq!(text.parse::<PublicKey>().unwrap().to_string(), text);
        assert_eq!(format!("{text}\n").parse::<Secret>().unwrap().expose_text().as_str(), text);
        for bad in ["", "abc", &text[1..], &text.replace('h', "!"), &text.replace('=', "")] {
            assert_eq!(bad.parse::<PublicKey>(), Err(NotAKey), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let text = format!("{:?}", Secret::new([0x41; 32]));
        assert!(!text.contains("41") && !text.contains("65") && !text.contains("QUFB"), "{text}");
    }
}
