//! The pins of a chain: what is in which cell, in their names, and the folders of the maps that programs share by name.
//!
//! Owns: the names. Refuses, reading them, what is no program's. Keeps true: a name that was written is read as the same program in the
//! same cell.

use std::{fs, io, path::Path};

use zsync_pipelines::spec::fingerprint;

use crate::xdp::{XdpError, object::Image};

pub(super) const MAPS: &str = "maps_";

pub(super) fn maps_folder(file: &str) -> String {
    format!("{MAPS}{file}")
}

/// What a pin's name says of its program: short names of the file, of the program in it, and of all that it was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) file: String,
    pub(super) program: String,
    pub(super) image: String,
}

impl Name {
    pub(super) fn of(image: &Image) -> Self {
        Self {
            file: fingerprint(image.path.as_os_str().as_encoded_bytes()),
            program: fingerprint(&image.program),
            image: image.fingerprint().to_owned(),
        }
    }

    /// The pin of a program in a cell; bpffs allows no dots (kernel/bpf/inode.c, `bpf_lookup`).
    pub(super) fn pin(&self, stage: &str, cell: u8) -> String {
        format!("{stage}_{cell}_{}_{}_{}", self.file, self.program, self.image)
    }

    /// The reverse of [`Self::pin`].
    pub(super) fn read(pin: &str) -> Option<(&str, u8, Self)> {
        let mut parts = pin.split('_');
        let (stage, cell) = (parts.next()?, parts.next()?.parse().ok()?);
        let mut next = || parts.next().map(str::to_owned);
        Some((stage, cell, Self { file: next()?, program: next()?, image: next()? }))
    }
}

/// The names in a folder of pins, in their order.
pub(super) fn pins(dir: &Path) -> Result<Vec<String>, XdpError> {
    let read = || -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        fs::read_dir(dir)?.map(name).collect()
    };
    let mut names = read().map_err(XdpError::pin("read", dir))?;
    names.sort_unstable();
    Ok(names)
}

/// Removes a folder of pins and what is in it. None is no error.
pub(in crate::xdp) fn remove_folder(dir: &Path) -> Result<(), XdpError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(XdpError::pin("remove", dir)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pins_name_says_what_it_is() {
        let name = Name { file: "0a".into(), program: "0b".into(), image: "0c".into() };
        assert_eq!(name.pin("slot", 13), "slot_13_0a_0b_0c");
        assert_eq!(Name::read("slot_13_0a_0b_0c"), Some(("slot", 13, name)));
        for other in ["CHAIN", "CHAIN_ORDER", "maps_0a", "slot_x_0a_0b_0c", "slot_1_0a_0b", ""] {
            assert_eq!(Name::read(other), None, "{other}");
        }
    }
}
