//! A temporary folder: for what a program reads that is started here, and for what it writes.
//!
//! Keeps true: its name is as long in every run. It is among the arguments of a program whose instructions are counted, so it
//! lies on that program's stack, and the counts would move with its length.

use crate::enclosure;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Those that there are.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder that goes, with all that is in it, when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make() -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        // The enclosure's own `/run` goes with it, however it ends.
        let parent = if enclosure::is_inside() { PathBuf::from("/run") } else { std::env::temp_dir() };
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // As many digits as either can have.
        let path = parent.join(format!("zsync-bench-{:010}-{number:010}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        Ok(Self(path))
    }

    /// Writes a file of these lines; its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, lines: impl Iterator<Item = String>) -> Result<String> {
        let path = self.0.join(name);
        let text = lines.fold(String::new(), |text, line| text + &line + "\n");
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| *path != self.0);
    }
}

/// Removes every folder: of a process that ends without dropping them.
pub fn remove_all() {
    let folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    folders.iter().for_each(|path| drop(fs::remove_dir_all(path)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_files() {
        let folder = Folder::make().unwrap();
        let path = folder.write("list", ["a", "b"].map(str::to_owned).into_iter()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\n");
        let place = folder.path().to_owned();
        drop(folder);
        assert!(!place.exists());
    }

    #[test]
    fn folders_have_names_of_their_own_all_of_one_length() {
        let made: Vec<_> = (0..12).map(|_| Folder::make().unwrap()).collect();
        let mut names: Vec<_> = made.iter().map(|folder| folder.path().as_os_str().len()).collect();
        names.dedup();
        assert_eq!(names.len(), 1);
    }
}
