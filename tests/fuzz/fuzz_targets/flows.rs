//! Connections, their translation, and ICMP errors about them.
#![no_main]

#[path = "../entry/edge.rs"]
#[allow(dead_code)]
mod edge;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    edge::run(edge::Scene::Flows, input);
});
