//! The operator's XDP programs ahead of `zsync_ingress`: their cells, their order, their pins.
//!
//! A program lies in a cell of a program array, and one word says which cells run, in which order. So a program is replaced by
//! one map update in its cell, and any other change of the chain is one update of that word: a packet meets the chain before or
//! the chain after. The counters are the cell's, and stay when its program is replaced.
//!
//! What is pinned says what is in force, so that a process that dies at any instruction leaves nothing undecided: a program is
//! pinned as `slot_CELL_…` before its cell is in the order; one that is to take another's place is pinned as `new_CELL_…` until
//! the other's pin is gone, and if it finds the other still there after a crash, the other one stays.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, Map, MapData, MapError, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{ProgramError, Xdp},
};
use aya_obj::programs::XdpAttachType;
use rustix::thread::{MembarrierCommand, membarrier};
use zsync_ebpf_common::{CHAIN_CELLS, CHAIN_SLOTS, ChainOrder, ChainVerdict, chain_count, map};
use zsync_pipelines::spec::fingerprint;

use super::{
    XdpError,
    error::{IoError, TO_LOAD, is_eperm},
    object::{Image, ObjectError},
};

/// The folder of a port's chain, below that of its other pins.
pub(super) const CHAIN_DIR: &str = "chain";
/// As much of a verifier's log as is shown: its end has the reason.
const LOG_LINES: usize = 40;

/// What one program of a chain did with its packets since it came to its place. All that it was to have is their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts([u64; ChainVerdict::ALL.len()]);

impl SlotCounts {
    /// Packets of one verdict.
    #[must_use]
    pub fn of(&self, verdict: ChainVerdict) -> u64 {
        self.0[verdict as usize]
    }

    /// Packets that came to the program.
    #[must_use]
    pub fn entered(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A port's chain.
pub(super) struct Chain {
    dir: PathBuf,
    programs: ProgramArray<MapData>,
    order: Array<MapData, ChainOrder>,
    counts: PerCpuArray<MapData, u64>,
    /// The cells in force, in their order.
    cells: Vec<Cell>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("dir", &self.dir).field("cells", &self.cells).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    number: u8,
    name: Name,
}

/// What a pin's name says of its program: short names of the file, of the program in it, and of all that it was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Name {
    file: String,
    program: String,
    image: String,
}

impl Name {
    fn of(image: &Image) -> Self {
        Self {
            file: fingerprint(image.path.as_os_str().as_encoded_bytes()),
            program: fingerprint(&image.program),
            image: image.fingerprint().to_owned(),
        }
    }

    /// The pin of a program in a cell; bpffs allows no dots (kernel/bpf/inode.c, `bpf_lookup`).
    fn pin(&self, stage: &str, cell: u8) -> String {
        format!("{stage}_{cell}_{}_{}_{}", self.file, self.program, self.image)
    }

    /// The reverse of [`Self::pin`].
    fn read(pin: &str) -> Option<(&str, u8, Self)> {
        let mut parts = pin.split('_');
        let (stage, cell) = (parts.next()?, parts.next()?.parse().ok()?);
        let mut next = || parts.next().map(str::to_owned);
        Some((stage, cell, Self { file: next()?, program: next()?, image: next()? }))
    }
}

impl Chain {
    /// The chain whose maps a program has just been loaded with, or an earlier process pinned, in `dir`.
    ///
    /// # Errors
    /// [`XdpError::NotPinned`] when a map is missing or another version's.
    pub(super) fn open(dir: &Path) -> Result<Self, XdpError> {
        let open = |name: &'static str| {
            let path = dir.join(name);
            let map = MapData::from_pin(&path).and_then(Map::from_map_data);
            map.map_err(|source| XdpError::NotPinned { path, source: source.into() })
        };
        let mut chain = Self {
            dir: dir.to_owned(),
            programs: typed(map::CHAIN, open(map::CHAIN)?)?,
            order: typed(map::CHAIN_ORDER, open(map::CHAIN_ORDER)?)?,
            counts: typed(map::CHAIN_COUNTS, open(map::CHAIN_COUNTS)?)?,
            cells: Vec::new(),
        };
        chain.settle()?;
        Ok(chain)
    }

    /// Makes the maps and the pins agree, wherever an earlier process has stopped.
    fn settle(&mut self) -> Result<(), XdpError> {
        let order = self.order.get(&0, 0).map_err(XdpError::map(map::CHAIN_ORDER))?;
        let running: Vec<u8> =
            (0..order.length().min(CHAIN_SLOTS as u32)).map(|slot| order.cell(slot)).collect();
        let mut found: BTreeMap<u8, (String, Name)> = BTreeMap::new();
        let pins = pins(&self.dir)?;
        // "new" sorts before "slot", so that where there are both the old one stays.
        for pin in pins.iter().filter(|pin| pin.starts_with("new_") || pin.starts_with("slot_")) {
            let Some((_, cell, name)) = Name::read(pin).filter(|(_, cell, _)| running.contains(cell)) else {
                self.unpin(pin)?;
                continue;
            };
            if let Some((other, _)) = found.insert(cell, (pin.clone(), name)) {
                self.unpin(&other)?;
            }
        }
        for (cell, (pin, name)) in &found {
            let slot = name.pin("slot", *cell);
            if *pin != slot {
                self.rename(pin, &slot)?;
            }
            let path = self.dir.join(&slot);
            let program = Xdp::from_pin(&path, XdpAttachType::Interface)
                .map_err(|source| XdpError::NotPinned { path: path.clone(), source: source.into() })?;
            self.put(*cell, &program)?;
        }
        for cell in (0..CHAIN_CELLS).filter(|cell| !running.contains(cell)) {
            self.clear(cell)?;
        }
        // A program whose pin somebody removed stays in force, without a name, until it is replaced.
        let name = |number| found.get(number).map(|(_, name)| name.clone()).unwrap_or_default();
        self.cells = running.iter().map(|number| Cell { number: *number, name: name(number) }).collect();
        Ok(())
    }

    /// What runs, in its order: fingerprints of images.
    pub(super) fn running(&self) -> impl Iterator<Item = &str> {
        self.cells.iter().map(|cell| cell.name.image.as_str())
    }

    /// Puts other programs in force. All are loaded before anything changes. Returns the labels of those that were loaded.
    ///
    /// # Errors
    /// [`XdpError::Operator`]: nothing has changed. Others: what was changed before stays.
    pub(super) fn set(&mut self, wanted: &[Image]) -> Result<Vec<String>, XdpError> {
        if self.running().eq(wanted.iter().map(Image::fingerprint)) {
            return Ok(Vec::new());
        }
        let mut before: Vec<Option<Cell>> = self.cells.iter().cloned().map(Some).collect();
        let mut take = |fits: &dyn Fn(&Name) -> bool| {
            before.iter_mut().find(|cell| cell.as_ref().is_some_and(|cell| fits(&cell.name)))?.take()
        };
        let names: Vec<Name> = wanted.iter().map(Name::of).collect();
        let kept: Vec<Option<Cell>> = names.iter().map(|name| take(&|old| old == name)).collect();
        let mut plan = Vec::new();
        for ((image, name), kept) in wanted.iter().zip(names).zip(kept) {
            let step = match kept {
                Some(cell) => Step::Keep(cell),
                None => {
                    let loaded = load(image, &self.dir)?;
                    let same = |old: &Name| (&old.file, &old.program) == (&name.file, &name.program);
                    match take(&same) {
                        Some(old) => Step::Replace { old, name, loaded },
                        None => Step::Add { name, loaded },
                    }
                }
            };
            plan.push((step, image));
        }
        let mut used: Vec<u8> = self.cells.iter().map(|cell| cell.number).collect();
        let (mut cells, mut labels) = (Vec::new(), Vec::new());
        for (step, image) in plan {
            let cell = match step {
                Step::Keep(cell) => cell,
                Step::Replace { old, name, loaded } => {
                    self.replace(&old, &name, loaded, image)?;
                    labels.push(image.label());
                    let new = Cell { name, ..old };
                    // At once: should a later step fail, this one has been taken.
                    self.cells
                        .iter_mut()
                        .filter(|cell| cell.number == new.number)
                        .for_each(|cell| *cell = new.clone());
                    new
                }
                Step::Add { name, loaded } => {
                    // Twice as many cells as slots: there is one.
                    let number = (0..CHAIN_CELLS).find(|cell| !used.contains(cell)).unwrap_or_default();
                    used.push(number);
                    self.add(number, &name, loaded, image)?;
                    labels.push(image.label());
                    Cell { number, name }
                }
            };
            cells.push(cell);
        }
        let same_order = self.cells.iter().map(|cell| cell.number).eq(cells.iter().map(|cell| cell.number));
        self.cells = cells;
        if !same_order {
            self.write_order()?;
            // Packets that go by the order before must find its programs.
            wait_for_packets();
        }
        for gone in before.into_iter().flatten() {
            self.clear(gone.number)?;
            self.unpin(&gone.name.pin("slot", gone.number))?;
        }
        self.forget_maps()?;
        Ok(labels)
    }

    /// What the programs did, in their order.
    pub(super) fn counts(&self) -> Result<Vec<SlotCounts>, XdpError> {
        let sum = |cell: &Cell| {
            let mut sums = SlotCounts::default();
            for (verdict, sum) in ChainVerdict::ALL.into_iter().zip(&mut sums.0) {
                let index = chain_count(cell.number, verdict);
                let values = self.counts.get(&index, 0).map_err(XdpError::map(map::CHAIN_COUNTS))?;
                *sum = values.iter().sum();
            }
            Ok(sums)
        };
        self.cells.iter().map(sum).collect()
    }

    /// A program into a cell that is not in the order.
    fn add(&mut self, cell: u8, name: &Name, mut loaded: Ebpf, image: &Image) -> Result<(), XdpError> {
        for verdict in ChainVerdict::ALL {
            let index = chain_count(cell, verdict);
            let values = self.counts.get(&index, 0).map_err(XdpError::map(map::CHAIN_COUNTS))?;
            let values = PerCpuValues::try_from(vec![0; values.len()])
                .map_err(|error| XdpError::map(map::CHAIN_COUNTS)(error.into()))?;
            self.counts.set(index, values, 0).map_err(XdpError::map(map::CHAIN_COUNTS))?;
        }
        let program = program_of(&mut loaded, image)?;
        let pin = name.pin("slot", cell);
        let put = self.pin(program, &pin).and_then(|()| self.put(cell, program));
        if put.is_err() {
            let _ = self.unpin(&pin);
        }
        put
    }

    /// A program in the place of another: one map update.
    fn replace(&mut self, old: &Cell, name: &Name, mut loaded: Ebpf, image: &Image) -> Result<(), XdpError> {
        let new = name.pin("new", old.number);
        let program = program_of(&mut loaded, image)?;
        self.pin(program, &new)?;
        self.put(old.number, program)?;
        self.unpin(&old.name.pin("slot", old.number))?;
        self.rename(&new, &name.pin("slot", old.number))
    }

    fn put(&mut self, cell: u8, program: &Xdp) -> Result<(), XdpError> {
        let fd = program.fd()?;
        self.programs.set(cell.into(), fd, 0).map_err(XdpError::map(map::CHAIN))
    }

    fn clear(&mut self, cell: u8) -> Result<(), XdpError> {
        match self.programs.clear_index(&cell.into()) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            cleared => cleared.map_err(XdpError::map(map::CHAIN)),
        }
    }

    fn write_order(&mut self) -> Result<(), XdpError> {
        let cells: Vec<u8> = self.cells.iter().map(|cell| cell.number).collect();
        self.order.set(0, ChainOrder::of(&cells), 0).map_err(XdpError::map(map::CHAIN_ORDER))
    }

    fn pin(&self, program: &mut Xdp, name: &str) -> Result<(), XdpError> {
        let path = self.dir.join(name);
        let _ = fs::remove_file(&path);
        program.pin(&path).map_err(|error| XdpError::pin("pin", path)(error.into_io()))
    }

    fn unpin(&self, name: &str) -> Result<(), XdpError> {
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(XdpError::pin("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), XdpError> {
        let path = self.dir.join(from);
        fs::rename(&path, self.dir.join(to)).map_err(XdpError::pin("rename", path))
    }

    /// Maps that programs pinned by name go with the last program of their file.
    fn forget_maps(&self) -> Result<(), XdpError> {
        for folder in pins(&self.dir)?.iter().filter(|name| name.starts_with(MAPS)) {
            if !self.cells.iter().any(|cell| maps_folder(&cell.name.file) == *folder) {
                remove_folder(&self.dir.join(folder))?;
            }
        }
        Ok(())
    }
}

enum Step {
    Keep(Cell),
    Replace { old: Cell, name: Name, loaded: Ebpf },
    Add { name: Name, loaded: Ebpf },
}

const MAPS: &str = "maps_";

fn maps_folder(file: &str) -> String {
    format!("{MAPS}{file}")
}

/// Loads a program, and has the verifier look at it. Maps that it wants pinned by name are in a folder below `dir`, one for
/// each file, so that its next version finds them again.
fn load(image: &Image, dir: &Path) -> Result<Ebpf, XdpError> {
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

fn program_of<'e>(loaded: &'e mut Ebpf, image: &Image) -> Result<&'e mut Xdp, XdpError> {
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

/// Waits until no packet is in XDP that was there before: an RCU grace period, which this call of membarrier(2) is.
fn wait_for_packets() {
    if membarrier(MembarrierCommand::Global).is_err() {
        // Not on a kernel with cores that it never interrupts (nohz_full): a packet takes microseconds.
        thread::sleep(Duration::from_millis(50));
    }
}

fn typed<T: TryFrom<Map, Error = MapError>>(name: &'static str, map: Map) -> Result<T, XdpError> {
    T::try_from(map).map_err(XdpError::map(name))
}

/// The names in a folder of pins, in their order.
fn pins(dir: &Path) -> Result<Vec<String>, XdpError> {
    let read = || -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        fs::read_dir(dir)?.map(name).collect()
    };
    let mut names = read().map_err(XdpError::pin("read", dir))?;
    names.sort_unstable();
    Ok(names)
}

/// Removes a folder of pins and what is in it. None is no error.
pub(super) fn remove_folder(dir: &Path) -> Result<(), XdpError> {
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

    #[test]
    fn the_end_of_a_log_is_shown() {
        let log: Vec<String> = (0..100).map(|line| format!("line {line}")).collect();
        let shown = end_of(&log.join("\n"));
        assert!(shown.starts_with("(60 lines before)\nline 60\n") && shown.ends_with("\nline 99"), "{shown}");
        assert_eq!(end_of("one\ntwo\n"), "one\ntwo");
    }

    #[test]
    fn an_order_keeps_its_cells() {
        for cells in [&[][..], &[0], &[15, 0, 7], &[8, 9, 10, 11, 12, 13, 14, 15]] {
            let order = ChainOrder::of(cells);
            assert_eq!(order.length() as usize, cells.len());
            let back: Vec<u8> = (0..order.length()).map(|slot| order.cell(slot)).collect();
            assert_eq!(back, cells);
        }
        assert_eq!(ChainOrder::of(&[1; 20]).length(), 8, "no more than there are slots");
    }
}
