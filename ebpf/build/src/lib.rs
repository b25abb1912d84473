//! Builds the XDP programs from source with whichever toolchain is there; called by the build scripts of `control` and
//! `bench/xsk`.
//!
//! The programs are Rust for `bpfel-unknown-none`, a target that ships no libraries: `core` is compiled along
//! (`-Z build-std`), which takes the library's source and an unstable flag. Two toolchains can do it: rustup's nightly
//! with the component rust-src, or Debian's rustc-web with rust-web-src. bpf-linker joins the bitcode in both cases.
//!
//! Keeps true: the inner cargo sees nothing of the outer one. Its flags, wrappers and target folder (clippy's, rustdoc's,
//! a coverage tool's) are for the host; its target folder is below the caller's `OUT_DIR`, so the two never wait for
//! each other's lock.
#![forbid(unsafe_code)]

mod toolchain;

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

pub use toolchain::{Linker, Toolchain};

const TARGET: &str = "bpfel-unknown-none";

/// The built objects: ELF, with BTF.
#[derive(Debug)]
pub struct Objects {
    /// `zsync_ingress`.
    pub ingress: PathBuf,
    /// `zsync_ingress` with a chain of the operator's programs ahead of it.
    pub chained: PathBuf,
    /// `zsync_filter` and `zsync_leave`, for packet sockets.
    pub tapped: PathBuf,
    /// `zsync_generator`.
    pub generator: PathBuf,
    /// `zsync_redirect`.
    pub redirect: PathBuf,
}

/// Why the programs could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No toolchain can compile `core` for eBPF.
    #[error(
        "no toolchain here can build the XDP programs (looked for {looked}).\n\
         Run scripts/setup, or install one of: rustup's nightly with rust-src; Debian's rustc-web and rust-web-src."
    )]
    NoToolchain {
        /// What was looked for, and why it does not serve.
        looked: String,
    },
    /// bpf-linker is not installed.
    #[error("bpf-linker is neither in PATH nor in {}.\nRun scripts/setup, or: cargo install bpf-linker", .0.display())]
    NoLinker(PathBuf),
    /// A program could not be started.
    #[error("cannot run {program}: {source}")]
    Run {
        /// Its name or path.
        program: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The inner cargo failed.
    #[error("the XDP programs do not build with {toolchain}:\n{stderr}")]
    Cargo {
        /// The toolchain that was used.
        toolchain: String,
        /// What cargo and the compiler said.
        stderr: String,
    },
    /// clang failed.
    #[error("clang does not compile {}:\n{stderr}", source_file.display())]
    Clang {
        /// What it was to compile.
        source_file: PathBuf,
        /// What it said.
        stderr: String,
    },
    /// cargo succeeded, and the object is not there.
    #[error("cargo built no {}", .0.display())]
    NoObject(PathBuf),
}

/// Builds control's programs of `ebpf_dir`, with a target folder below `out_dir`.
///
/// # Errors
/// When no toolchain or no linker is there (the message names `scripts/setup`), or when the programs do not compile.
pub fn build(out_dir: &Path, ebpf_dir: &Path) -> Result<Objects, BuildError> {
    let names = ["zsync_ingress", "zsync_chained", "zsync_tapped", "zsync_generator", "zsync_redirect"];
    let [ingress, chained, tapped, generator, redirect] = build_bins(out_dir, ebpf_dir, names)?;
    Ok(Objects { ingress, chained, tapped, generator, redirect })
}

/// Builds `zsync_sink`, the far end of measurements; where its object is.
///
/// # Errors
/// Those of [`build`].
pub fn build_sink(out_dir: &Path, ebpf_dir: &Path) -> Result<PathBuf, BuildError> {
    let [sink] = build_bins(out_dir, ebpf_dir, ["zsync_sink"])?;
    Ok(sink)
}

/// The objects of `ebpf/examples`.
#[derive(Debug)]
pub struct Examples {
    /// `amplified.rs`.
    pub amplified: PathBuf,
    /// `limit.c`.
    pub limit: PathBuf,
}

/// Builds the examples of programs that an operator may have ahead of `zsync_ingress`, the one in Rust and the one in C.
///
/// # Errors
/// Those of [`build`] and of [`compile_c`].
pub fn build_examples(out_dir: &Path, ebpf_dir: &Path) -> Result<Examples, BuildError> {
    let [amplified] = build_targets(out_dir, ebpf_dir, "example", ["amplified"])?;
    let limit = out_dir.join("limit.o");
    compile_c(ebpf_dir, &ebpf_dir.join("examples/limit.c"), &limit)?;
    Ok(Examples { amplified, limit })
}

/// Compiles a program in C that includes `zsync_xdp.h`, by clang.
///
/// # Errors
/// [`BuildError::Run`] without clang; [`BuildError::Clang`] with what it said.
pub fn compile_c(ebpf_dir: &Path, source: &Path, object: &Path) -> Result<(), BuildError> {
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-c"]);
    // Debian keeps <asm/types.h> in a folder for each machine, which clang looks in for that machine alone.
    clang.arg(format!("-I/usr/include/{}-linux-gnu", env::consts::ARCH));
    clang.arg("-I").arg(ebpf_dir.join("include")).arg(source).arg("-o").arg(object);
    let run = |source| BuildError::Run { program: "clang".to_owned(), source };
    let output = clang.output().map_err(run)?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(BuildError::Clang { source_file: source.to_owned(), stderr })
}

fn build_bins<const N: usize>(
    out_dir: &Path,
    ebpf_dir: &Path,
    names: [&str; N],
) -> Result<[PathBuf; N], BuildError> {
    build_targets(out_dir, ebpf_dir, "bin", names)
}

/// `kind` is cargo's: `bin` or `example`.
fn build_targets<const N: usize>(
    out_dir: &Path,
    ebpf_dir: &Path,
    kind: &str,
    names: [&str; N],
) -> Result<[PathBuf; N], BuildError> {
    let linker = Linker::find()?;
    let toolchain = Toolchain::find()?;
    let target_dir = out_dir.join("ebpf");

    let mut cargo = toolchain.cargo();
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_outer_cargo(name)) {
        cargo.env_remove(name);
    }
    toolchain.set_compiler(&mut cargo);
    cargo
        .current_dir(ebpf_dir)
        .args([
            "build",
            "--release",
            "--locked",
            "--ignore-rust-version",
            "-Z",
            "build-std=core",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .args(names.map(|name| format!("--{kind}={name}")))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker.path())
        .env("CARGO_ENCODED_RUSTFLAGS", flags());
    let output =
        cargo.output().map_err(|source| BuildError::Run { program: format!("{toolchain}"), source })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BuildError::Cargo { toolchain: toolchain.to_string(), stderr });
    }

    let folder = target_dir.join(TARGET).join("release");
    let folder = if kind == "example" { folder.join("examples") } else { folder };
    let objects = names.map(|name| folder.join(name));
    match objects.iter().find(|path| !path.is_file()) {
        Some(path) => Err(BuildError::NoObject(path.clone())),
        None => Ok(objects),
    }
}

/// What the objects are made from: for `cargo::rerun-if-changed`.
pub fn sources(ebpf_dir: &Path) -> impl Iterator<Item = PathBuf> {
    // The examples and what they use, too: cargo reads their manifests for any of its targets.
    ["Cargo.toml", "Cargo.lock", "src", "common/Cargo.toml", "common/src", "chain", "examples", "include"]
        .into_iter()
        .map(move |p| ebpf_dir.join(p))
}

/// What a package's build script does: builds programs by `build`, which gets the folder for its results and `ebpf/`, and tells
/// the compiler where each lies by a variable of the name beside it.
pub fn script(
    build: impl FnOnce(&Path, &Path) -> Result<Vec<(&'static str, PathBuf)>, BuildError>,
) -> ExitCode {
    let folder = |name| PathBuf::from(env::var_os(name).unwrap_or_default());
    let (package, out_dir) = (folder("CARGO_MANIFEST_DIR"), folder("OUT_DIR"));
    // The nearest above: packages lie in folders of the repository.
    let mut above = package.ancestors().map(|folder| folder.join("ebpf"));
    let Some(ebpf_dir) = above.find(|ebpf| ebpf.join("Cargo.toml").exists()) else {
        eprintln!("no folder `ebpf` with a Cargo.toml above {}", package.display());
        return ExitCode::FAILURE;
    };
    for path in sources(&ebpf_dir) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    match build(&out_dir, &ebpf_dir) {
        Ok(objects) => {
            for (name, object) in objects {
                println!("cargo::rustc-env={name}={}", object.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The bindings are of the host's kind of kernel; debug info becomes BTF, so that `bpftool map dump` shows names.
fn flags() -> String {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_else(|_| env::consts::ARCH.to_owned());
    format!("--cfg=bpf_target_arch=\"{arch}\"\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf")
}

/// Is this a variable by which the outer build would reach into the inner one? Where to find crates, and how to reach
/// their registry, stays.
fn is_of_outer_cargo(name: &OsString) -> bool {
    const KEPT: [&str; 8] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "RUSTUP_HOME",
        "RUSTUP_DIST_",
    ];
    let Some(name) = name.to_str() else { return false };
    // The library path is the outer toolchain's.
    name == "LD_LIBRARY_PATH"
        || ((name.starts_with("CARGO") || name.starts_with("RUST"))
            && !KEPT.iter().any(|kept| name.starts_with(kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outer_flags_and_wrappers_stay_out() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_WRAPPER",
            "RUSTC",
            "RUSTUP_TOOLCHAIN",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_MAKEFLAGS",
            "LD_LIBRARY_PATH",
        ] {
            assert!(is_of_outer_cargo(&name.into()), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_CAINFO", "RUSTUP_HOME", "PATH", "HOME"] {
            assert!(!is_of_outer_cargo(&name.into()), "{name}");
        }
    }

    #[test]
    fn the_sources_exist() {
        let ebpf_dir = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for path in sources(ebpf_dir) {
            assert!(path.exists(), "{}", path.display());
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_remedy() {
        let missing = BuildError::NoToolchain { looked: "x".into() }.to_string();
        assert!(missing.contains("scripts/setup"), "{missing}");
        let missing = BuildError::NoLinker("/root/.cargo/bin".into()).to_string();
        assert!(missing.contains("scripts/setup"), "{missing}");
    }
}
