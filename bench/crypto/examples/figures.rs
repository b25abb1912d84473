//! The figures without zsync-bench, which takes longer to build: `figures crypto 20 5` or `figures ed25519 20 5`, seconds and rounds.

use anyhow::{Context, Result};
use std::time::Duration;
use zsync_bench_crypto::{Settings, aead, signatures};
use zsync_report::watch::Unwatched;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().context("crypto or ed25519?")?;
    let seconds = arguments.next().unwrap_or("20".to_owned()).parse()?;
    let rounds = arguments.next().unwrap_or("5".to_owned()).parse()?;
    let folder = std::env::temp_dir().join(format!("zsync-bench-crypto-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let settings = Settings { rounds, time: Duration::try_from_secs_f64(seconds)?, folder: &folder };
    let run = if what == "crypto" { aead::run } else { signatures::run };
    let figures = run(&settings, &Unwatched);
    std::fs::remove_dir_all(&folder)?;
    print!("{}", figures?);
    Ok(())
}
