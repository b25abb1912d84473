//! Encryption and signatures in batches: many packets at once, in place, on whatever the processor has.
//!
//! A caller puts what is to be sealed or opened into [`aead::Job`]s, of any lengths, keys and algorithms, and hands over the
//! slice; [`aead::Aead`] chooses how. No system calls, no allocation per batch.
//!
//! **Constant time.** No branch and no address depends on a key, on text, or on a tag: arithmetic, XOR, masks and, for AES,
//! the processor's own instructions only; tags are compared whole. What does depend on the input, and is public: lengths,
//! the number of jobs, their algorithms, and whether a tag was right. [`ed25519`] sees only what is public, and takes variable time.

#![deny(unsafe_code)]

pub mod aead;
pub mod ed25519;
