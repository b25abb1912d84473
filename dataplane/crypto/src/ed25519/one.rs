//! One signature after the other, by dalek: what there is everywhere, and what the lanes are held against.

use super::Check;
use ed25519_dalek::{Signature, VerifyingKey};

/// Whether it is right.
pub(super) fn verify(check: &Check<'_>) -> bool {
    VerifyingKey::from_bytes(check.key)
        .is_ok_and(|key| key.verify_strict(check.message, &Signature::from_bytes(check.signature)).is_ok())
}
