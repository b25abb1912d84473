//! `zsyncctl wireguard`: keys, and files of `wg-quick` as sections of a configuration. Asks no daemon.
//!
//! Keeps true: a key that is in a file already is never written over; keys go to files that their owner alone may read, and to
//! standard output only where that is what was asked for.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;
use zsync_pipelines::spec::wireguard::is_name;
use zsync_pipelines::spec::wireguard::quick::{self, Mistake, Quick};
use zsync_wireguard::key::Secret;

use super::output::{Failure, print};
use super::read;
use crate::keys;

/// What is wanted.
#[derive(Debug, Subcommand)]
pub(super) enum Wireguard {
    /// Print a new private key, as `wg genkey` does
    Genkey,
    /// Print a new preshared key, as `wg genpsk` does
    Genpsk,
    /// Print the public key of the private one on standard input, as `wg pubkey` does
    Pubkey,
    /// Print what a file of wg-quick says as a section of a configuration; its keys go to files of their own
    Import {
        /// The file, like /etc/wireguard/wg0.conf; `-` is standard input
        file: PathBuf,
        /// The section's name [default: the file's]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The folder for the keys' files
        #[arg(long, value_name = "DIR", default_value = "/etc/zsync/keys")]
        keys_in: PathBuf,
    },
}

pub(super) fn run(what: &Wireguard) -> Result<ExitCode, Failure> {
    match what {
        Wireguard::Genkey => give(&fresh(true)?)?,
        Wireguard::Genpsk => give(&fresh(false)?)?,
        Wireguard::Pubkey => print(&format!("{}\n", public(std::io::stdin().lock())?))?,
        Wireguard::Import { file, name, keys_in } => import(file, name.as_deref(), keys_in)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A new key; a private one has the bits that are always the same (RFC 7748 §5).
fn fresh(private: bool) -> Result<Secret, Failure> {
    let mut bytes = Zeroizing::new([0; 32]);
    let mut filled = 0;
    while filled < bytes.len() {
        let error = |error| Failure::File(format!("the kernel gives no random bytes: {error}"));
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).map_err(error)?;
    }
    if private {
        bytes[0] &= 0b1111_1000;
        bytes[31] = bytes[31] & 0b0111_1111 | 0b0100_0000;
    }
    Ok(Secret::new(*bytes))
}

/// Prints a secret; says so when it goes to a file that everybody may read.
fn give(secret: &Secret) -> Result<(), Failure> {
    let out = std::io::stdout();
    if !out.is_terminal() && rustix::fs::fstat(&out).is_ok_and(|about| open_to_all(about.st_mode)) {
        note("everybody may read the file that this key goes to: set `umask 077` first");
    }
    let text = secret.expose_text();
    print(&Zeroizing::new(format!("{}\n", *text)))
}

/// Whether a mode is that of a regular file that others may read.
fn open_to_all(mode: u32) -> bool {
    mode & 0o170_000 == 0o100_000 && mode & 0o007 != 0
}

fn public(input: impl std::io::Read) -> Result<String, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(128));
    let wrong = || Failure::File("standard input holds no private key: 44 characters of base64".to_owned());
    input.take(100).read_to_string(&mut text).map_err(|_| wrong())?;
    text.parse::<Secret>().map(|secret| secret.public().to_string()).map_err(|_| wrong())
}

fn import(file: &Path, name: Option<&str>, folder: &Path) -> Result<(), Failure> {
    if std::fs::metadata(file).is_ok_and(|about| open_to_all(about.mode())) {
        note(&format!("everybody may read {}, and the private key in it", file.display()));
    }
    let (shown, text) = read(file)?;
    let text = Zeroizing::new(text);
    let quick = quick::read(&text).map_err(|mistakes| wrong(&shown, &mistakes))?;
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let Some(name) = name.map(str::to_owned).or(stem).filter(|name| is_name(name)) else {
        let what =
            "cannot name a section: a small letter, then at most 31 small letters, digits, `-` and `_`";
        return Err(Failure::File(match name {
            Some(name) => format!("\"{name}\" {what}"),
            None => format!("the name of {shown} {what}; give one with --name"),
        }));
    };
    let folder = std::path::absolute(folder)
        .map_err(|error| Failure::File(format!("{}: {error}", folder.display())))?;
    let path = |peer: Option<usize>| {
        let file = match peer {
            None => format!("{name}.key"),
            Some(n) => format!("{name}-peer-{}.psk", n + 1),
        };
        folder.join(file).display().to_string()
    };
    let section = quick.to_toml(&name, &path, &mut resolve).map_err(|mistakes| wrong(&shown, &mistakes))?;
    let written = store(&quick, &folder, &path)?;
    for file in written {
        note(&format!("wrote {file}"));
    }
    print(&section)
}

fn wrong(file: &str, mistakes: &[Mistake]) -> Failure {
    let lines: Vec<String> =
        mistakes.iter().map(|Mistake { line, what }| format!("{file}:{line}: {what}")).collect();
    Failure::File(lines.join("\n"))
}

/// Writes the keys that are not there yet, all or none; says which.
fn store(
    quick: &Quick,
    folder: &Path,
    path: &dyn Fn(Option<usize>) -> String,
) -> Result<Vec<String>, Failure> {
    let preshared = quick
        .peers
        .iter()
        .enumerate()
        .filter_map(|(n, peer)| Some((path(Some(n)), peer.preshared.as_ref()?)));
    let keys = std::iter::once((path(None), &quick.private_key)).chain(preshared);
    let mut missing = Vec::new();
    for (file, key) in keys {
        if std::fs::symlink_metadata(&file).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            missing.push((file, key));
            continue;
        }
        match keys::read(Path::new(&file)) {
            Ok(there) if there == *key => {}
            Ok(_) => {
                let what = format!("{file} is there already, with another key in it");
                return Err(Failure::File(format!(
                    "{what}: take it away, or choose another --name or --keys-in"
                )));
            }
            Err(fault) => return Err(Failure::File(format!("{}, and is not written over", fault.what))),
        }
    }
    let failed = |path: &str, error: std::io::Error| Failure::File(format!("{path}: {error}"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed(&folder.display().to_string(), error))?;
    let mut written = Vec::new();
    for (file, key) in missing {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        let done = made.and_then(|mut made| {
            written.push(file.clone());
            made.write_all(key.expose_text().as_bytes())?;
            made.write_all(b"\n")?;
            made.sync_all()
        });
        if let Err(error) = done {
            written.iter().for_each(|file| _ = std::fs::remove_file(file));
            return Err(failed(&file, error));
        }
    }
    Ok(written)
}

/// The first address of a host that the system's resolver knows.
fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let mut found = (host, port).to_socket_addrs().map_err(|error| format!("{error}"))?;
    let usable = |socket: &SocketAddr| !matches!(socket, SocketAddr::V6(v6) if v6.scope_id() != 0);
    found.find(usable).ok_or_else(|| "the resolver knows no address of it".to_owned())
}

fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_pipelines::spec::{Style, parse, report};

    const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
    const ONE: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("zsync-wireguard-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn new_keys_differ_and_private_ones_are_clamped() {
        let (one, two) = (fresh(true).unwrap(), fresh(true).unwrap());
        assert_ne!(one, two);
        for key in [one, two] {
            let bytes = key.expose();
            assert_eq!((bytes[0] & 7, bytes[31] >> 6), (0, 1));
        }
        let last: Vec<u8> = (0..64).map(|_| fresh(false).unwrap().expose()[31] >> 6).collect();
        assert!(last.iter().any(|bits| *bits != 1), "a preshared key is of any bits");
    }

    #[test]
    fn the_public_key_is_that_of_wg_pubkey() {
        // RFC 7748 §6.1: Alice.
        let private = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n";
        assert_eq!(public(private.as_bytes()).unwrap(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
        for bad in ["", "abc", &private[1..], &private.repeat(4)] {
            let Err(Failure::File(told)) = public(bad.as_bytes()) else { panic!("{bad}") };
            assert!(told.contains("holds no private key"));
        }
    }

    #[test]
    fn keys_go_to_files_and_are_never_written_over() {
        let folder = Folder::new("store");
        let quick = |private: &str| {
            quick::read(&format!(
                "[Interface]\nPrivateKey = {private}\n[Peer]\nPublicKey = {ONE}\nPresharedKey = {KEY}\nAllowedIPs = ::/0\n"
            ))
            .unwrap()
        };
        let inner = folder.0.join("a/b");
        let path = |peer: Option<usize>| {
            inner.join(peer.map_or("k".to_owned(), |n| format!("p{n}"))).display().to_string()
        };
        let written = store(&quick(KEY), &inner, &path).unwrap();
        assert_eq!(written, [path(None), path(Some(0))]);
        for file in &written {
            let about = std::fs::metadata(file).unwrap();
            assert_eq!(about.mode() & 0o777, 0o600);
            assert_eq!(keys::read(Path::new(file)).unwrap(), KEY.parse().unwrap());
        }
        assert_eq!(std::fs::metadata(&inner).unwrap().mode() & 0o777, 0o700);
        assert_eq!(store(&quick(KEY), &inner, &path).unwrap(), Vec::<String>::new(), "the same again");
        let Err(Failure::File(told)) = store(&quick(ONE), &inner, &path) else { panic!() };
        assert!(told.contains("with another key in it"), "{told}");
        assert_eq!(keys::read(Path::new(&written[0])).unwrap(), KEY.parse().unwrap());
        std::fs::remove_file(&written[0]).unwrap();
        std::fs::write(&written[1], "something else").unwrap();
        let Err(Failure::File(told)) = store(&quick(KEY), &inner, &path) else { panic!() };
        assert!(told.contains("holds no key") && told.contains("not written over"), "{told}");
        assert!(!Path::new(&written[0]).exists(), "all or none");
        std::os::unix::fs::symlink("/nowhere/at/all", &written[0]).unwrap();
        assert!(store(&quick(KEY), &inner, &path).is_err(), "a link is not followed");
    }

    #[test]
    fn a_file_of_wg_quick_becomes_a_section_that_is_right() {
        let folder = Folder::new("import");
        let file = folder.0.join("wg0.conf");
        let text = format!(
            "[Interface]\nPrivateKey = {KEY}\nAddress = 10.0.0.1/24\n[Peer]\nPublicKey = {ONE}\nEndpoint = localhost:51820\nAllowedIPs = 10.0.0.2/32\n"
        );
        std::fs::write(&file, text).unwrap();
        import(&file, None, &folder.0.join("keys")).unwrap();
        assert_eq!(keys::read(&folder.0.join("keys/wg0.key")).unwrap(), KEY.parse().unwrap());
        let quick = quick::read(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let section = quick.to_toml("wg0", &|_| "/k".to_owned(), &mut resolve).unwrap();
        let source = format!(
            "{section}[port.a]\nnetdev = \"a\"\n[pipeline.p]\ninput = [\"a\"]\nstages = [\"wireguard-open.wg0\", \"wireguard-seal.wg0\", \"route\"]\n"
        );
        let told = match parse(&source, "x") {
            Ok(parsed) => report(&parsed.warnings, &source, Style::Plain),
            Err(errors) => report(&errors, &source, Style::Plain),
        };
        assert_eq!(told, "", "{source}");
        assert!(
            section.contains("# localhost was ") && section.contains("addresses = [\"10.0.0.1/24\"]"),
            "{section}"
        );

        std::fs::rename(&file, folder.0.join("WG 0.conf")).unwrap();
        let Err(Failure::File(told)) = import(&folder.0.join("WG 0.conf"), None, &folder.0) else { panic!() };
        assert!(told.contains("--name"), "{told}");
        assert!(import(&folder.0.join("WG 0.conf"), Some("../x"), &folder.0).is_err());
        assert!(!folder.0.join("wg0.key").exists());
    }
}
