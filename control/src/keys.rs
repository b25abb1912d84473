//! Files of secret keys that a configuration names: read anew for each change, and kept nowhere but in the memory of the two
//! processes. And files for keys that came by a socket.
//!
//! Relative paths are seen from the folder of the configuration's file. Refuses a file that is none, that others than its owner may
//! read or write, whose owner is neither root nor whoever runs this, that is longer than [`LARGEST`], or that holds no key. Keeps true: what
//! is in such a file enters no log, no history and no message; its text is wiped once it was read.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;
use zsync_pipelines::spec::wireguard::{KeyFault, ends, read_keys};
use zsync_pipelines::spec::{Diagnostic, Parsed, Spec};
use zsync_wireguard::key::Secret;

use crate::lists::Lists;
use crate::programs::locate;

/// The longest file, bytes.
pub const LARGEST: u64 = 4096;

/// Reads a configuration, its lists (see [`Lists::parse`]) and its keys.
///
/// # Errors
/// Everything that is wrong with the configuration and its lists; if nothing is, with its keys.
pub fn parse(
    source: &str,
    file: &str,
    kept: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<(Parsed, Lists), Vec<Diagnostic>> {
    parse_knowing(source, file, kept, &BTreeMap::new())
}

/// As [`parse`]; files whose keys are `known`, by the path that the configuration has, are not read anew.
///
/// # Errors
/// As [`parse`].
pub fn parse_knowing(
    source: &str,
    file: &str,
    kept: impl Fn(&str) -> Option<Vec<u8>>,
    known: &BTreeMap<String, Secret>,
) -> Result<(Parsed, Lists), Vec<Diagnostic>> {
    let (mut parsed, lists) = Lists::parse(source, file, kept)?;
    read_keys(&mut parsed, source, file, &mut |path| match known.get(path) {
        Some(secret) => Ok(secret.clone()),
        None => at(path, file).map_err(|fault| KeyFault { unseen: false, ..fault }),
    })?;
    Ok((parsed, lists))
}

/// The keys that a configuration in force has, by their paths.
#[must_use]
pub fn of(spec: &Spec) -> BTreeMap<String, Secret> {
    let files = ends(spec).into_values().flat_map(|end| {
        let preshared = end.peers.iter().filter_map(|peer| peer.preshared.as_ref());
        preshared.chain([&end.private_key])
    });
    files.filter_map(|file| Some((file.path.clone(), file.secret.clone()?))).collect()
}

/// Writes a key that came by a socket into a file of its own in `folder`, which nobody else may enter, and gives its path. `what` says
/// what for, in small letters.
///
/// # Errors
/// The file system's.
pub fn write(folder: &Path, what: &str, secret: &Secret) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut text = secret.expose_text();
    text.push('\n');
    loop {
        let mut random = [0; 8];
        getrandom(&mut random[..], GetRandomFlags::empty())?;
        let path = folder.join(format!("{what}-{:016x}.key", u64::from_ne_bytes(random)));
        let mut file = match File::options().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            file => file?,
        };
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| File::open(folder)?.sync_all()) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        return Ok(path);
    }
}

/// As [`parse`], for who only wants to know: files that this user may not read are warned of, and not refused.
///
/// # Errors
/// As [`parse`].
pub fn check(source: &str, file: &str) -> Result<Parsed, Vec<Diagnostic>> {
    let (mut parsed, _) = Lists::parse(source, file, |_| None)?;
    let root = geteuid().is_root();
    read_keys(&mut parsed, source, file, &mut |path| {
        at(path, file).map_err(|fault| match fault.unseen && !root {
            true => KeyFault { remedy: Some("ask as root, who may".to_owned()), ..fault },
            false => KeyFault { unseen: false, ..fault },
        })
    })?;
    Ok(parsed)
}

/// As [`parse`], for who asks what would become of packets: keys that cannot be had are left out without a word.
///
/// # Errors
/// As [`parse`], but for files of keys.
pub fn look(source: &str, file: &str) -> Result<Parsed, Vec<Diagnostic>> {
    let (mut parsed, _) = Lists::parse(source, file, |_| None)?;
    read_keys(&mut parsed, source, file, &mut |path| {
        at(path, file).map_err(|fault| KeyFault { unseen: true, ..fault })
    })?;
    Ok(parsed)
}

/// The key in the file that the configuration `file` calls `path`.
fn at(path: &str, file: &str) -> Result<Secret, KeyFault> {
    let path = locate(path, file).map_err(|error| fault(format!("{error:#}"), None))?;
    read(&path)
}

fn fault(what: String, remedy: Option<String>) -> KeyFault {
    KeyFault { what, remedy, unseen: false }
}

/// The key in a file. See the module for what is refused.
///
/// # Errors
/// What is wrong with it. `unseen` is set when this user may not open it.
pub fn read(path: &Path) -> Result<Secret, KeyFault> {
    let shown = path.display();
    let failed = |error: io::Error| KeyFault {
        what: format!("{shown}: {error}"),
        remedy: (error.kind() == io::ErrorKind::NotFound)
            .then(|| format!("umask 077 && zsyncctl wireguard genkey > {shown}")),
        unseen: error.kind() == io::ErrorKind::PermissionDenied,
    };
    // A FIFO would keep its reader waiting.
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(fault(format!("{shown} is no regular file"), None));
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let what = format!("others than its owner may read or change {shown}: its mode is {mode:04o}");
        return Err(fault(
            what,
            Some(format!("chmod 600 {shown}; and if somebody may have read it, make another key")),
        ));
    }
    let (owner, me) = (about.uid(), geteuid().as_raw());
    if owner != 0 && owner != me {
        let what = format!("{shown} belongs to user {owner}, who may change it");
        return Err(fault(what, Some(format!("chown {me} {shown}"))));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 1));
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(fault(format!("{shown} is longer than {LARGEST} bytes, and a key has 45"), None));
    }
    let key = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<Secret>().ok());
    let no_key = || {
        let what = format!(
            "{shown} holds no key: 44 characters of base64 are one, as `zsyncctl wireguard genkey` writes them"
        );
        fault(what, None)
    };
    key.filter(|key| *key != Secret::new([0; 32])).ok_or_else(no_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use zsync_pipelines::spec::{StageSpec, Style, report};

    const SOURCE: &str = "[port.a]\nnetdev = \"eth1\"\n[pipeline.p]\ninput = [\"a\"]\n\
                          stages = [\"wireguard-open.gw\", \"wireguard-seal.gw\", \"route\"]\n\
                          [wireguard.gw]\nprivate-key-file = \"gw.key\"\n";

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("zsync-keys-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, mode: u32, bytes: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_key_is_read_from_a_file_that_its_owner_alone_may_read() {
        let folder = Folder::new("good");
        let text = Secret::new([9; 32]).expose_text();
        let path = folder.write("gw.key", 0o600, format!("{}\n", *text).as_bytes());
        assert_eq!(read(&path).unwrap(), Secret::new([9; 32]));
        folder.write("gw.key", 0o400, text.as_bytes());
        let config = folder.0.join("zsync.toml").display().to_string();
        let (parsed, lists) = parse(SOURCE, &config, |_| panic!("keys are kept in no history")).unwrap();
        for stage in &parsed.spec.pipelines[0].stages[..2] {
            let (StageSpec::WireguardOpen(end) | StageSpec::WireguardSeal(end)) = &stage.spec else {
                panic!()
            };
            assert_eq!(end.private_key.secret, Some(Secret::new([9; 32])));
        }
        assert_eq!(lists.contents().count(), 0);
        assert!(!format!("{parsed:?}").contains(&text[..10]));
    }

    #[test]
    fn a_key_that_came_by_a_socket_is_kept_where_nobody_else_reads_it() {
        let folder = Folder::new("kept");
        let keys = folder.0.join("keys");
        let secrets = [Secret::new([7; 32]), Secret::new([8; 32])];
        let paths = secrets.each_ref().map(|secret| write(&keys, "gw", secret).unwrap());
        assert_eq!(std::fs::metadata(&keys).unwrap().mode() & 0o7777, 0o700);
        for (path, secret) in paths.iter().zip(&secrets) {
            assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o7777, 0o600);
            assert_eq!(read(path).unwrap(), *secret);
            assert!(path.file_name().unwrap().to_str().unwrap().starts_with("gw-"), "{path:?}");
        }
        assert!(write(&folder.0.join("no/such"), "gw", &secrets[0]).is_err());

        // What is known is not read anew, and what is not known is.
        let path = folder.write("gw.key", 0o600, secrets[0].expose_text().as_bytes());
        let config = folder.0.join("zsync.toml").display().to_string();
        let known = of(&parse(SOURCE, &config, |_| None).unwrap().0.spec);
        assert_eq!(known, BTreeMap::from([("gw.key".to_owned(), secrets[0].clone())]));
        std::fs::remove_file(path).unwrap();
        let again = parse_knowing(SOURCE, &config, |_| None, &known).unwrap().0;
        assert_eq!(of(&again.spec), known);
        assert!(parse(SOURCE, &config, |_| None).is_err());
    }

    #[test]
    fn every_other_file_is_refused_with_what_to_do() {
        let folder = Folder::new("bad");
        let text = Secret::new([0xa5; 32]).expose_text();
        let refused = |mode: u32, bytes: &[u8], what: &str, remedy: Option<&str>| {
            let fault = read(&folder.write("gw.key", mode, bytes)).unwrap_err();
            assert!(fault.what.contains(what) && fault.what.contains("gw.key"), "{fault:?}");
            assert_eq!(
                fault.remedy.as_ref().is_some_and(|told| told.contains(remedy.unwrap_or(""))),
                remedy.is_some()
            );
            assert!(!fault.what.contains(&text[..8]), "{fault:?}");
            std::fs::remove_file(folder.0.join("gw.key")).unwrap();
        };
        for mode in [0o640, 0o604, 0o620, 0o610, 0o644, 0o666] {
            refused(mode, text.as_bytes(), &format!("its mode is {mode:04o}"), Some("chmod 600 /"));
        }
        refused(0o600, b"", "holds no key", None);
        refused(0o600, &text.as_bytes()[1..], "holds no key", None);
        refused(0o600, &[0xff; 44], "holds no key", None);
        refused(0o600, format!("{} {}", *text, *text).as_bytes(), "holds no key", None);
        refused(0o600, Secret::new([0; 32]).expose_text().as_bytes(), "holds no key", None);
        refused(0o600, &[b'\n'; 4097], "longer than 4096 bytes", None);
        let absent = read(&folder.0.join("absent")).unwrap_err();
        assert!(absent.what.contains("No such file") && absent.remedy.unwrap().contains("genkey"));
        assert!(read(&folder.0).unwrap_err().what.contains("is no regular file"));
        let fifo = folder.0.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(read(&fifo).unwrap_err().what.contains("is no regular file"));
        if geteuid().is_root() {
            let path = folder.write("gw.key", 0o600, text.as_bytes());
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            let fault = read(&path).unwrap_err();
            assert!(fault.what.contains("belongs to user 65534"), "{fault:?}");
        }
    }

    #[test]
    fn a_mistake_is_shown_at_its_place_without_the_key() {
        let folder = Folder::new("place");
        let text = Secret::new([0xa5; 32]).expose_text();
        let path = folder.write("gw.key", 0o644, text.as_bytes());
        let config = folder.0.join("zsync.toml").display().to_string();
        let errors = parse(SOURCE, &config, |_| None).unwrap_err();
        let told = report(&errors, SOURCE, Style::Plain);
        let shown = path.display();
        assert!(
            told.contains(&format!(
                "error: `wireguard.gw.private-key-file`: others than its owner may read or change {shown}"
            )),
            "{told}"
        );
        assert!(told.contains("zsync.toml:7:20") && told.contains(&format!("chmod 600 {shown}")), "{told}");
        assert!(!told.contains(&text[..8]), "{told}");
        assert_eq!(check(SOURCE, &config).unwrap_err(), errors);
    }
}
