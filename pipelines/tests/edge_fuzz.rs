//! The entries of the newer fuzz targets, without a fuzzer: their seeds, every input that was kept, and random changes of these.
//!
//! `PROPTEST_CASES=100000 cargo nextest run -p zsync-pipelines --test edge_fuzz` tries that many changes of each.

mod kept;

#[path = "../../tests/fuzz/entry/config.rs"]
mod config;
#[path = "../../tests/fuzz/entry/edge.rs"]
mod edge;
#[path = "../../tests/fuzz/entry/packet_text.rs"]
mod packet_text;

use edge::Scene;
use kept::kept;
use proptest::prelude::*;
use std::sync::LazyLock;

fn name(scene: Scene) -> &'static str {
    match scene {
        Scene::Tunnels => "tunnels",
        Scene::Fragments => "fragments",
        Scene::Flows => "flows",
    }
}

/// By scene.
static EDGE: LazyLock<Vec<Vec<Vec<u8>>>> =
    LazyLock::new(|| Scene::ALL.map(|scene| kept(name(scene), 11)).into());
static CONFIGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| kept("config", 11));
static TEXTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| kept("packet_text", 11));

#[test]
fn the_kept_inputs_of_the_edge_hold_and_packets_get_through() {
    for (scene, inputs) in Scene::ALL.into_iter().zip(EDGE.iter()) {
        let forwarded: usize = inputs.iter().map(|input| edge::run(scene, input)).sum();
        assert!(forwarded >= 20, "{scene:?}: {forwarded} packets got through: the seeds say nothing");
        // The same input does the same again.
        let again: usize = edge::seeds(scene).iter().map(|input| edge::run(scene, input)).sum();
        assert_eq!(again, edge::seeds(scene).iter().map(|input| edge::run(scene, input)).sum::<usize>());
        assert!(again > 0 && forwarded >= again, "{scene:?}: {again} of {forwarded}");
    }
}

#[test]
fn the_kept_configurations_and_texts_hold() {
    for input in CONFIGS.iter() {
        if let Ok(source) = std::str::from_utf8(input) {
            config::run(source);
        }
    }
    TEXTS.iter().for_each(|input| packet_text::run(input));
    packet_text::SEEDS.iter().for_each(|text| packet_text::run(text.as_bytes()));
}

/// One of `inputs`, or two of them behind each other, with some bytes changed, and parts left out or said again.
fn changed(inputs: &'static [Vec<u8>]) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0u8..5, 0usize..40);
    (
        prop::sample::select(inputs),
        prop::option::of(prop::sample::select(inputs)),
        prop::collection::vec(change, 0..12),
    )
        .prop_map(|(mut input, second, changes)| {
            input.extend(second.unwrap_or_default());
            for (at, value, how, len) in changes {
                if input.is_empty() {
                    break;
                }
                let at = at.index(input.len());
                let end = (at + len).min(input.len());
                match how {
                    0 => input[at] = value,
                    1 => input[at] ^= 1 << (value & 7),
                    2 => drop(input.drain(at..end)),
                    3 => {
                        let part = input[at..end].to_vec();
                        input.splice(at..at, part);
                    }
                    _ => input.insert(at, value),
                }
            }
            input
        })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4096, ..ProptestConfig::default() })]

    #[test]
    fn changed_packets_of_tunnels(input in changed(&EDGE[0])) {
        edge::run(Scene::Tunnels, &input);
    }

    #[test]
    fn changed_fragments(input in changed(&EDGE[1])) {
        edge::run(Scene::Fragments, &input);
    }

    #[test]
    fn changed_flows(input in changed(&EDGE[2])) {
        edge::run(Scene::Flows, &input);
    }

    #[test]
    fn changed_configurations(input in changed(&CONFIGS)) {
        config::run(&String::from_utf8_lossy(&input));
    }

    #[test]
    fn changed_texts(input in changed(&TEXTS)) {
        packet_text::run(&input);
        packet_text::run(String::from_utf8_lossy(&input).as_bytes());
    }
}
