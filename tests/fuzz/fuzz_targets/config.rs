//! Arbitrary configurations: every one is a spec or a list of mistakes, and each mistake can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zsync_pipelines::spec;

fuzz_target!(|source: &str| {
    match spec::parse(source, "fuzz.toml") {
        Ok(parsed) => {
            assert!(spec::diff(&parsed.spec, &parsed.spec).is_empty());
            for warning in parsed.warnings {
                assert!(!warning.render(source).is_empty());
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "refused without a reason");
            for mistake in mistakes {
                assert!(!mistake.render(source).is_empty());
            }
        }
    }
});
