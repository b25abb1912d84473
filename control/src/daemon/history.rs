//! The configurations that were accepted: each kept, with a number, a time and who gave it.
//!
//! Owns: a folder of files `000001.toml`, `history.json`, which says of each what it is, in `objects` what was in the object
//! files that they name, and in `keys` the secret keys that came by a socket, as long as one of them names their files. Keeps true: a configuration is in the history before it is in force, and each file is whole (written
//! aside, then renamed).

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use zsync_pipelines::spec::fingerprint;

/// Configurations that are kept; the oldest go first.
const KEPT: usize = 100;

/// One accepted configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub time: u64,
    /// Of its text and of the objects that it names; not cryptographic.
    pub hash: String,
    /// What it was called by whoever gave it.
    pub file: String,
    /// Who gave it.
    pub uid: u32,
    /// What was in the object files that it names: their fingerprints, by the path that it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub objects: BTreeMap<String, String>,
    /// Files in [`History::keys`] that it names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keys: BTreeSet<String>,
}

/// Contents of object files, by the path that a configuration has.
pub type Objects<'o> = BTreeMap<&'o str, &'o [u8]>;

/// See the module.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    entries: Vec<Entry>,
}

impl History {
    /// Opens the history in `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// The folder cannot be made or read, or `history.json` is no history.
    pub fn open(folder: &Path) -> Result<Self> {
        // Configurations name keys in it, wherever they are read.
        let folder = std::path::absolute(folder).with_context(|| format!("finding {}", folder.display()))?;
        let objects = folder.join("objects");
        fs::create_dir_all(&objects).with_context(|| format!("making {}", objects.display()))?;
        let list = folder.join("history.json");
        let entries = match fs::read(&list) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged: move it away to start anew", list.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", list.display())),
        };
        Ok(Self { folder, entries })
    }

    /// The newest entry.
    pub fn newest(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry with this number; the one before the newest for `None`.
    pub fn find(&self, number: Option<u64>) -> Option<&Entry> {
        match number {
            Some(number) => self.entries.iter().find(|entry| entry.number == number),
            None => self.entries.iter().rev().nth(1),
        }
    }

    /// The text of an entry.
    ///
    /// # Errors
    /// Its file is gone.
    pub fn text(&self, entry: &Entry) -> Result<String> {
        let path = self.file(entry.number);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// What was in an object file that an entry names by this path.
    pub fn object(&self, entry: &Entry, path: &str) -> Option<Vec<u8>> {
        let content = entry.objects.get(path)?;
        fs::read(self.object_file(content)).ok().filter(|bytes| fingerprint(bytes) == *content)
    }

    /// What was in all files that an entry names, by their paths.
    pub fn objects(&self, entry: &Entry) -> BTreeMap<String, Vec<u8>> {
        let object = |path: &String| Some((path.clone(), self.object(entry, path)?));
        entry.objects.keys().filter_map(object).collect()
    }

    /// Adds a configuration, unless it is the newest one already. Returns its entry.
    ///
    /// # Errors
    /// It cannot be written; the history is as before.
    pub fn add(&mut self, text: &str, file: &str, uid: u32, objects: &Objects<'_>) -> Result<Entry> {
        let contents: BTreeMap<String, String> =
            objects.iter().map(|(path, bytes)| ((*path).to_owned(), fingerprint(bytes))).collect();
        let hash = match contents.is_empty() {
            true => fingerprint(text),
            false => fingerprint(format!("{text}\n{contents:?}")),
        };
        if let Some(newest) = self.newest().filter(|newest| newest.hash == hash) {
            return Ok(newest.clone());
        }
        let number = self.newest().map_or(1, |newest| newest.number + 1);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        for (content, bytes) in contents.values().zip(objects.values()) {
            let kept = self.object_file(content);
            if !kept.exists() {
                write_whole(&kept, bytes)?;
            }
        }
        let keys = self.keys_in(text);
        let entry = Entry { number, time, hash, file: file.to_owned(), uid, objects: contents, keys };
        write_whole(&self.file(number), text.as_bytes())?;
        let mut entries = self.entries.clone();
        entries.push(entry.clone());
        let surplus = entries.len().saturating_sub(KEPT);
        for old in entries.drain(..surplus) {
            let _ = fs::remove_file(self.file(old.number));
        }
        write_whole(&self.folder.join("history.json"), &serde_json::to_vec_pretty(&entries)?)?;
        self.entries = entries;
        if surplus > 0 {
            self.forget_objects();
            self.forget_keys();
        }
        Ok(entry)
    }

    /// The folder for keys that came by a socket: see [`crate::keys::write`].
    pub fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// The files in [`Self::keys`] that a configuration names.
    fn keys_in(&self, text: &str) -> BTreeSet<String> {
        let before = format!("{}/", self.keys().display());
        let name = |(at, _): (usize, &str)| {
            let rest = &text[at + before.len()..];
            rest.split(['"', '\'', '\n']).next().unwrap_or_default().to_owned()
        };
        text.match_indices(&before).map(name).collect()
    }

    /// Whether an entry names this file of [`Self::keys`].
    pub fn names_key(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.entries.iter().any(|entry| entry.keys.contains(name))
    }

    /// Removes the keys that no entry names any more.
    fn forget_keys(&self) {
        for file in fs::read_dir(self.keys()).into_iter().flatten().flatten() {
            if !self.names_key(&file.path()) {
                let _ = fs::remove_file(file.path());
            }
        }
    }

    /// Removes the contents that no entry names any more.
    fn forget_objects(&self) {
        let named =
            |name: &str| self.entries.iter().any(|e| e.objects.values().any(|content| content == name));
        for file in fs::read_dir(self.folder.join("objects")).into_iter().flatten().flatten() {
            if !named(&file.file_name().to_string_lossy()) {
                let _ = fs::remove_file(file.path());
            }
        }
    }

    fn object_file(&self, content: &str) -> PathBuf {
        self.folder.join("objects").join(content)
    }

    fn file(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:06}.toml"))
    }
}

/// Writes a file so that it is there as a whole or not at all, also after a power cut.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        fs::write(&aside, bytes)?;
        fs::File::open(&aside)?.sync_all()?;
        fs::rename(&aside, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_wireguard::key::Secret;

    #[test]
    fn keeps_what_was_accepted_and_finds_it_again() {
        let folder = std::env::temp_dir().join(format!("zsync-history-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let none = Objects::new();
        let mut history = History::open(&folder).unwrap();
        assert!(history.newest().is_none() && history.find(None).is_none());
        assert_eq!(history.add("a = 1", "a.toml", 0, &none).unwrap().number, 1);
        assert_eq!(history.add("a = 2", "a.toml", 7, &none).unwrap().number, 2);
        assert_eq!(history.add("a = 2", "b.toml", 7, &none).unwrap().number, 2, "it is the newest already");
        let history = History::open(&folder).unwrap();
        assert_eq!(history.text(history.find(None).unwrap()).unwrap(), "a = 1");
        assert_eq!(history.text(history.find(Some(2)).unwrap()).unwrap(), "a = 2");
        assert!(history.find(Some(9)).is_none());

        // The same text with another object is another configuration.
        let mut history = history;
        let [first, second] = [b"one", b"two"]
            .map(|bytes| history.add("a = 2", "a.toml", 0, &Objects::from([("x.o", &bytes[..])])).unwrap());
        assert_eq!((first.number, second.number), (3, 4));
        assert_eq!(
            history.add("a = 2", "a.toml", 0, &Objects::from([("x.o", &b"two"[..])])).unwrap(),
            second
        );
        let history = History::open(&folder).unwrap();
        assert_eq!(history.object(&first, "x.o").as_deref(), Some(&b"one"[..]));
        assert_eq!(history.object(&second, "x.o").as_deref(), Some(&b"two"[..]));
        assert_eq!(history.object(&second, "y.o"), None);
        fs::write(history.object_file(&second.objects["x.o"]), "other").unwrap();
        assert_eq!(history.object(&second, "x.o"), None, "it is not what was kept");

        // A key goes with the last configuration that names it.
        let mut history = history;
        let [first, second] =
            [1, 2].map(|n| crate::keys::write(&history.keys(), "w", &Secret::new([n; 32])).unwrap());
        let text = |path: &Path| format!("private-key-file = \"{}\"\n", path.display());
        let entry = history.add(&text(&first), "a.toml", 0, &none).unwrap();
        assert_eq!(entry.keys.len(), 1);
        assert!(history.names_key(&first) && !history.names_key(&second));
        for n in 0..KEPT {
            assert!(history.names_key(&first) && first.exists(), "{n}");
            history.add(&format!("b = {n}\n{}", text(&second)), "a.toml", 0, &none).unwrap();
        }
        assert!(!first.exists() && second.exists() && !history.names_key(&first));
        assert!(History::open(&folder).unwrap().names_key(&second));
        fs::write(folder.join("history.json"), "{").unwrap();
        assert!(History::open(&folder).unwrap_err().to_string().contains("damaged"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
