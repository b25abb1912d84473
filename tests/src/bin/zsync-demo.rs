//! `zsync-demo`: zsync at work, on this machine, in half a minute. See [`zsync_tests::demo`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    zsync_tests::demo::main()
}
