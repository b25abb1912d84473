//! Builds the XDP program of the far end and tells the crate where it is.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let ebpf_dir = manifest_dir.ancestors().nth(2).unwrap_or(Path::new("../..")).join("ebpf");

    for path in zsync_ebpf_build::sources(&ebpf_dir) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    match zsync_ebpf_build::build_sink(&out_dir, &ebpf_dir) {
        Ok(sink) => {
            println!("cargo::rustc-env=ZSYNC_SINK={}", sink.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
