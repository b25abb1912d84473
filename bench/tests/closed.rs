//! What is printed for a reader that is gone: the program ends, and says nothing.

use std::io;
use std::process::{Command, Output};

fn unread(arguments: &[&str]) -> Output {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    Command::new(env!("CARGO_BIN_EXE_zsync-bench")).args(arguments).stdout(writer).output().unwrap()
}

#[test]
fn a_program_whose_output_nobody_reads_ends_without_a_word() {
    for arguments in [&["list"][..], &["peers"], &["stage", "pool", "--packets", "64"], &["list", "--help"]] {
        let output = unread(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "", "{arguments:?}: {}", output.status);
        let status = output.status.code();
        assert!(
            status == Some(141) || (status == Some(0) && arguments.contains(&"--help")),
            "{arguments:?}: {status:?}"
        );
    }
}

#[test]
fn other_failures_are_told_also_when_nobody_reads_the_output() {
    let output = unread(&["run", "none"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("there is no benchmark none"), "{said}");
}
