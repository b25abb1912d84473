//! Tells the program how it was built: instruction counts are comparable only between builds of the same kind.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("-V").output();
    let version =
        version.map_or_else(|_| String::new(), |out| String::from_utf8_lossy(&out.stdout).into_owned());
    // Cargo tells build scripts only which of two profiles theirs inherits from; the folder has its own name:
    // TARGET_DIR/[TRIPLE/]PROFILE/build/zsync-bench-HASH/out.
    let out = env::var("OUT_DIR").unwrap_or_default();
    let profile = Path::new(&out).ancestors().nth(3).and_then(Path::file_name);
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().replace('\x1f', " ");
    println!("cargo:rustc-env=ZSYNC_BENCH_RUSTC={}", version.trim());
    println!("cargo:rustc-env=ZSYNC_BENCH_PROFILE={}", profile.unwrap_or_default().to_string_lossy());
    println!("cargo:rustc-env=ZSYNC_BENCH_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo:rustc-env=ZSYNC_BENCH_FLAGS={flags}");
    let git = ["describe", "--always", "--dirty", "--abbrev=12"];
    let commit = Command::new("git").args(git).output().ok().filter(|out| out.status.success());
    let commit =
        commit.map_or_else(|| "unknown".to_owned(), |out| String::from_utf8_lossy(&out.stdout).into_owned());
    println!("cargo:rustc-env=ZSYNC_BENCH_COMMIT={}", commit.trim());
    println!("cargo:rerun-if-changed=../.git/logs/HEAD");
    println!("cargo:rerun-if-changed=build.rs");
}
