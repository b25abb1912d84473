//! An operator's XDP program, read from its object file and looked at without the kernel.
//!
//! Owns: an [`Image`], the file's bytes as they were when they were read, so that what was checked is what is loaded. Refuses
//! what cannot run ahead of `zsync_ingress`, in words, and files that others than root could change: who can write the file
//! decides what becomes of a port's packets.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use object::{Architecture, Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};
use zsync_pipelines::spec::{fingerprint, nearest};

/// The largest object that is read, bytes. With debug information they have some hundred thousand.
const LARGEST: u64 = 16 << 20;
/// The sections whose variables can be given values.
const VARIABLES: [&str; 3] = [".rodata", ".data", ".bss"];

/// What is wrong with an operator's program. Each begins with the file.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a folder, a device, or something else that is no file of a sensible size.
    #[error("{}: {what}", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// Others than root can change the file.
    #[error(
        "{}: {what}; whoever can change an XDP program decides what becomes of the packets, so it must be root's alone: \
         `install -o root -g root -m 644 {}` elsewhere, and name that one",
        path.display(), path.display()
    )]
    NotTrusted {
        /// The file.
        path: PathBuf,
        /// Who can.
        what: String,
    },
    /// The file is no eBPF object.
    #[error("{}: {what}; an eBPF object is expected, as `clang -O2 -g -target bpf -c` makes them", path.display())]
    NotBpf {
        /// The file.
        path: PathBuf,
        /// What it is, as far as one can tell.
        what: String,
    },
    /// There is no such program in the file.
    #[error("{}: there is no program \"{program}\"; {remedy}", path.display())]
    NoProgram {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        program: String,
        /// What there is.
        remedy: String,
    },
    /// The program is of another kind.
    #[error(
        "{}: the program \"{program}\" is in section \"{section}\"; one that runs ahead of zsync is in section \"xdp\"{why}",
        path.display()
    )]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// The program.
        program: String,
        /// Where it is.
        section: String,
        /// Why that one will not do.
        why: &'static str,
    },
    /// There is no such variable in the file.
    #[error("{}: there is no global variable \"{name}\" that `params` could set; {remedy}", path.display())]
    NoParameter {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        remedy: String,
    },
    /// A value does not fit its variable.
    #[error("{}: `params.{name}` = {value} does not fit: the variable has {bytes} bytes", path.display())]
    TooWide {
        /// The file.
        path: PathBuf,
        /// The variable.
        name: String,
        /// The value.
        value: u64,
        /// The variable's size.
        bytes: u64,
    },
    /// The verifier refuses the program.
    #[error("{label}: the kernel's verifier refuses the program ({source}):\n{log}")]
    Verifier {
        /// The file and the program.
        label: String,
        /// The end of the verifier's log, where the reason stands.
        log: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel, or the loader, refuses the object for another reason.
    #[error("{label}: it cannot be loaded: {why}")]
    Load {
        /// The file and the program.
        label: String,
        /// Why, with all causes.
        why: String,
    },
}

/// A program and the bytes that it is loaded from.
#[derive(Clone, Debug)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// The program in it.
    pub program: String,
    /// The variables that are set, each with as many bytes as it has.
    pub(super) globals: Vec<(String, Vec<u8>)>,
    pub(super) bytes: Arc<Vec<u8>>,
    content: String,
    fingerprint: String,
}

impl Image {
    /// Reads a program from its file.
    ///
    /// # Errors
    /// All of [`ObjectError`] but the last two.
    pub fn read(path: &Path, program: &str, params: &BTreeMap<String, u64>) -> Result<Self, ObjectError> {
        Self::of(path, Arc::new(contents(path)?), program, params)
    }

    /// The same of a file that was read before.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(
        path: &Path,
        bytes: Arc<Vec<u8>>,
        program: &str,
        params: &BTreeMap<String, u64>,
    ) -> Result<Self, ObjectError> {
        let globals = Elf::open(path, &bytes)?.globals(program, params)?;
        let content = fingerprint(&*bytes);
        let all = format!("{content} {program} {params:?}");
        Ok(Self {
            path: path.to_owned(),
            program: program.to_owned(),
            globals,
            content,
            fingerprint: fingerprint(all),
            bytes,
        })
    }

    /// The file and the program, `/etc/zsync/ddos.o:scrub`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}:{}", self.path.display(), self.program)
    }

    /// The same for the same contents, program and parameters.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The same for the same contents.
    #[must_use]
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The file's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The bytes of a file that is root's alone.
fn contents(path: &Path) -> Result<Vec<u8>, ObjectError> {
    let read = |source| ObjectError::Read { path: path.to_owned(), source };
    // What is no file must not make us wait, nor do anything.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(read)?;
    check_file(path, &file)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > LARGEST {
        return Err(ObjectError::NoFile { path: path.to_owned(), what: too_large(bytes.len() as u64) });
    }
    Ok(bytes)
}

fn check_file(path: &Path, file: &File) -> Result<(), ObjectError> {
    let meta = file.metadata().map_err(|source| ObjectError::Read { path: path.to_owned(), source })?;
    if !meta.is_file() || meta.len() > LARGEST {
        let what = if meta.is_file() { too_large(meta.len()) } else { "it is no regular file".to_owned() };
        return Err(ObjectError::NoFile { path: path.to_owned(), what });
    }
    // Of the open file, so that nobody can put another one in its place between look and use.
    let own = rustix::process::geteuid().as_raw();
    let what = if meta.uid() != 0 && meta.uid() != own {
        format!("it belongs to user {}", meta.uid())
    } else if meta.mode() & 0o022 != 0 {
        format!("its permissions {:o} let others than its owner write", meta.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(ObjectError::NotTrusted { path: path.to_owned(), what })
}

fn too_large(bytes: u64) -> String {
    format!("it has {bytes} bytes; at most {LARGEST} are read")
}

/// The object file, as far as it is looked at.
struct Elf<'d> {
    path: &'d Path,
    file: object::File<'d>,
}

impl<'d> Elf<'d> {
    fn open(path: &'d Path, bytes: &'d [u8]) -> Result<Self, ObjectError> {
        let no = |what: String| ObjectError::NotBpf { path: path.to_owned(), what };
        let file =
            object::File::parse(bytes).map_err(|error| no(format!("it is no object file ({error})")))?;
        if file.architecture() != Architecture::Bpf {
            return Err(no(format!("it is an object for {:?}", file.architecture())));
        }
        if file.is_little_endian() != cfg!(target_endian = "little") {
            return Err(no("it is for machines of the other byte order".to_owned()));
        }
        Ok(Self { path, file })
    }

    /// The functions that are programs, with their sections.
    fn programs(&self) -> Vec<(&str, &str)> {
        let program = |symbol: object::Symbol<'d, '_>| {
            let section = self.file.section_by_index(symbol.section_index()?).ok()?;
            let name: &'d str = section.name().ok()?;
            let is_one = symbol.kind() == SymbolKind::Text && symbol.is_global() && name != ".text";
            (is_one && section.kind() == SectionKind::Text).then_some((symbol.name().ok()?, name))
        };
        self.file.symbols().filter_map(program).collect()
    }

    /// The variables that can be given values, with their sizes.
    fn variables(&self) -> Vec<(&str, u64)> {
        let variable = |symbol: object::Symbol<'d, '_>| {
            let section = self.file.section_by_index(symbol.section_index()?).ok()?;
            let section = section.name().ok()?;
            let holds = |base: &str| {
                section.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let is_one = VARIABLES.iter().any(|base| holds(base)) && matches!(symbol.size(), 1 | 2 | 4 | 8);
            is_one.then_some((symbol.name().ok().filter(|name| !name.is_empty())?, symbol.size()))
        };
        self.file.symbols().filter_map(variable).collect()
    }

    /// Checks the program, and makes the variables' bytes.
    fn globals(
        &self,
        program: &str,
        params: &BTreeMap<String, u64>,
    ) -> Result<Vec<(String, Vec<u8>)>, ObjectError> {
        let path = || self.path.to_owned();
        let programs = self.programs();
        let Some((_, section)) = programs.iter().find(|(name, _)| *name == program) else {
            let xdp: Vec<&str> =
                programs.iter().filter(|(_, section)| *section == "xdp").map(|(name, _)| *name).collect();
            let remedy = instead(program, &xdp, "no XDP program at all (section \"xdp\")");
            return Err(ObjectError::NoProgram { path: path(), program: program.to_owned(), remedy });
        };
        if *section != "xdp" {
            let why = match *section {
                "xdp.frags" | "xdp_frags" => ": zsync's own takes no packets of several buffers",
                _ => "",
            };
            let (program, section) = (program.to_owned(), (*section).to_owned());
            return Err(ObjectError::WrongKind { path: path(), program, section, why });
        }
        let variables = self.variables();
        let bytes = |(name, value): (&String, &u64)| {
            let Some((_, bytes)) = variables.iter().find(|(known, _)| known == name) else {
                let names: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
                let remedy = instead(name, &names, "none of 1, 2, 4 or 8 bytes");
                return Err(ObjectError::NoParameter { path: path(), name: name.clone(), remedy });
            };
            let (wide, bytes) = (value.to_ne_bytes(), *bytes);
            let at = if cfg!(target_endian = "little") { 0 } else { 8 - bytes as usize };
            if bytes < 8 && value >> (bytes * 8) != 0 {
                return Err(ObjectError::TooWide { path: path(), name: name.clone(), value: *value, bytes });
            }
            Ok((name.clone(), wide[at..at + bytes as usize].to_vec()))
        };
        params.iter().map(bytes).collect()
    }
}

/// What else could have been meant.
fn instead(word: &str, known: &[&str], none: &str) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => format!("there is {none}"),
        None => format!("there is: {}", known.join(", ")),
    }
}
