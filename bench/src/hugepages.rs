//! Huge pages for a peer that wants them, lent for as long as a value lives: the outer process's, which outlives the
//! [enclosure](crate::enclosure).
//!
//! Several runs may have them at once. A record in `/run`, changed under a lock, says how many pages there were before the
//! first of them came, how many were set, and which processes hold them; the last that goes gives them back. Keeps true: what
//! a killed run left is given back by the next one, and a count that somebody else has raised meanwhile is left as it is.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const COUNT: &str = "/proc/sys/vm/nr_hugepages";
const RECORD: &str = "/run/zsync-bench.hugepages";
/// Of 2 MiB: what testpmd takes for its default number of mbufs, and some.
pub const WANTED: u32 = 512;

/// Huge pages that were reserved here. Dropping it gives them back, if nobody else holds them.
#[derive(Debug)]
pub struct HugePages {
    /// `None` when there were enough, so that nothing is to be given back.
    holder: Option<Holder>,
    place: Place,
}

/// Where the kernel's count and the record are.
#[derive(Clone, Debug)]
struct Place {
    count: PathBuf,
    record: PathBuf,
}

/// A process, told from a later one of the same number by its start, in ticks after the machine's (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    process: u32,
    start: u64,
}

/// Who changed the count, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// Pages before the first holder came.
    before: u32,
    /// Pages that it set.
    set: u32,
    holders: Vec<Holder>,
}

impl HugePages {
    /// Reserves [`WANTED`] pages, unless there are as many; first gives back what a run that was killed has left.
    ///
    /// # Errors
    /// Not permitted, or memory is too fragmented: then nothing stays reserved.
    pub fn reserve() -> Result<Self> {
        let holder = Holder::of(std::process::id()).context("this process has no start time")?;
        Place { count: COUNT.into(), record: RECORD.into() }.reserve(holder)
    }
}

/// Whether there are [`WANTED`] pages, whoever reserved them.
pub fn are_reserved() -> bool {
    count(Path::new(COUNT)).is_ok_and(|count| count >= WANTED)
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let Some(holder) = self.holder else { return };
        if let Err(error) = self.place.give_back(holder) {
            eprintln!("zsync-bench: huge pages stay reserved: {error:#}");
        }
    }
}

impl Place {
    fn reserve(self, holder: Holder) -> Result<HugePages> {
        let mut file = self.lock()?;
        let mut known = read(&mut file)?;
        if let Some(record) = &mut known {
            record.holders.retain(Holder::lives);
            if record.holders.is_empty() {
                self.restore(record)?;
                known = None;
            }
        }
        let now = count(&self.count)?;
        let record = match known {
            Some(record) => Some(Record { set: record.set.max(WANTED), ..record }),
            None if now >= WANTED => None,
            None => Some(Record { before: now, set: WANTED, holders: vec![] }),
        };
        let Some(mut record) = record else {
            self.forget()?;
            return Ok(HugePages { holder: None, place: self });
        };
        // Before the count is changed, so that there is no moment at which a killed run leaves no record.
        record.holders.push(holder);
        write(&mut file, &record)?;
        if let Err(error) = self.raise(now) {
            self.leave(&mut file, record, holder)?;
            return Err(error);
        }
        Ok(HugePages { holder: Some(holder), place: self })
    }

    fn raise(&self, now: u32) -> Result<()> {
        if now < WANTED {
            fs::write(&self.count, WANTED.to_string()).context("reserving huge pages")?;
            let got = count(&self.count)?;
            ensure!(got >= WANTED, "the kernel found {got} huge pages of {WANTED}");
        }
        Ok(())
    }

    fn give_back(&self, holder: Holder) -> Result<()> {
        let mut file = self.lock()?;
        match read(&mut file)? {
            Some(record) => self.leave(&mut file, record, holder),
            None => Ok(()),
        }
    }

    fn leave(&self, file: &mut File, mut record: Record, holder: Holder) -> Result<()> {
        record.holders.retain(|other| *other != holder && other.lives());
        if !record.holders.is_empty() {
            return write(file, &record);
        }
        self.restore(&record)?;
        self.forget()
    }

    /// Sets the count to what it was. Fewer than were set is what the kernel found; more is somebody else's doing.
    fn restore(&self, record: &Record) -> Result<()> {
        let now = count(&self.count)?;
        if now > record.before && now <= record.set {
            fs::write(&self.count, record.before.to_string())
                .with_context(|| format!("setting {} back to {}", self.count.display(), record.before))?;
        }
        Ok(())
    }

    /// The record's file, locked: until it is closed nobody else has it.
    fn lock(&self) -> Result<File> {
        let path = &self.record;
        let open = || -> std::io::Result<File> {
            loop {
                let file =
                    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
                file.lock()?;
                // The one before may have removed it while this one waited for it.
                if fs::metadata(path)
                    .is_ok_and(|there| there.ino() == file.metadata().map_or(0, |own| own.ino()))
                {
                    return Ok(file);
                }
            }
        };
        open().with_context(|| format!("the record of huge pages, {}", path.display()))
    }

    /// Removes the record; its lock is held.
    fn forget(&self) -> Result<()> {
        fs::remove_file(&self.record).with_context(|| self.record.display().to_string())
    }
}

impl Holder {
    /// The process of this number, if there is one.
    fn of(process: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The 22nd field; the second is a name in parentheses, which may have any in it.
        let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { process, start })
    }

    fn lives(&self) -> bool {
        Self::of(self.process) == Some(*self)
    }
}

/// What the record says; `None` when it is empty, or cut short by a machine that went down.
fn read(file: &mut File) -> Result<Option<Record>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    let mut words = text.split_whitespace();
    let mut number = |name: &str| (words.next()? == name).then(|| words.next()?.parse().ok()).flatten();
    let (Some(before), Some(set)) = (number("before"), number("set")) else { return Ok(None) };
    let holder = |line: &str| {
        let (process, start) = line.strip_prefix("holder ")?.split_once(' ')?;
        Some(Holder { process: process.parse().ok()?, start: start.parse().ok()? })
    };
    Ok(Some(Record { before, set, holders: text.lines().filter_map(holder).collect() }))
}

fn write(file: &mut File, record: &Record) -> Result<()> {
    let holders = record.holders.iter().map(|holder| format!("holder {} {}\n", holder.process, holder.start));
    let text = format!("before {} set {}\n{}", record.before, record.set, holders.collect::<String>());
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes()).context("the record of huge pages")
}

fn count(path: &Path) -> Result<u32> {
    let text = fs::read_to_string(path).context("this kernel has no huge pages")?;
    text.trim().parse().with_context(|| format!("{}: {text:?}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use std::process::{Child, Command, Stdio};

    /// A count as the kernel's, and a record, in a folder.
    fn place(folder: &Folder, pages: u32) -> Place {
        let place = Place { count: folder.path().join("nr_hugepages"), record: folder.path().join("record") };
        fs::write(&place.count, format!("{pages}\n")).unwrap();
        place
    }

    fn pages(place: &Place) -> u32 {
        count(&place.count).unwrap()
    }

    /// Another process that lives until its input is closed.
    fn other() -> (Child, Holder) {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let holder = Holder::of(child.id()).unwrap();
        (child, holder)
    }

    fn own() -> Holder {
        Holder::of(std::process::id()).unwrap()
    }

    #[test]
    fn pages_are_there_as_long_as_the_value_and_no_record_stays() {
        let folder = Folder::make().unwrap();
        let place = place(&folder, 3);
        let held = place.clone().reserve(own()).unwrap();
        assert_eq!(pages(&place), WANTED);
        drop(held);
        assert_eq!((pages(&place), place.record.exists()), (3, false));
    }

    #[test]
    fn of_two_runs_the_last_gives_back_what_was_before_the_first() {
        let folder = Folder::make().unwrap();
        let place = place(&folder, 0);
        let (mut child, other) = other();
        let first = place.clone().reserve(own()).unwrap();
        let second = place.clone().reserve(other).unwrap();
        drop(first);
        assert_eq!(pages(&place), WANTED, "the second needs them");
        drop(second);
        assert_eq!((pages(&place), place.record.exists()), (0, false));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn what_a_killed_run_left_is_given_back_by_the_next() {
        let folder = Folder::make().unwrap();
        let place = place(&folder, 7);
        let (mut child, killed) = other();
        std::mem::forget(place.clone().reserve(killed).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(pages(&place), WANTED, "it had no time to give them back");
        drop(place.clone().reserve(own()).unwrap());
        assert_eq!((pages(&place), place.record.exists()), (7, false));
    }

    #[test]
    fn a_process_that_has_another_s_number_is_another() {
        let folder = Folder::make().unwrap();
        let place = place(&folder, 7);
        let before = Holder { start: own().start - 1, ..own() };
        std::mem::forget(place.clone().reserve(before).unwrap());
        drop(place.clone().reserve(own()).unwrap());
        assert_eq!(pages(&place), 7);
    }

    #[test]
    fn a_count_that_somebody_else_has_raised_is_left_and_enough_pages_are_nobody_s() {
        let folder = Folder::make().unwrap();
        let place = place(&folder, 7);
        let held = place.clone().reserve(own()).unwrap();
        fs::write(&place.count, "2048").unwrap();
        drop(held);
        assert_eq!((pages(&place), place.record.exists()), (2048, false));
        drop(place.clone().reserve(own()).unwrap());
        assert_eq!((pages(&place), place.record.exists()), (2048, false));
    }

    #[test]
    fn runs_that_come_and_go_at_once_leave_what_was_there() {
        let folder = Folder::make().unwrap();
        let place = place(&folder, 5);
        // Each as a holder of its own: this process's threads would otherwise be one.
        let others: Vec<_> = (0..4).map(|_| other()).collect();
        std::thread::scope(|scope| {
            for (_, holder) in &others {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let held = place.clone().reserve(*holder).unwrap();
                        assert!(pages(&place) >= WANTED);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!((pages(&place), place.record.exists()), (5, false));
        for (mut child, _) in others {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_record_that_was_cut_short_says_nothing() {
        let folder = Folder::make().unwrap();
        let place = place(&folder, 1);
        for text in ["", "before", "before 3 se", "garbage \n\n"] {
            fs::write(&place.record, text).unwrap();
            drop(place.clone().reserve(own()).unwrap());
            assert_eq!((pages(&place), place.record.exists()), (1, false), "{text:?}");
        }
    }
}
