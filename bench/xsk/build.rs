//! Builds the XDP program of the far end and tells the crate where it is.

use std::process::ExitCode;

fn main() -> ExitCode {
    zsync_ebpf_build::script(|out_dir, ebpf_dir| {
        Ok(vec![("ZSYNC_SINK", zsync_ebpf_build::build_sink(out_dir, ebpf_dir)?)])
    })
}
