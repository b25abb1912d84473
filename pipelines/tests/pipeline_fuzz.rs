//! Every input that the fuzzer has kept, through the same entry as the fuzz target: what it found once stays found.

#[path = "../../tests/fuzz/entry/lab.rs"]
#[allow(dead_code)]
mod lab;
#[path = "../../tests/fuzz/entry/pipeline.rs"]
#[allow(dead_code)]
mod pipeline;

use proptest::prelude::*;
use std::path::Path;
use zsync_packet::verdict::PortId;

/// The inputs in `folder`, by name; none where there is no such folder.
fn inputs(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz").join(folder);
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let files = files.map(|file| file.expect("a readable folder").path());
    files.map(|path| (path.display().to_string(), std::fs::read(path).expect("a readable file"))).collect()
}

#[test]
fn the_kept_corpus_and_every_saved_crash() {
    let corpus = inputs("corpus/pipeline");
    assert!(corpus.len() >= 40, "{} inputs: the corpus is not where it is looked for", corpus.len());
    for (name, input) in corpus.into_iter().chain(inputs("crashes/pipeline")) {
        // The name is what is needed when one fails.
        let caught = std::panic::catch_unwind(|| pipeline::run(&input));
        assert!(caught.is_ok(), "{name}");
    }
}

#[test]
fn an_input_is_the_packets_it_was_made_of() {
    let packets = [vec![1; 60], vec![], vec![2; 1792]];
    let input = pipeline::encode(PortId(2), &packets);
    assert_eq!(input.len(), 3 * 3 + 60 + 1792);
    pipeline::run(&input);
    pipeline::run(&input[..input.len() - 1]);
    pipeline::run(&input[..2]);
    pipeline::run(&[]);
}

proptest! {
    #[test]
    fn arbitrary_inputs(input in prop::collection::vec(any::<u8>(), 0..2000)) {
        pipeline::run(&input);
    }
}
