//! A handshake's state that leaves no secrets behind where it was.
//!
//! `snow` (0.10) wipes nothing. Keeps true: when a state goes, its place in memory has been overwritten by a state that knows
//! nothing, with the chaining key and the preshared key that were there; keys of ciphers are overwritten, and what the hash last
//! worked on; private keys are wiped with [`super::Curve`]. Not wiped is what `snow` had on the stack while it computed.

use super::{KEY_LEN, PARAMS, PublicKey, Resolver, Secret};
use snow::types::{Cipher, Hash};
use snow::{Builder, HandshakeState};
use std::hint::black_box;
use std::ops::{Deref, DerefMut};

/// See the module.
pub(super) struct State(Box<HandshakeState>);

impl State {
    pub(super) fn new(state: HandshakeState) -> Self {
        Self(Box::new(state))
    }

    /// Makes it one that knows nothing, in the place where it is.
    fn forget(&mut self) {
        if let Some(blank) = blank() {
            *self.0 = blank;
        }
        // Somebody may look at it still, as far as the compiler knows.
        black_box(&mut *self.0);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Deref for State {
    type Target = HandshakeState;

    fn deref(&self) -> &HandshakeState {
        &self.0
    }
}

impl DerefMut for State {
    fn deref_mut(&mut self) -> &mut HandshakeState {
        &mut self.0
    }
}

/// The state of nobody, who is about to begin with nobody.
fn blank() -> Option<HandshakeState> {
    const NOTHING: [u8; KEY_LEN] = [0; KEY_LEN];
    let nobody = || Secret::new(NOTHING);
    // Its public key is said, so none is computed.
    let resolver = Resolver { private: nobody(), public: PublicKey(NOTHING), entropy: nobody() };
    Builder::with_resolver(PARAMS.clone()?, Box::new(resolver))
        .local_private_key(&NOTHING)
        .and_then(|builder| builder.remote_public_key(&NOTHING))
        .and_then(|builder| builder.psk(2, &NOTHING))
        .and_then(Builder::build_initiator)
        .ok()
}

/// A cipher whose key is overwritten when it goes.
pub(super) struct WipedCipher(pub(super) Box<dyn Cipher>);

impl Cipher for WipedCipher {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        self.0.set(key);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        self.0.encrypt(nonce, authtext, plaintext, out)
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        self.0.decrypt(nonce, authtext, ciphertext, out)
    }
}

impl Drop for WipedCipher {
    fn drop(&mut self) {
        self.0.set(&[0; KEY_LEN]);
        black_box(&mut *self.0);
    }
}

/// A hash that forgets what it last worked on when it goes.
pub(super) struct WipedHash(pub(super) Box<dyn Hash>);

impl Hash for WipedHash {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn block_len(&self) -> usize {
        self.0.block_len()
    }

    fn hash_len(&self) -> usize {
        self.0.hash_len()
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.input(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        self.0.result(out);
    }
}

impl Drop for WipedHash {
    fn drop(&mut self) {
        // A whole block, which takes the place of the one before.
        self.0.reset();
        self.0.input(&[0; 64]);
        self.0.reset();
        black_box(&mut *self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Identity, stamp};
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_state_that_goes_is_overwritten_with_the_keys_that_follow_from_it() {
        let ends = [1u8, 2].map(|seed| Identity::new(Secret::new([seed; 32])));
        let mut left = Vec::new();
        for psk in [7u8, 8] {
            let psk = Secret::new([psk; 32]);
            let (mut begun, first) =
                ends[0].begin(&ends[1].public(), &psk, 1, &stamp(0), Secret::new([3; 32])).unwrap();
            let received = ends[1].receive(&first, Secret::new([4; 32])).unwrap();
            let (keys, second) = received.respond(&psk, 2).unwrap();
            assert!(begun.finish(&second).unwrap().sending == keys.receiving);
            let before = begun.0.dangerously_get_raw_split();
            assert_eq!(Secret::new(before.0), keys.receiving, "the keys are in the state");
            begun.0.forget();
            let after = begun.0.dangerously_get_raw_split();
            assert!(after.0 != before.0 && after.1 != before.1);
            left.push((after, begun.0.get_handshake_hash().to_vec()));
        }
        assert_eq!(left[0], left[1], "what is left says nothing of what was there");
    }

    /// Notes what is done with it.
    struct Noting(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Cipher for Noting {
        fn name(&self) -> &'static str {
            "ChaChaPoly"
        }

        fn set(&mut self, key: &[u8; KEY_LEN]) {
            self.0.lock().unwrap().push(key.to_vec());
        }

        fn encrypt(&self, _: u64, _: &[u8], _: &[u8], _: &mut [u8]) -> usize {
            0
        }

        fn decrypt(&self, _: u64, _: &[u8], _: &[u8], _: &mut [u8]) -> Result<usize, snow::Error> {
            Err(snow::Error::Decrypt)
        }
    }

    impl Hash for Noting {
        fn name(&self) -> &'static str {
            "BLAKE2s"
        }

        fn block_len(&self) -> usize {
            64
        }

        fn hash_len(&self) -> usize {
            32
        }

        fn reset(&mut self) {
            self.0.lock().unwrap().push(Vec::new());
        }

        fn input(&mut self, data: &[u8]) {
            self.0.lock().unwrap().push(data.to_vec());
        }

        fn result(&mut self, _: &mut [u8]) {}
    }

    #[test]
    fn ciphers_and_hashes_that_go_are_given_zeros_last() {
        let noted = Arc::new(Mutex::new(Vec::new()));
        let mut cipher = WipedCipher(Box::new(Noting(Arc::clone(&noted))));
        cipher.set(&[7; KEY_LEN]);
        drop(cipher);
        let mut hash = WipedHash(Box::new(Noting(Arc::clone(&noted))));
        hash.input(b"secret");
        drop(hash);
        let expected = [vec![7; KEY_LEN], vec![0; KEY_LEN], b"secret".to_vec(), vec![], vec![0; 64], vec![]];
        assert_eq!(*noted.lock().unwrap(), expected);
    }
}
