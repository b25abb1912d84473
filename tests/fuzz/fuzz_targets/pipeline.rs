//! Arbitrary packets through the whole pipeline.
#![no_main]

#[path = "../entry/lab.rs"]
#[allow(dead_code)]
mod lab;
#[path = "../entry/pipeline.rs"]
#[allow(dead_code)]
mod pipeline;

libfuzzer_sys::fuzz_target!(|input: &[u8]| pipeline::run(input));
