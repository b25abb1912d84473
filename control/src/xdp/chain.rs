//! The operator's XDP programs ahead of `zsync_ingress`: their cells, their order, their pins.
//!
//! A program lies in a cell of a program array, and one word says which cells run, in which order. So a program is replaced by
//! one map update in its cell, and any other change of the chain is one update of that word: a packet meets the chain before or
//! the chain after. The counters are the cell's, and stay when its program is replaced.
//!
//! What is pinned says what is in force, so that a process that dies at any instruction leaves nothing undecided: a program is
//! pinned as `slot_CELL_…` before its cell is in the order; one that is to take another's place is pinned as `new_CELL_…` until
//! the other's pin is gone, and if it finds the other still there after a crash, the other one stays.

mod pins;
mod program;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError, PerCpuArray, PerCpuValues, ProgramArray},
    programs::Xdp,
};
use aya_obj::programs::XdpAttachType;
use rustix::thread::{MembarrierCommand, membarrier};
use zsync_ebpf_common::{CHAIN_CELLS, CHAIN_SLOTS, ChainOrder, ChainVerdict, chain_count, map};

use self::pins::{MAPS, Name, maps_folder, pins};
use self::program::{load, program_of};
use super::{XdpError, error::IoError, object::Image};

pub(super) use self::pins::remove_folder;
pub use self::program::verify;

/// The folder of a port's chain, below that of its other pins.
pub(super) const CHAIN_DIR: &str = "chain";
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

#[cfg(test)]
mod tests {
    use super::*;

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
