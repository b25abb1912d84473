//! Fragments in any order, with any damage, ahead of a filter.
#![no_main]

#[path = "../entry/edge.rs"]
#[allow(dead_code)]
mod edge;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    edge::run(edge::Scene::Fragments, input);
});
