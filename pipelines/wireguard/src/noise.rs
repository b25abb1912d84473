//! The handshake: `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s`, by `snow`.
//!
//! Owns: who we are, and handshakes on their way. Refuses: messages that were not made for us, and public keys that lead to a
//! shared secret of zeros (RFC 7748 §6.1). Keeps true: a handshake's keys are given out once, and only after both sides have
//! contributed; ephemeral keys come of the entropy that the caller hands in, 32 bytes for each handshake; what is secret in a
//! handshake is wiped with it (`state`).

mod state;

use crate::key::{KEY_LEN, PublicKey, Secret};
use crate::message::{self, INITIATION_LEN, MACS_LEN, RESPONSE_LEN, word};
use curve25519_dalek::montgomery::MontgomeryPoint;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use state::{State, WipedCipher, WipedHash};
use std::fmt;
use std::sync::LazyLock;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

static PARAMS: LazyLock<Option<NoiseParams>> =
    LazyLock::new(|| "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().ok());
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// A time as handshakes carry it: TAI64N. Later ones are greater.
pub type Stamp = [u8; 12];

/// The stamp of a time in nanoseconds since 1970.
pub fn stamp(unix: u64) -> Stamp {
    let mut stamp = [0; 12];
    // TAI was 10 s ahead when its label was fixed; nobody looks at more than the order.
    stamp[..8].copy_from_slice(&((1 << 62) + 10 + unix / 1_000_000_000).to_be_bytes());
    // Below 10⁹.
    stamp[8..].copy_from_slice(&((unix % 1_000_000_000) as u32).to_be_bytes());
    stamp
}

/// Why a handshake goes no further.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// It was not made for us, or with another key, or was changed on its way.
    #[error("a handshake message that does not authenticate")]
    NotAuthentic,
    /// A key that no peer has.
    #[error("a public key that leads to no secret")]
    BadKey,
}

/// The keys of a session.
#[derive(Clone, Debug)]
pub struct Keys {
    /// What we seal with.
    pub sending: Secret,
    /// What we open with.
    pub receiving: Secret,
}

/// Who we are.
#[derive(Clone, Debug)]
pub struct Identity {
    private: Secret,
    public: PublicKey,
}

/// A handshake that we have begun.
pub struct Begun(State);

/// A handshake that somebody else has begun.
pub struct Received {
    /// Who.
    pub peer: PublicKey,
    /// When, as they say.
    pub stamp: Stamp,
    /// Their index of the session.
    pub index: u32,
    state: State,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Begun")
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("peer", &self.peer)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// The owner of this private key.
    pub fn new(private: Secret) -> Self {
        Self { public: private.public(), private }
    }

    /// How others know us.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Begins a handshake with `peer` for our session `index`: the message is whole but for its two codes.
    ///
    /// # Errors
    /// The peer's key is none that leads to a secret.
    pub fn begin(
        &self,
        peer: &PublicKey,
        preshared: &Secret,
        index: u32,
        stamp: &Stamp,
        entropy: Secret,
    ) -> Result<(Begun, [u8; INITIATION_LEN]), HandshakeError> {
        let params = PARAMS.clone().ok_or(HandshakeError::BadKey)?;
        let state = Builder::with_resolver(params, self.resolver(entropy))
            .local_private_key(self.private.expose())
            .and_then(|builder| builder.remote_public_key(&peer.0))
            .and_then(|builder| builder.prologue(PROLOGUE))
            .and_then(|builder| builder.psk(2, preshared.expose()))
            .and_then(Builder::build_initiator)
            .map_err(|_| HandshakeError::BadKey)?;
        let mut state = State::new(state);
        let mut message = message::initiation(index);
        let end = INITIATION_LEN - MACS_LEN;
        state.write_message(stamp, &mut message[8..end]).map_err(|_| HandshakeError::BadKey)?;
        Ok((Begun(state), message))
    }

    /// Takes a handshake that somebody begins with us, whose first code was checked.
    ///
    /// # Errors
    /// It is not for us.
    pub fn receive(
        &self,
        message: &[u8; INITIATION_LEN],
        entropy: Secret,
    ) -> Result<Received, HandshakeError> {
        let params = PARAMS.clone().ok_or(HandshakeError::BadKey)?;
        // The preshared key is the peer's, who is not known yet.
        let nothing = [0; KEY_LEN];
        let state = Builder::with_resolver(params, self.resolver(entropy))
            .local_private_key(self.private.expose())
            .and_then(|builder| builder.prologue(PROLOGUE))
            .and_then(|builder| builder.psk(2, &nothing))
            .and_then(Builder::build_responder)
            .map_err(|_| HandshakeError::BadKey)?;
        let mut state = State::new(state);
        let mut stamp = [0; 12];
        let end = INITIATION_LEN - MACS_LEN;
        match state.read_message(&message[8..end], &mut stamp) {
            Ok(12) => {}
            _ => return Err(HandshakeError::NotAuthentic),
        }
        let peer = state.get_remote_static().and_then(<[u8]>::first_chunk::<KEY_LEN>);
        let peer = PublicKey(*peer.ok_or(HandshakeError::NotAuthentic)?);
        Ok(Received { peer, stamp, index: word(message, 4), state })
    }

    fn resolver(&self, entropy: Secret) -> Box<Resolver> {
        Box::new(Resolver { private: self.private.clone(), public: self.public, entropy })
    }
}

impl Received {
    /// Answers, for our session `index`: the message is whole but for its codes.
    ///
    /// # Errors
    /// The peer's keys are none that lead to a secret.
    pub fn respond(
        mut self,
        preshared: &Secret,
        index: u32,
    ) -> Result<(Keys, [u8; RESPONSE_LEN]), HandshakeError> {
        self.state.set_psk(2, preshared.expose()).map_err(|_| HandshakeError::BadKey)?;
        let mut message = message::response(index, self.index);
        let end = RESPONSE_LEN - MACS_LEN;
        self.state.write_message(&[], &mut message[12..end]).map_err(|_| HandshakeError::BadKey)?;
        let (theirs, ours) = split(&mut self.state);
        Ok((Keys { sending: ours, receiving: theirs }, message))
    }
}

impl Begun {
    /// Ends it with the peer's answer, whose first code was checked. A wrong answer changes nothing: the right one may come yet.
    ///
    /// # Errors
    /// It is no answer to this.
    pub fn finish(&mut self, message: &[u8; RESPONSE_LEN]) -> Result<Keys, HandshakeError> {
        let end = RESPONSE_LEN - MACS_LEN;
        match self.0.read_message(&message[12..end], &mut []) {
            Ok(0) => {}
            _ => return Err(HandshakeError::NotAuthentic),
        }
        let (ours, theirs) = split(&mut self.0);
        Ok(Keys { sending: ours, receiving: theirs })
    }
}

/// The initiator's sending key, and the responder's.
fn split(state: &mut HandshakeState) -> (Secret, Secret) {
    let (first, second) = state.dangerously_get_raw_split();
    (Secret::new(first), Secret::new(second))
}

/// What `snow` computes with: its own, wiped when it goes, but for the curve, where our own public key is not derived anew for every
/// handshake, and for randomness, which is the caller's.
struct Resolver {
    private: Secret,
    public: PublicKey,
    entropy: Secret,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.entropy.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let known = Some((self.private.clone(), self.public));
        matches!(choice, DHChoice::Curve25519)
            .then(|| Box::new(Curve { known, private: Zeroizing::default(), public: [0; KEY_LEN] }) as _)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice).map(|hash| Box::new(WipedHash(hash)) as _)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice).map(|cipher| Box::new(WipedCipher(cipher)) as _)
    }
}

/// Gives out 32 bytes, once.
struct Once(Option<Secret>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let bytes = self.0.take().ok_or(snow::Error::Rng)?;
        let dest = dest.first_chunk_mut::<KEY_LEN>().ok_or(snow::Error::Rng)?;
        *dest = *bytes.expose();
        Ok(())
    }
}

/// Curve25519 (RFC 7748).
struct Curve {
    known: Option<(Secret, PublicKey)>,
    private: Zeroizing<[u8; KEY_LEN]>,
    public: [u8; KEY_LEN],
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, private: &[u8]) {
        if let Some(private) = private.first_chunk() {
            *self.private = *private;
            let known = self.known.take().filter(|(known, _)| known.expose().ct_eq(private).into());
            self.public = match known {
                Some((_, public)) => public.0,
                None => MontgomeryPoint::mul_base_clamped(*private).to_bytes(),
            };
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        rng.try_fill_bytes(&mut *self.private)?;
        self.public = MontgomeryPoint::mul_base_clamped(*self.private).to_bytes();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let (public, out) = public.first_chunk().zip(out.first_chunk_mut()).ok_or(snow::Error::Dh)?;
        *out = MontgomeryPoint(*public).mul_clamped(*self.private).to_bytes();
        // RFC 7748 §6.1: a point of small order.
        if out.ct_eq(&[0; KEY_LEN]).into() { Err(snow::Error::Dh) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
