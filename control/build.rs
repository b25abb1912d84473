//! Builds the XDP programs and tells the crate where they are.

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
    match zsync_ebpf_build::build(&out_dir, &ebpf_dir) {
        Ok(objects) => {
            println!("cargo::rustc-env=ZSYNC_INGRESS={}", objects.ingress.display());
            println!("cargo::rustc-env=ZSYNC_CHAINED={}", objects.chained.display());
            println!("cargo::rustc-env=ZSYNC_GENERATOR={}", objects.generator.display());
            println!("cargo::rustc-env=ZSYNC_REDIRECT={}", objects.redirect.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
