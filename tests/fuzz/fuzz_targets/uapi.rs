//! Arbitrary bytes on the socket by which `wg` asks and changes.
#![no_main]

#[path = "../entry/uapi.rs"]
#[allow(dead_code)]
mod uapi;

libfuzzer_sys::fuzz_target!(|input: &[u8]| uapi::run(input));
