//! The gate, through the built program: it passes here, it says the same thing twice, and it fails by name.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use zsync_bench::folder::Folder;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json");

fn gate(arguments: &[&str], baseline: &Path) -> (String, Output) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zsync-bench"));
    let output = command.arg("gate").args(arguments).arg("--baseline").arg(baseline).output().unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    (text, output)
}

/// Whether this part of the test cannot run here, which in CI is a failure.
fn skipped() -> bool {
    let missing = zsync_bench::stages::callgrind::missing();
    if let Some(why) = &missing {
        println!("SKIPPED: {why}");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {why}");
    }
    missing.is_some()
}

#[test]
fn nothing_costs_more_than_the_baseline_says() {
    let (text, output) = gate(&[], Path::new(COMMITTED));
    println!("{text}");
    assert!(output.status.success(), "{text}");
    assert!(text.contains("no allocation, and balanced books, over"), "{text}");
}

#[test]
fn instructions_are_the_same_each_time_and_a_dearer_case_fails_by_its_name() {
    if skipped() {
        return;
    }
    let folder = Folder::make().unwrap();
    let baseline = folder.path().join("baseline.json");
    let counts = |text: &str| serde_json::from_str::<Value>(text).unwrap()["instructions_per_packet"].clone();
    // Only some of the cases can be written only into a baseline that has the others.
    let mut whole: Value = serde_json::from_str(&fs::read_to_string(COMMITTED).unwrap()).unwrap();
    let (text, output) = {
        let build = zsync_bench::gate::Build::this();
        for (field, value) in [
            ("rustc", build.rustc),
            ("profile", build.profile),
            ("target", build.target),
            ("flags", build.flags),
        ] {
            whole[field] = value.into();
        }
        fs::write(&baseline, whole.to_string()).unwrap();
        gate(&["--update", "lookup-v4", "pool"], &baseline)
    };
    assert!(output.status.success(), "{text}");
    let first = fs::read_to_string(&baseline).unwrap();
    let (text, output) = gate(&["--update", "lookup-v4", "pool"], &baseline);
    assert!(output.status.success(), "{text}");
    assert_eq!(counts(&first), counts(&fs::read_to_string(&baseline).unwrap()), "not to the instruction");

    // As if a lookup had cost half of what it does.
    let mut tampered: Value = serde_json::from_str(&first).unwrap();
    let count = &mut tampered["instructions_per_packet"]["lookup-v4/64/1000/hot"];
    *count = (count.as_f64().unwrap() / 2.0).into();
    fs::write(&baseline, tampered.to_string()).unwrap();
    let (text, output) = gate(&["lookup-v4", "pool"], &baseline);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("FAILED lookup-v4/64/1000/hot: "), "{text}");
    assert!(text.contains("+100.0 %") || text.contains("+99.9 %") || text.contains("+100.1 %"), "{text}");
    assert!(!text.contains("FAILED pool"), "{text}");
}

#[test]
fn another_build_s_baseline_is_not_compared_with() {
    if skipped() {
        return;
    }
    let folder = Folder::make().unwrap();
    let baseline = folder.path().join("baseline.json");
    let mut other: Value = serde_json::from_str(&fs::read_to_string(COMMITTED).unwrap()).unwrap();
    other["rustc"] = "rustc 1.0.0".into();
    fs::write(&baseline, other.to_string()).unwrap();
    let ci = std::env::var("CI").as_deref() == Ok("true");
    let (text, output) = gate(&["pool"], &baseline);
    assert!(text.contains("rustc 1.0.0"), "{text}");
    assert_eq!(output.status.success(), !ci, "{text}");
    assert_eq!(text.contains("SKIPPED"), !ci, "{text}");
}
