//! Message authentication codes of handshake messages, and cookies against floods (the paper, §5.3, §5.4.4, §5.4.7).
//!
//! Owns: what makes and checks codes on our side ([`Gate`]), and what a peer has told us for its ([`Jar`]). Refuses: messages
//! whose first code is wrong; under load, those whose second is. Keeps true: a cookie is of one address and port, and good for
//! two minutes; codes are compared in constant time.

use crate::key::{PublicKey, Secret};
use crate::message::{self, COOKIE_REPLY_LEN, word};
use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use std::net::{IpAddr, SocketAddr};
use subtle::ConstantTimeEq;

/// Bytes of a code, and of a cookie.
pub const CODE_LEN: usize = 16;
/// Nanoseconds after which our secret changes, and after which a cookie is used no more.
pub const COOKIE_LIFE: u64 = 120 * 1_000_000_000;
/// For so long before that, nobody should begin to use one: the kernel's COOKIE_SECRET_LATENCY.
const LATENCY: u64 = 5 * 1_000_000_000;

type Code = [u8; CODE_LEN];

fn code(key: &[u8], parts: &[&[u8]]) -> Code {
    match <Blake2sMac<U16> as KeyInit>::new_from_slice(key) {
        Ok(mut mac) => {
            parts.iter().for_each(|part| Update::update(&mut mac, part));
            mac.finalize_fixed().into()
        }
        // Keys are never longer than 32 bytes.
        Err(_) => [0; CODE_LEN],
    }
}

fn label(label: &[u8; 8], public: &PublicKey) -> [u8; 32] {
    Digest::finalize(Blake2s256::new().chain_update(label).chain_update(public.0)).into()
}

/// How a handshake message passes at our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Its first code is wrong, or it is none.
    No,
    /// Its first code is right.
    Known,
    /// Both are: its sender gets what is sent to its address.
    Reachable,
}

/// Checks messages for us, and makes cookies.
pub struct Gate {
    code_key: [u8; 32],
    cookie_key: [u8; 32],
    /// Of this and of the two minutes before.
    secrets: [Secret; 2],
    /// When the first was made.
    since: u64,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Gate {
    /// Ours, at `now` (nanoseconds); of two secrets of the system's randomness.
    pub fn new(public: &PublicKey, now: u64, secrets: [Secret; 2]) -> Self {
        Self {
            code_key: label(b"mac1----", public),
            cookie_key: label(b"cookie--", public),
            secrets,
            since: now,
        }
    }

    /// Whether it is time for a new secret.
    pub fn is_stale(&self, now: u64) -> bool {
        now.saturating_sub(self.since) >= COOKIE_LIFE
    }

    /// Puts a new secret in place; the one before is good for another two minutes.
    pub fn renew(&mut self, now: u64, secret: Secret) {
        let before = std::mem::replace(&mut self.secrets[0], secret);
        self.secrets[1] = before;
        self.since = now;
    }

    /// What the codes of `message`, an initiation or a response from `from`, say.
    pub fn check(&self, message: &[u8], from: SocketAddr) -> Pass {
        let Some((rest, second)) = message.split_last_chunk::<CODE_LEN>() else { return Pass::No };
        let Some((body, first)) = rest.split_last_chunk::<CODE_LEN>() else { return Pass::No };
        if !bool::from(code(&self.code_key, &[body]).ct_eq(first)) {
            return Pass::No;
        }
        let right = |secret: &Secret| code(&cookie(secret, from), &[rest]).ct_eq(second);
        if bool::from(right(&self.secrets[0]) | right(&self.secrets[1])) {
            Pass::Reachable
        } else {
            Pass::Known
        }
    }

    /// The answer to `message`, an initiation or a response from `from` whose first code is right: a cookie for its sender.
    pub fn reply(&self, message: &[u8], from: SocketAddr, nonce: &[u8; 24]) -> [u8; COOKIE_REPLY_LEN] {
        let mut reply = message::cookie_reply(word(message, 4));
        reply[8..32].copy_from_slice(nonce);
        let mut sealed = cookie(&self.secrets[0], from);
        let first = message.len().checked_sub(2 * CODE_LEN).and_then(|at| message.get(at..at + CODE_LEN));
        let cipher = XChaCha20Poly1305::new(Key::from_slice(&self.cookie_key));
        let tag =
            cipher.encrypt_in_place_detached(XNonce::from_slice(nonce), first.unwrap_or(&[]), &mut sealed);
        if let Ok(tag) = tag {
            reply[32..48].copy_from_slice(&sealed);
            reply[48..].copy_from_slice(&tag);
        }
        reply
    }
}

fn cookie(secret: &Secret, from: SocketAddr) -> Code {
    let port = from.port().to_be_bytes();
    match from.ip() {
        IpAddr::V4(ip) => code(secret.expose(), &[&ip.octets(), &port]),
        IpAddr::V6(ip) => code(secret.expose(), &[&ip.octets(), &port]),
    }
}

/// What a peer wants to see on our handshake messages.
#[derive(Clone)]
pub struct Jar {
    code_key: [u8; 32],
    cookie_key: [u8; 32],
    /// The first code of the last message.
    sent: Option<Code>,
    /// The cookie, and when it came.
    cookie: Option<(Code, u64)>,
}

impl std::fmt::Debug for Jar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jar").field("has_cookie", &self.cookie.is_some()).finish_non_exhaustive()
    }
}

impl Jar {
    /// For messages to `peer`.
    pub fn new(peer: &PublicKey) -> Self {
        Self {
            code_key: label(b"mac1----", peer),
            cookie_key: label(b"cookie--", peer),
            sent: None,
            cookie: None,
        }
    }

    /// Writes the codes of `message`, an initiation or a response that is whole but for them.
    pub fn sign(&mut self, message: &mut [u8], now: u64) {
        let Some((rest, second)) = message.split_last_chunk_mut::<CODE_LEN>() else { return };
        let Some((body, first)) = rest.split_last_chunk_mut::<CODE_LEN>() else { return };
        *first = code(&self.code_key, &[body]);
        self.sent = Some(*first);
        let fresh = self.cookie.filter(|(_, since)| now.saturating_sub(*since) < COOKIE_LIFE - LATENCY);
        *second = fresh.map_or([0; CODE_LEN], |(cookie, _)| code(&cookie, &[rest]));
    }

    /// Takes a cookie. False: it answers none of our messages, and nothing changes.
    pub fn take(&mut self, reply: &[u8; COOKIE_REPLY_LEN], now: u64) -> bool {
        let Some(sent) = self.sent else { return false };
        let mut cookie = [0; CODE_LEN];
        cookie.copy_from_slice(&reply[32..48]);
        let cipher = XChaCha20Poly1305::new(Key::from_slice(&self.cookie_key));
        let (nonce, tag) = (XNonce::from_slice(&reply[8..32]), reply[48..].into());
        if cipher.decrypt_in_place_detached(nonce, &sent, &mut cookie, tag).is_err() {
            return false;
        }
        // It answers one message once.
        self.sent = None;
        self.cookie = Some((cookie, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn gate() -> (Gate, Jar) {
        let public = Secret::new([3; 32]).public();
        (Gate::new(&public, 0, [Secret::new([1; 32]), Secret::new([2; 32])]), Jar::new(&public))
    }

    fn message(jar: &mut Jar, now: u64) -> [u8; 148] {
        let mut message = message::initiation(77);
        message[20] = 9;
        jar.sign(&mut message, now);
        message
    }

    #[test]
    fn a_cookie_makes_a_sender_reachable_at_its_address_alone() {
        let (gate, mut jar) = gate();
        for from in ["192.0.2.1:5", "[2001:db8::1]:5"] {
            let (from, other): (SocketAddr, SocketAddr) =
                (from.parse().unwrap(), "192.0.2.2:5".parse().unwrap());
            jar.cookie = None;
            let first = message(&mut jar, 0);
            assert_eq!(gate.check(&first, from), Pass::Known);
            let reply = gate.reply(&first, from, &[5; 24]);
            assert_eq!(word(&reply, 4), 77);
            assert!(jar.take(&reply, 0));
            assert!(!jar.take(&reply, 0), "a second time");
            let second = message(&mut jar, SECOND);
            assert_eq!(gate.check(&second, from), Pass::Reachable);
            assert_eq!(gate.check(&second, other), Pass::Known);
            let mut port = from;
            port.set_port(6);
            assert_eq!(gate.check(&second, port), Pass::Known);
        }
    }

    #[test]
    fn any_changed_byte_is_seen() {
        let (gate, mut jar) = gate();
        let from = "192.0.2.1:5".parse().unwrap();
        let whole = message(&mut jar, 0);
        for at in 0..132 {
            let mut spoiled = whole;
            spoiled[at] ^= 1;
            assert_eq!(gate.check(&spoiled, from), Pass::No, "byte {at}");
        }
        assert_eq!(gate.check(&whole[..31], from), Pass::No);
        let mut reply = gate.reply(&whole, from, &[5; 24]);
        for at in 8..COOKIE_REPLY_LEN {
            reply[at] ^= 1;
            assert!(!jar.take(&reply, 0), "byte {at}");
            reply[at] ^= 1;
        }
        assert!(jar.take(&reply, 0));
    }

    #[test]
    fn cookies_and_secrets_grow_old() {
        let (mut gate, mut jar) = gate();
        let from = "192.0.2.1:5".parse().unwrap();
        let first = message(&mut jar, 0);
        assert!(jar.take(&gate.reply(&first, from, &[5; 24]), 0));
        assert!(!gate.is_stale(119 * SECOND) && gate.is_stale(120 * SECOND));
        gate.renew(120 * SECOND, Secret::new([4; 32]));
        assert_eq!(gate.check(&message(&mut jar, 114 * SECOND), from), Pass::Reachable, "the secret before");
        assert_eq!(gate.check(&message(&mut jar, 116 * SECOND), from), Pass::Known, "too old to begin with");
        gate.renew(240 * SECOND, Secret::new([5; 32]));
        assert_eq!(gate.check(&message(&mut jar, 114 * SECOND), from), Pass::Known);
    }
}
