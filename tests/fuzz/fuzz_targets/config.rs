//! Arbitrary configurations: every one is a spec that can be compiled, or a list of mistakes, and each mistake can be shown.
#![no_main]

#[path = "../entry/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|source: &str| config::run(source));
