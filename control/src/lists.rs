//! Files of prefixes that a configuration names: read once for each change, and kept with it in the history.
//!
//! Relative paths are seen from the folder of the configuration's file. Refuses what is no regular file, no UTF-8, or longer
//! than [`LARGEST`]; and more than [`LARGEST_IN_ALL`]. Keeps true: what a configuration that comes from the history had in its files is what it has again,
//! whatever has become of the files since.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use zsync_pipelines::spec::{Diagnostic, Parsed, TextFile, parse_with};

use crate::programs::locate;

/// The longest file, bytes: a million prefixes of IPv6, and a short comment for each.
pub const LARGEST: u64 = 64 << 20;

/// All files of a configuration together, bytes.
pub const LARGEST_IN_ALL: usize = 128 << 20;

/// What was in the files, by the path that the configuration has.
#[derive(Clone, Debug, Default)]
pub struct Lists(BTreeMap<String, Arc<str>>);

impl Lists {
    /// Reads a configuration, whose file is `file`, and the files that it names; what `kept` has of these is not read anew.
    ///
    /// # Errors
    /// Everything that is wrong with all of them.
    pub fn parse(
        source: &str,
        file: &str,
        kept: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<(Parsed, Self), Vec<Diagnostic>> {
        let lists = RefCell::new(Self::default());
        let parsed = parse_with(source, file, &mut |path| {
            let mut lists = lists.borrow_mut();
            let name = locate(path, file).map_err(|error| format!("{error:#}"))?.display().to_string();
            let text = match lists.0.get(path) {
                Some(text) => Arc::clone(text),
                None => match kept(path).and_then(|bytes| String::from_utf8(bytes).ok()) {
                    Some(text) => text.into(),
                    None => read(Path::new(&name))?.into(),
                },
            };
            lists.0.insert(path.to_owned(), Arc::clone(&text));
            if lists.0.values().map(|text| text.len()).sum::<usize>() > LARGEST_IN_ALL {
                lists.0.remove(path);
                return Err(format!("with {name}, all files together have more than {LARGEST_IN_ALL} bytes"));
            }
            Ok(TextFile { name, text })
        })?;
        Ok((parsed, lists.into_inner()))
    }

    /// What was in them, by the path that the configuration has.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_bytes()))
    }
}

fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    // A FIFO would keep its reader waiting.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(|error| format!("{shown}: {error}"))?;
    let about = file.metadata().map_err(|error| format!("{shown}: {error}"))?;
    if !about.is_file() {
        return Err(format!("{shown} is no regular file"));
    }
    let mut text = String::new();
    match file.take(LARGEST + 1).read_to_string(&mut text) {
        Err(error) => Err(format!("{shown}: {error}")),
        Ok(len) if len as u64 > LARGEST => Err(format!("{shown} is longer than {LARGEST} bytes")),
        Ok(_) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_pipelines::spec::{StageSpec, Style, report};

    const SOURCE: &str = "[port.a]\nnetdev = \"eth1\"\n[pipeline.p]\ninput = [\"a\"]\nstages = [\"filter.f\", \"route\"]\n\
                          [set.s]\nfile = \"lists/s.txt\"\n[filter.f]\nrules = [{ drop = true, from = \"set.s\" }]\n";

    fn prefixes(parsed: &Parsed) -> usize {
        match &parsed.spec.pipelines[0].stages[0].spec {
            StageSpec::Filter(filter) => filter.sets[0].all().count(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_are_seen_from_the_configuration_and_what_was_kept_goes_first() {
        let folder = std::env::temp_dir().join(format!("zsync-lists-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("lists")).unwrap();
        let list = folder.join("lists/s.txt");
        std::fs::write(&list, "10.0.0.0/8\n2001:db8::/32\n").unwrap();
        let config = folder.join("zsync.toml").display().to_string();
        let (parsed, lists) = Lists::parse(SOURCE, &config, |_| None).unwrap();
        assert_eq!(prefixes(&parsed), 2);
        let contents: Vec<_> = lists.contents().collect();
        assert_eq!(contents, [("lists/s.txt", &b"10.0.0.0/8\n2001:db8::/32\n"[..])]);
        let (parsed, _) =
            Lists::parse(SOURCE, &config, |path| (path == "lists/s.txt").then(|| b"10.0.0.0/8".to_vec()))
                .unwrap();
        assert_eq!(prefixes(&parsed), 1, "as it was then");

        let said = |file: &str| {
            let errors = Lists::parse(SOURCE, file, |_| None).unwrap_err();
            report(&errors, SOURCE, Style::Plain)
        };
        std::fs::write(&list, "10.0.0.0/8\nwhat\n").unwrap();
        assert!(said(&config).contains("lists/s.txt:2:1"), "{}", said(&config));
        std::fs::write(&list, [0xff]).unwrap();
        assert!(said(&config).contains("cannot be read"), "{}", said(&config));
        std::fs::File::create(&list).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(said(&config).contains("longer than 67108864 bytes"), "{}", said(&config));
        std::fs::remove_file(&list).unwrap();
        assert!(said(&config).contains("No such file"), "{}", said(&config));
        std::fs::create_dir(&list).unwrap();
        assert!(said(&config).contains("is no regular file"), "{}", said(&config));
        assert!(said("<stdin>").contains("from the root"), "{}", said("<stdin>"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
