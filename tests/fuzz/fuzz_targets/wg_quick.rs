//! Arbitrary files of wg-quick, as `zsyncctl wireguard import` reads them.
#![no_main]

#[path = "../entry/wg_quick.rs"]
#[allow(dead_code)]
mod wg_quick;

libfuzzer_sys::fuzz_target!(|input: &[u8]| wg_quick::run(input));
