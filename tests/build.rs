//! Builds the examples of XDP programs that run ahead of zsync, and tells the tests where they are.

use std::process::ExitCode;

fn main() -> ExitCode {
    zsync_ebpf_build::script(|out_dir, ebpf_dir| {
        let examples = zsync_ebpf_build::build_examples(out_dir, ebpf_dir)?;
        Ok(vec![("ZSYNC_AMPLIFIED", examples.amplified), ("ZSYNC_LIMIT", examples.limit)])
    })
}
