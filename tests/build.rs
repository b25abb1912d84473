//! Builds the examples of XDP programs that run ahead of zsync, and tells the tests where they are.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let ebpf_dir = manifest_dir.parent().unwrap_or(Path::new("..")).join("ebpf");

    for path in zsync_ebpf_build::sources(&ebpf_dir) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    match zsync_ebpf_build::build_examples(&out_dir, &ebpf_dir) {
        Ok(examples) => {
            println!("cargo::rustc-env=ZSYNC_AMPLIFIED={}", examples.amplified.display());
            println!("cargo::rustc-env=ZSYNC_LIMIT={}", examples.limit.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
