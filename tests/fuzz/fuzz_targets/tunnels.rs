//! Packets of tunnels, in and out, and what is made of them.
#![no_main]

#[path = "../entry/edge.rs"]
#[allow(dead_code)]
mod edge;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    edge::run(edge::Scene::Tunnels, input);
});
