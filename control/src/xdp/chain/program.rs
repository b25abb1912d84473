//! A program of the operator's, on its way into the kernel: loaded, verified, or refused in words that help its author.
//!
//! Owns nothing that lasts but the maps that a program pins by name. Refuses what the verifier does, and what this process may not load.

use std::{fs, io, path::Path};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::MapError,
    programs::{ProgramError, Xdp},
};

use super::pins::{Name, maps_folder, remove_folder};
use crate::xdp::{
    XdpError,
    error::{IoError, TO_LOAD, is_eperm},
    object::{Image, ObjectError},
};

/// As much of a verifier's log as is shown: its end has the reason.
const LOG_LINES: usize = 40;

/// Loads a program, and has the verifier look at it. Maps that it wants pinned by name are in a folder below `dir`, one for
/// each file, so that its next version finds them again.
pub(super) fn load(image: &Image, dir: &Path) -> Result<Ebpf, XdpError> {
    let folder = dir.join(maps_folder(&Name::of(image).file));
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(XdpError::pin("create", folder)(error));
        }
        _ => {}
    }
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(&folder).allow_unsupported_maps();
    for (name, value) in &image.globals {
        loader.override_global(name, value.as_slice(), true);
    }
    let loaded = loader.load(&image.bytes).map_err(|error| refused(image, error)).and_then(|mut loaded| {
        program_of(&mut loaded, image)?.load().map_err(|error| refused(image, error.into()))?;
        Ok(loaded)
    });
    // Only if nothing was pinned in it, now or before.
    let _ = fs::remove_dir(&folder);
    loaded
}

/// Has the verifier look at a program, and forgets it again. `dir` is a folder that is made and removed here; on a BPF file
/// system, if the program pins maps by name.
///
/// # Errors
/// [`XdpError::Operator`], [`XdpError::NotPermitted`], or [`XdpError::Pin`].
pub fn verify(image: &Image, dir: &Path) -> Result<(), XdpError> {
    remove_folder(dir)?;
    fs::create_dir(dir).map_err(XdpError::pin("create", dir))?;
    let loaded = load(image, dir).map(drop);
    remove_folder(dir)?;
    loaded
}

pub(super) fn program_of<'e>(loaded: &'e mut Ebpf, image: &Image) -> Result<&'e mut Xdp, XdpError> {
    let program = loaded
        .program_mut(&image.program)
        .ok_or_else(|| ProgramError::InvalidName { name: image.program.clone() });
    program.and_then(TryInto::try_into).map_err(|error| refused(image, error.into()))
}

/// What the kernel or aya says of a program, in the operator's words.
fn refused(image: &Image, error: EbpfError) -> XdpError {
    let label = image.label();
    let error = match error {
        EbpfError::ProgramError(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            if is_eperm(&io_error) && log.is_empty() {
                return XdpError::not_permitted("load an XDP program", TO_LOAD);
            }
            ObjectError::Verifier { label, log: end_of(&log), source: io_error }
        }
        EbpfError::MapError(MapError::CreateError { ref io_error, .. }) if is_eperm(io_error) => {
            return XdpError::not_permitted("create BPF maps", TO_LOAD);
        }
        EbpfError::MapError(MapError::PinError { error, .. }) => {
            return XdpError::pin("pin the maps of", &image.path)(error.into_io());
        }
        error => ObjectError::Load { label, why: all_causes(&error) },
    };
    XdpError::Operator(Box::new(error))
}

fn all_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// The last lines of a verifier's log, where the reason stands.
fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.trim_end().lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
    let cut = match lines.len() - shown.len() {
        0 => String::new(),
        cut => format!("({cut} lines before)\n"),
    };
    cut + &shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_shown() {
        let log: Vec<String> = (0..100).map(|line| format!("line {line}")).collect();
        let shown = end_of(&log.join("\n"));
        assert!(shown.starts_with("(60 lines before)\nline 60\n") && shown.ends_with("\nline 99"), "{shown}");
        assert_eq!(end_of("one\ntwo\n"), "one\ntwo");
    }
}
