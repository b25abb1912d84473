//! `zsyncctl`: asks zsync-control, and checks configurations without it.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    zsync_control::ctl::main()
}
