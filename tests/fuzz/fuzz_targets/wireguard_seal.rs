//! Packets of those inside into a WireGuard tunnel.
#![no_main]

#[path = "../entry/wireguard.rs"]
#[allow(dead_code)]
mod wireguard;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    wireguard::run(wireguard::Direction::Seal, input);
});
