//! Finding a compiler that can build `core` for eBPF, and bpf-linker.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::BuildError;

/// Debian's compiler: the backports that Firefox and Chromium are built with, so it is recent on old releases too.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
/// The first with edition 2024.
const OLDEST_SYSTEM_RUSTC: (u32, u32) = (1, 85);
/// The library's source below a sysroot, in both installations.
const LIBRARY: &str = "lib/rustlib/src/rust/library/core/src/lib.rs";

/// A compiler with the source of its library.
#[derive(Debug)]
pub enum Toolchain {
    /// `rustup run nightly`.
    Nightly {
        /// Path of rustup.
        rustup: PathBuf,
    },
    /// The distribution's compiler, let to use unstable flags; with the cargo that runs this build.
    System {
        /// Its version.
        version: (u32, u32),
    },
}

impl Toolchain {
    /// The nightly when it has rust-src, else the system's.
    ///
    /// # Errors
    /// [`BuildError::NoToolchain`], which says what is missing from each.
    pub fn find() -> Result<Self, BuildError> {
        Self::nightly().or_else(|nightly| {
            Self::system()
                .map_err(|system| BuildError::NoToolchain { looked: format!("{nightly}; {system}") })
        })
    }

    fn nightly() -> Result<Self, String> {
        let rustup = find_program("rustup").ok_or("rustup: not installed")?;
        let mut rustc = Command::new(&rustup);
        rustc
            .args(["run", "nightly", "rustc"])
            .env_remove("RUSTUP_TOOLCHAIN")
            .env("RUSTUP_AUTO_INSTALL", "0");
        match sysroot_of(rustc) {
            Some(sysroot) if sysroot.join(LIBRARY).is_file() => Ok(Self::Nightly { rustup }),
            Some(_) => Err("rustup's nightly: without rust-src".into()),
            None => Err("rustup's nightly: not installed".into()),
        }
    }

    fn system() -> Result<Self, String> {
        let version = version_of(SYSTEM_RUSTC).ok_or(format!("{SYSTEM_RUSTC}: not installed"))?;
        let (major, minor) = OLDEST_SYSTEM_RUSTC;
        if version < OLDEST_SYSTEM_RUSTC {
            let (is_major, is_minor) = version;
            return Err(format!("{SYSTEM_RUSTC}: is {is_major}.{is_minor}, needs {major}.{minor}"));
        }
        match sysroot_of(Command::new(SYSTEM_RUSTC)) {
            Some(sysroot) if sysroot.join(LIBRARY).is_file() => Ok(Self::System { version }),
            _ => Err(format!("{SYSTEM_RUSTC}: without the library's source (rust-web-src)")),
        }
    }

    pub(crate) fn cargo(&self) -> Command {
        match self {
            Self::Nightly { rustup } => {
                let mut cargo = Command::new(rustup);
                cargo.args(["run", "nightly", "cargo"]);
                cargo
            }
            Self::System { .. } => Command::new(env::var_os("CARGO").unwrap_or("cargo".into())),
        }
    }

    /// To be called after the outer build's variables were removed.
    pub(crate) fn set_compiler(&self, cargo: &mut Command) {
        if let Self::System { .. } = self {
            cargo.env("RUSTC", SYSTEM_RUSTC).env("RUSTC_BOOTSTRAP", "1");
        }
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly { rustup } => write!(f, "{} run nightly", rustup.display()),
            Self::System { version: (major, minor) } => write!(f, "{SYSTEM_RUSTC} {major}.{minor}"),
        }
    }
}

/// The path of bpf-linker.
#[derive(Debug)]
pub struct Linker(PathBuf);

impl Linker {
    /// Looks in `PATH`, then where `cargo install` puts it.
    ///
    /// # Errors
    /// [`BuildError::NoLinker`].
    pub fn find() -> Result<Self, BuildError> {
        find_program("bpf-linker").map(Self).ok_or_else(|| BuildError::NoLinker(cargo_bin()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

fn cargo_bin() -> PathBuf {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo")).join("bin")
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain([cargo_bin()]).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn sysroot_of(mut rustc: Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).env_remove("LD_LIBRARY_PATH").output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn version_of(rustc: &str) -> Option<(u32, u32)> {
    let output = Command::new(rustc).arg("--version").env_remove("LD_LIBRARY_PATH").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// `rustc 1.96.0 (…)` → (1, 96).
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(
            parse_version("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n"),
            Some((1, 96))
        );
        assert_eq!(parse_version("rustc 1.63.0"), Some((1, 63)));
        assert!(parse_version("rustc 1.63.0") < Some(OLDEST_SYSTEM_RUSTC));
        assert_eq!(parse_version("rustc"), None);
        assert_eq!(parse_version(""), None);
    }
}
