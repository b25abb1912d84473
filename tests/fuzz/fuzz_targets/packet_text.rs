//! Arbitrary texts where `zsyncctl explain` wants a packet, and arbitrary frames to describe.
#![no_main]

#[path = "../entry/packet_text.rs"]
#[allow(dead_code)]
mod packet_text;

libfuzzer_sys::fuzz_target!(|input: &[u8]| packet_text::run(input));
