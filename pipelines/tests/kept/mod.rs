//! The inputs of fuzz targets that were kept, and those on which they failed once.

use std::path::Path;

/// All of `target`, of which there are at least so many.
pub fn kept(target: &str, least: usize) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
    let inputs: Vec<Vec<u8>> = ["corpus", "crashes"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(fuzz.join(folder).join(target)).ok())
        .flatten()
        .map(|file| std::fs::read(file.expect("a readable folder").path()).expect("a readable file"))
        .collect();
    assert!(inputs.len() >= least, "{target}: the corpus is not where it is looked for");
    inputs
}
