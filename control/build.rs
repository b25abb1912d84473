//! Builds the XDP programs and tells the crate where they are.

use std::process::ExitCode;

fn main() -> ExitCode {
    zsync_ebpf_build::script(|out_dir, ebpf_dir| {
        let objects = zsync_ebpf_build::build(out_dir, ebpf_dir)?;
        Ok(vec![
            ("ZSYNC_INGRESS", objects.ingress),
            ("ZSYNC_CHAINED", objects.chained),
            ("ZSYNC_TAPPED", objects.tapped),
            ("ZSYNC_GENERATOR", objects.generator),
            ("ZSYNC_REDIRECT", objects.redirect),
        ])
    })
}
