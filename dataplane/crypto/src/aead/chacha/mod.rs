//! ChaCha20-Poly1305 of many packets at a time.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub mod avx2;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
pub mod neon;
mod spread;
