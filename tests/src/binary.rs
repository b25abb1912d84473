//! Where the programs under test are.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The program of that name: in the folder that `ZSYNC_BIN_DIR` names, or beside the tests (and the demo), in the same profile.
///
/// # Errors
/// How to build it, when it is not there.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match env::var_os("ZSYNC_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            // target/PROFILE/deps/TEST, or target/PROFILE/zsync-demo
            let own = env::current_exe()?;
            let folder = own.parent().context("a program lies in a folder")?;
            folder.parent().filter(|_| folder.ends_with("deps")).unwrap_or(folder).to_owned()
        }
    };
    let path = folder.join(name);
    ensure!(
        path.is_file(),
        "there is no {}: build the programs in the profile of the tests (`cargo build --workspace --bins --profile checked`, \
         or without --profile), or say where they are by ZSYNC_BIN_DIR",
        path.display()
    );
    Ok(path)
}
