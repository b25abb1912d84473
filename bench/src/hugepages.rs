//! Huge pages for a peer that wants them, lent for as long as a value lives: the outer process's, which outlives the
//! [enclosure](crate::enclosure).

use anyhow::{Context, Result, ensure};
use std::fs;

const COUNT: &str = "/proc/sys/vm/nr_hugepages";
/// Of 2 MiB: what testpmd takes for its default number of mbufs, and some.
pub const WANTED: u32 = 512;

/// Huge pages that were reserved here. Dropping it gives them back.
#[derive(Debug)]
pub struct HugePages {
    before: u32,
}

impl HugePages {
    /// Reserves [`WANTED`] pages, unless there are as many.
    ///
    /// # Errors
    /// Not permitted, or memory is too fragmented.
    pub fn reserve() -> Result<Self> {
        let before = count()?;
        let pages = Self { before };
        if before < WANTED {
            fs::write(COUNT, WANTED.to_string()).context("reserving huge pages")?;
            let got = count()?;
            ensure!(got >= WANTED, "the kernel found {got} huge pages of {WANTED}");
        }
        Ok(pages)
    }
}

/// Whether there are [`WANTED`] pages, whoever reserved them.
pub fn are_reserved() -> bool {
    count().is_ok_and(|count| count >= WANTED)
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Err(error) = fs::write(COUNT, self.before.to_string()) {
            eprintln!("{COUNT} could not be set back to {}: {error}", self.before);
        }
    }
}

fn count() -> Result<u32> {
    let text = fs::read_to_string(COUNT).context("this kernel has no huge pages")?;
    text.trim().parse().with_context(|| format!("{COUNT}: {text:?}"))
}
