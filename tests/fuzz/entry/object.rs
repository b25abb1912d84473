//! An operator's XDP object that a fuzzer makes up: an image, or what is wrong with it in words.
//!
//! Shared by the tests of `zsync-control` (by `#[path]`); there is no libFuzzer target, because control's build makes eBPF
//! programs, which cannot be built with a sanitizer's flags.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use zsync_control::xdp::Image;

/// Runs one input, under names that the seeds have and others.
pub(crate) fn run(bytes: &[u8]) {
    let bytes = Arc::new(bytes.to_vec());
    for program in ["scrub", "wide", "other", "absent", ""] {
        for params in [&[][..], &[("limit", 300)], &[("flag", 300)], &[("seen", u64::MAX), ("limti", 1)]] {
            let params: BTreeMap<String, u64> =
                params.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            match Image::of(Path::new("/fuzz.o"), Arc::clone(&bytes), program, &params) {
                Ok(image) => assert_eq!(image.label(), format!("/fuzz.o:{program}")),
                Err(error) => assert!(error.to_string().starts_with("/fuzz.o"), "{error}"),
            }
        }
    }
}
