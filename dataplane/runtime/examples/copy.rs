//! A file copier: `cargo run -p zsync-runtime --example copy uring FROM TO`.
//!
//! What it copied is on the disk when it ends. In a simulation it makes the file that it copies.

#[cfg(not(test))]
mod chosen;

use std::path::Path;
use zsync_runtime::{Driver, Error, File, Io, OpenOptions, both};

/// Bytes that are read at a time.
const PART: usize = 128 << 10;

/// Copies a file; how many bytes it has. The next part is read while one is written.
pub async fn copy<D: Driver>(io: &Io<D>, from: &Path, to: &Path) -> Result<u64, Error> {
    let source = File::open(io, from, OpenOptions { read: true, ..OpenOptions::default() })?;
    let options = OpenOptions { write: true, create: true, truncate: true, ..OpenOptions::default() };
    let target = File::open(io, to, options)?;
    let mut at = 0;
    let mut part = source.read(0, Vec::with_capacity(PART)).await?;
    let mut spare = Vec::with_capacity(PART);
    while !part.is_empty() {
        let next = at + part.len() as u64;
        let (written, read) = both(target.write(at, part), source.read(next, spare)).await;
        (spare, part, at) = (written?, read?, next);
    }
    target.sync(false).await?;
    Ok(at)
}

#[cfg(not(test))]
async fn run<D: Driver>(io: Io<D>) -> Result<(), Error> {
    let mut arguments = std::env::args().skip(2).map(std::path::PathBuf::from);
    let from = arguments.next().unwrap_or_else(|| "from".into());
    let to = arguments.next().unwrap_or_else(|| "to".into());
    if D::SIMULATED {
        let options = OpenOptions { write: true, create: true, ..OpenOptions::default() };
        File::open(&io, &from, options)?.write(0, vec![7; 1 << 20]).await?;
    }
    let bytes = copy(&io, &from, &to).await?;
    println!("{bytes} bytes copied");
    Ok(())
}

#[cfg(not(test))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    chosen::run_on_chosen!(run)?;
    Ok(())
}
