//! `peers`: what zsync is compared with.

use anyhow::Result;
use zsync_bench::peers;

/// Lists them, after installing those that are missing if that is asked.
pub fn show(install: bool) -> Result<()> {
    if install {
        match peers::install()?.join(" ") {
            none if none.is_empty() => println!("every peer is there"),
            packages => println!("installed {packages}"),
        }
    }
    print!("{}", peers::list());
    Ok(())
}
