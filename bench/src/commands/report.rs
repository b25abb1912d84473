//! `report`: a table or a page of what `--json` printed.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use zsync_report::outcome::Outcome;

/// Prints a table of the folder's outcomes, or writes a page of them.
pub fn show(folder: &Path, page: Option<&Path>) -> Result<()> {
    let outcomes = zsync_report::folder::read(folder)?;
    ensure!(!outcomes.is_empty(), "{} has no file *.json or *.jsonl", folder.display());
    match page {
        Some(path) => write_page(path, &outcomes),
        None => {
            print!("{}", zsync_report::table::table(&outcomes));
            Ok(())
        }
    }
}

/// Writes a page of these outcomes.
pub fn write_page(path: &Path, outcomes: &[Outcome]) -> Result<()> {
    let page = zsync_report::page::html("zsync beside its peers", outcomes);
    std::fs::write(path, page).with_context(|| path.display().to_string())
}
