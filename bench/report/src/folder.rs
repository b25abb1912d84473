//! All outcomes that lie in a folder.

use crate::outcome::Outcome;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a folder could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system refused.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// A file holds something else.
    #[error("{path}: not a line of `zsync-bench run --json`: {error}", path = path.display())]
    NotAnOutcome {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with line and column.
        error: serde_json::Error,
    },
}

/// The outcomes of all `*.json` and `*.jsonl` files in `folder`, by file name and then in their order there. Other files and
/// the folders in it are left alone.
///
/// # Errors
/// A file cannot be read, or is not made of outcomes. Nothing is left out silently.
pub fn read(folder: &Path) -> Result<Vec<Outcome>, FolderError> {
    let failed = |error| FolderError::Io { path: folder.to_owned(), error };
    let entries = fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let is_json = |path: &PathBuf| path.extension().is_some_and(|end| end == "json" || end == "jsonl");
    let mut paths: Vec<PathBuf> =
        entries.iter().map(fs::DirEntry::path).filter(|path| is_json(path) && path.is_file()).collect();
    paths.sort();
    let mut outcomes = vec![];
    for path in paths {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return Err(FolderError::Io { path, error }),
        };
        for outcome in serde_json::Deserializer::from_str(&text).into_iter() {
            match outcome {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => return Err(FolderError::NotAnOutcome { path, error }),
            }
        }
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Direction, Series};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("zsync-report-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn outcome(name: &str) -> Outcome {
        Outcome::new(name, "ns", Direction::Less, Series::new("zsync", [1.0]))
    }

    #[test]
    fn files_are_read_by_name_and_hold_any_number_of_outcomes() {
        let scratch = Scratch::new("folder");
        let put = |name: &str, text: &str| fs::write(scratch.0.join(name), text).unwrap();
        put("b.jsonl", &format!("{}\n\n{}\n", outcome("2").to_json(), outcome("3").to_json()));
        put("a.json", &outcome("1").to_json().replace(',', ",\n "));
        put("empty.json", "");
        put("readme.txt", "not JSON");
        fs::create_dir(scratch.0.join("folder.json")).unwrap();
        let names: Vec<String> = read(&scratch.0).unwrap().into_iter().map(|outcome| outcome.name).collect();
        assert_eq!(names, ["1", "2", "3"]);
    }

    #[test]
    fn a_file_that_holds_something_else_is_named_with_the_place() {
        let scratch = Scratch::new("broken");
        fs::write(scratch.0.join("x.jsonl"), format!("{}\n{{\"name\":3}}\n", outcome("1").to_json()))
            .unwrap();
        let error = read(&scratch.0).unwrap_err().to_string();
        assert!(error.contains("x.jsonl: not a line of") && error.contains("line 2"), "{error}");
        let error = read(&scratch.0.join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere: No such file"), "{error}");
    }
}
