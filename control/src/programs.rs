//! The operator's XDP programs that a configuration names, read from their files.
//!
//! They are read once for each change and kept, so that what is taken back is what was there, whatever has become of the files
//! since. Relative paths are seen from the folder of the configuration's file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, bail};
use zsync_pipelines::spec::{Change, Effect, Mark, Port, Spec, XdpProgram, fingerprint};

use crate::xdp::{Image, XdpError, verify};

/// The programs of each port that has some, by its name.
#[derive(Clone, Debug, Default)]
pub struct Programs(BTreeMap<String, Vec<Image>>);

impl Programs {
    /// Reads those of `spec`, whose file is `file`.
    ///
    /// # Errors
    /// All that is wrong with them, a line for each.
    pub fn read(spec: &Spec, file: &str) -> Result<Self> {
        Self::of(spec, |program| {
            let path = locate(&program.object, file)?;
            Ok(Image::read(&path, &program.program, &program.params)?)
        })
    }

    /// The same, from bytes that were kept; `kept` says them by the path that the configuration has. What was not kept is
    /// read from its file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn recall(spec: &Spec, file: &str, kept: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self> {
        let mut recalled: BTreeMap<&str, Arc<Vec<u8>>> = BTreeMap::new();
        for program in spec.ports.iter().flat_map(|port| &port.xdp) {
            if let Some(bytes) = kept(&program.object) {
                recalled.insert(&program.object, Arc::new(bytes));
            }
        }
        Self::of(spec, |program| {
            let path = locate(&program.object, file)?;
            Ok(match recalled.get(program.object.as_str()) {
                Some(bytes) => Image::of(&path, Arc::clone(bytes), &program.program, &program.params)?,
                None => Image::read(&path, &program.program, &program.params)?,
            })
        })
    }

    fn of(spec: &Spec, mut image: impl FnMut(&XdpProgram) -> Result<Image>) -> Result<Self> {
        let mut all = BTreeMap::new();
        let mut wrong = Vec::new();
        for port in spec.ports.iter().filter(|port| !port.xdp.is_empty()) {
            let mut images = Vec::new();
            for program in &port.xdp {
                match image(program) {
                    Ok(image) => images.push(image),
                    Err(error) => wrong.push(format!("port {}: {error:#}", port.name)),
                }
            }
            all.insert(port.name.clone(), images);
        }
        if wrong.is_empty() { Ok(Self(all)) } else { bail!(wrong.join("\n")) }
    }

    /// Those of a port, in their order.
    #[must_use]
    pub fn on(&self, port: &Port) -> &[Image] {
        self.0.get(&port.name).map_or(&[], Vec::as_slice)
    }

    /// Has the kernel's verifier look at those that are not in `running`. `scratch` is a folder of a BPF file system that
    /// may be made and removed.
    ///
    /// # Errors
    /// All that it refuses, each with the end of its log; or that this process may not ask it.
    pub fn verify(&self, running: &Self, scratch: &Path) -> Result<(), Refused> {
        let mut wrong = Vec::new();
        for (port, images) in &self.0 {
            let known = running.0.get(port).map_or(&[][..], Vec::as_slice);
            let new = |image: &&Image| known.iter().all(|known| known.fingerprint() != image.fingerprint());
            for image in images.iter().filter(new) {
                match verify(image, scratch) {
                    Ok(()) => {}
                    Err(error @ XdpError::NotPermitted { .. }) => return Err(Refused::NotAsked(error)),
                    Err(error @ XdpError::Pin { .. }) => return Err(Refused::NotAsked(error)),
                    Err(error) => wrong.push(format!("port {port}: {error}")),
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(Refused::Wrong(wrong.join("\n"))) }
    }

    /// The programs that two configurations have alike, but whose files have other contents now.
    #[must_use]
    pub fn replaced(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (port, images) in &self.0 {
            let old = before.0.get(port).map_or(&[][..], Vec::as_slice);
            for image in images {
                let same = |other: &&Image| (&other.path, &other.program) == (&image.path, &image.program);
                if old.iter().find(same).is_some_and(|old| old.content() != image.content()) {
                    let detail = format!("{} has other contents", image.label());
                    let path = format!("port.{port}.xdp");
                    changes.push(Change { mark: Mark::Changed, path, detail, effect: Effect::Live });
                }
            }
        }
        changes
    }

    /// The contents of their files, by the path that `spec` has.
    #[must_use]
    pub fn contents<'s>(&'s self, spec: &'s Spec) -> BTreeMap<&'s str, &'s [u8]> {
        let of_port = |port: &'s Port| port.xdp.iter().zip(self.on(port));
        spec.ports
            .iter()
            .flat_map(of_port)
            .map(|(program, image)| (program.object.as_str(), image.bytes()))
            .collect()
    }

    /// Says the same of the same programs; empty when there are none.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let all: Vec<String> = self
            .0
            .iter()
            .flat_map(|(port, images)| {
                images.iter().map(move |image| format!("{port} {}", image.fingerprint()))
            })
            .collect();
        if all.is_empty() { String::new() } else { fingerprint(all.join("\n")) }
    }
}

/// Why programs were not found right.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The verifier refuses some.
    #[error("{0}")]
    Wrong(String),
    /// This process may not ask it.
    #[error("{0}")]
    NotAsked(XdpError),
}

/// Where a file is that a configuration names.
pub(crate) fn locate(object: &str, file: &str) -> Result<PathBuf> {
    let object = Path::new(object);
    if object.is_absolute() {
        return Ok(object.to_owned());
    }
    let folder = Path::new(file).parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) => Ok(std::path::absolute(folder.join(object))?),
        // Standard input is in no folder, and a name alone says nothing of one.
        None if file.starts_with('<') => {
            bail!("{}: a relative path, but {file} is in no folder; name it from the root", object.display())
        }
        None => Ok(std::path::absolute(object)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_seen_from_the_configuration() {
        let at = |object, file| locate(object, file).unwrap().display().to_string();
        assert_eq!(at("/lib/ddos.o", "/etc/zsync/zsync.toml"), "/lib/ddos.o");
        assert_eq!(at("ddos.o", "/etc/zsync/zsync.toml"), "/etc/zsync/ddos.o");
        assert_eq!(at("xdp/ddos.o", "/etc/zsync/zsync.toml (number 3)"), "/etc/zsync/xdp/ddos.o");
        assert_eq!(
            at("ddos.o", "zsync.toml"),
            std::env::current_dir().unwrap().join("ddos.o").display().to_string()
        );
        assert_eq!(at("/lib/ddos.o", "<stdin>"), "/lib/ddos.o");
        assert!(locate("ddos.o", "<stdin>").unwrap_err().to_string().contains("from the root"));
    }
}
