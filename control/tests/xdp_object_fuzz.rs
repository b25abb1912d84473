//! Whatever is in the file of an XDP object, reading it ends in an image or in words.

#![forbid(unsafe_code)]

#[path = "../../tests/fuzz/entry/object.rs"]
mod object;

use proptest::prelude::*;
use std::path::Path;
use std::sync::LazyLock;

/// Objects as clang makes them, with and without debug information, of the other byte order, of this machine, and their source.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/object");
    let files = std::fs::read_dir(folder).expect("the corpus is there");
    let mut paths: Vec<_> = files.map(|file| file.expect("a readable folder").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect()
});

#[test]
fn the_kept_objects_hold() {
    assert!(SEEDS.len() >= 5);
    SEEDS.iter().for_each(|bytes| object::run(bytes));
    let names = std::collections::BTreeMap::from([("limit".to_owned(), 9)]);
    let image = zsync_control::xdp::Image::of(Path::new("/a.o"), SEEDS[0].clone().into(), "scrub", &names);
    assert!(image.is_ok(), "{image:?}");
}

proptest! {
    #[test]
    fn changed_objects(
        mut bytes in prop::sample::select(&SEEDS[..]),
        // Most of what is read lies in the headers at both ends.
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, any::<u8>()), 1..8),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        for (at, whence, value) in changes {
            let len = bytes.len();
            let at = match whence {
                0 => at.index(64.min(len)),
                1 => at.index(len),
                _ => len - 1 - at.index((64 * 20).min(len)),
            };
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        object::run(&bytes);
    }
}
