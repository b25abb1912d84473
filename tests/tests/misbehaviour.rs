//! A data plane that sends control what it must not is ended, and one that behaves takes its place.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use zsync_tests::binary::binary;
use zsync_tests::{Control, Lab, Shape, config, in_lab, ping, wait_for};

/// A program that does `deed` on its channel (its standard input) the first time it is started, and is the real data plane
/// from then on.
fn impostor(lab: &Lab, deed: &str) -> Result<PathBuf> {
    let path = lab.folder().join("impostor");
    let marker = lab.folder().join("impostor.ran");
    let real = binary("zsync-dataplane")?;
    let text = format!(
        "#!/bin/sh\nif [ -e {marker} ]; then exec {real}; fi\n: > {marker}\n{deed}\nexec /bin/sleep 60\n",
        marker = marker.display(),
        real = real.display(),
    );
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn is_replaced(lab: &Lab, deed: &str, says: &str) -> Result<()> {
    let path = impostor(lab, deed)?;
    let mut control =
        Control::start_with(lab, &config::router(""), &["--dataplane", &path.display().to_string()])?;
    wait_for("a data plane that behaves", Duration::from_secs(10), || {
        (control.status().ok()?["dataplane"]["state"] == "running").then_some(())
    })?;
    let log = control.log();
    ensure!(log.contains("sent what it must not, and is ended") && log.contains(says), "{log}");
    ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
    control.balanced()?;
    control.stop()?;
    Ok(())
}

#[test]
fn an_unknown_message_ends_it() {
    in_lab(Shape::router(), |lab| is_replaced(lab, "printf '\\377\\377rubbish' >&0", "message"));
}

#[test]
fn an_oversized_message_ends_it() {
    in_lab(Shape::router(), |lab| {
        is_replaced(lab, "/bin/dd if=/dev/zero bs=60000 count=1 >&0 2>/dev/null", "longer")
    });
}

#[test]
fn hanging_up_ends_it() {
    in_lab(Shape::router(), |lab| is_replaced(lab, "exec 0<&-", "closed the channel"));
}
