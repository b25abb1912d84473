//! What cannot be is refused with a name, a limit and a remedy, and leaves everything as it was; what is put in force under
//! traffic loses nothing.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use zsync_tests::config::{self, ROUTER};
use zsync_tests::control::{bpffs, dataplanes, pins};
use zsync_tests::lab::skip;
use zsync_tests::netns::execute;
use zsync_tests::{Control, Flow, Lab, Shape, in_lab, ping, wait_for};

/// The router's devices as the kernel describes them: flags, MTU, programs.
fn devices(lab: &Lab) -> Result<String> {
    lab.router.ip("-o -d link show")
}

/// Control is to refuse `config`, say all of `wanted`, and change nothing.
fn refuses(lab: &Lab, config: &str, wrapper: &[&str], wanted: &[&str]) -> Result<()> {
    let before = devices(lab)?;
    let refusal = Control::refused(lab, config, wrapper)?;
    let said = &refusal.said;
    ensure!(refusal.status.code() == Some(1), "it ended with {}: {said}", refusal.status);
    for words in wanted {
        ensure!(said.contains(words), "{words:?} is missing from: {said}");
    }
    ensure!(!said.contains("panicked"), "{said}");
    ensure!(devices(lab)? == before, "devices were changed:\n{before}\n{}", devices(lab)?);
    ensure!(dataplanes(lab).is_empty(), "a data plane runs");
    ensure!(pins(lab).is_empty(), "{:?} were left", pins(lab));
    Ok(())
}

#[test]
fn every_mistake_of_a_file_is_shown() {
    in_lab(Shape::router(), |lab| {
        let wrong = "[port.wan]\nnetdev = \"eth1\"\ngrase = \"250ms\"\nfailover = \"opn\"\n\n\
                     [pipeline.forward]\ninput = [\"wan\", \"lam\"]\nstages = [\"rout.main\"]\n";
        let wanted = [
            "zsync.toml:3:",
            "grace",
            "zsync.toml:4:",
            "\"open\"",
            "zsync.toml:7:",
            "lam",
            "zsync.toml:8:",
            "route",
        ];
        refuses(lab, wrong, &[], &wanted)
    });
}

#[test]
fn ports_that_cannot_be_are_named_with_the_remedy() {
    in_lab(Shape::router(), |lab| {
        let missing = config::router("").replace("eth2", "eht2");
        refuses(lab, &missing, &[], &["port lan", "`eht2` does not exist", "eth2"])?;

        // All of them at once.
        lab.router.ip("link set eth1 mtu 9000")?;
        refuses(
            lab,
            &missing,
            &[],
            &["port lan", "`eht2`", "port wan", "MTU of 9000", "ip link set eth1 mtu"],
        )?;
        lab.router.ip("link set eth1 mtu 1500")?;

        match lab.router.ip("link add bond7 type bond") {
            Ok(_) => {
                let bond = config::router("").replace("eth2", "bond7");
                refuses(lab, &bond, &[], &["port lan", "`bond7` is a bond"])?;
            }
            // Not every kernel has them; the check itself is tested beside its code.
            Err(error) => println!("no bond in this kernel: {error:#}"),
        }
        let loopback = config::router("").replace("eth2", "lo");
        refuses(lab, &loopback, &[], &["port lan", "`lo`", "Ethernet"])
    });
}

#[test]
fn another_program_stays_unless_replacing_is_asked_for() {
    in_lab(Shape::router(), |lab| {
        // Another zsync holds the device: of another folder, so its pins are not this one's own.
        let _first = Control::start(lab, ROUTER)?;
        let program = lab.router.ip("-o -d link show dev eth1")?;
        ensure!(program.contains("xdp"), "{program}");
        let refusal = second_control(lab)?;
        ensure!(refusal.contains("`eth1`") && refusal.contains("XDP program"), "{refusal}");
        ensure!(refusal.contains("replace"), "no remedy: {refusal}");
        ensure!(lab.router.ip("-o -d link show dev eth1")? == program, "the program was changed");
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "the first is disturbed");
        Ok(())
    });
}

/// A control process beside the first, with folders of its own; what it says as it ends.
fn second_control(lab: &Lab) -> Result<String> {
    let folder = |name: &str| lab.folder().join("second").join(name);
    std::fs::create_dir_all(folder(""))?;
    std::fs::write(folder("zsync.toml"), ROUTER)?;
    let mut command = Command::new(zsync_tests::binary::binary("zsync-control")?);
    command.arg("--config").arg(folder("zsync.toml")).arg("--run-dir").arg(folder("run"));
    // Below the first one's mount, which the lab takes down.
    command.arg("--state-dir").arg(folder("state")).arg("--bpffs").arg(bpffs(lab).join("second"));
    let error = lab.router.output(&mut command).err().map(|error| format!("{error:#}"));
    error.ok_or_else(|| anyhow::anyhow!("a second control process took the devices"))
}

#[test]
fn a_missing_capability_is_named_with_its_purpose() {
    in_lab(Shape::router(), |lab| {
        if execute(Command::new("setpriv").arg("--version")).is_err() {
            skip("setpriv (package util-linux) is not installed");
            return Ok(());
        }
        for (lacking, wanted) in [
            ("-bpf", "CAP_BPF (to load eBPF"),
            ("-net_admin", "CAP_NET_ADMIN (to attach"),
            ("-net_raw", "CAP_NET_RAW (to open AF_XDP"),
            ("-ipc_lock", "CAP_IPC_LOCK (to pin packet memory"),
        ] {
            let wrapper = ["setpriv", "--bounding-set", lacking, "--inh-caps", lacking];
            refuses(lab, ROUTER, &wrapper, &[wanted])?;
        }
        let wrapper = ["setpriv", "--bounding-set=-bpf,-net_raw", "--inh-caps=-bpf,-net_raw"];
        refuses(lab, ROUTER, &wrapper, &["CAP_BPF", "CAP_NET_RAW"])
    });
}

#[test]
fn a_veth_whose_peer_drops_is_warned_of() {
    in_lab(Shape::router(), |lab| {
        lab.server.output(Command::new("ethtool").args(["-K", "eth0", "gro", "off"]))?;
        let control = Control::start(lab, ROUTER)?;
        let ports = control.ctl(&["show", "ports"])?;
        let warnings = |name: &str| {
            let port = ports.as_array().and_then(|ports| ports.iter().find(|port| port["name"] == name));
            port.map_or(String::new(), |port| port["warnings"].to_string())
        };
        ensure!(warnings("lan").contains("eth0") && warnings("lan").contains("gro on"), "{ports}");
        ensure!(!warnings("wan").contains("gro"), "{ports}");
        ensure!(control.log().contains("gro on"), "the log does not say so");
        Ok(())
    });
}

#[test]
fn an_invalid_change_changes_nothing() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, ROUTER)?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let (before, status) = (devices(lab)?, control.status()?);
        let flow = Flow::to_server(lab, 5000, 7000)?;
        for (wrong, wanted) in [
            (ROUTER.replace("grace ", "grase "), "grace"),
            (ROUTER.replace("eth2", "eth9"), "eth9"),
            (ROUTER.replace("table = 254", "table = 0"), "table"),
            (ROUTER.replace("[engine]", "[engine]\nuser = \"root\""), "root"),
            (ROUTER.replace("[engine]", "[engine]\nframes = 1024"), "frames"),
        ] {
            std::thread::sleep(Duration::from_millis(100));
            let refusal =
                control.apply(&wrong, &[]).err().map(|error| format!("{error:#}")).unwrap_or_default();
            ensure!(refusal.contains(wanted), "{wanted}: {refusal:?}");
        }
        std::thread::sleep(Duration::from_millis(100));
        let report = flow.finish()?;
        ensure!(report.lost() == 0, "a change that was refused cost packets: {report}");
        ensure!(
            devices(lab)? == before,
            "a change that was refused changed devices: {before}\n{}",
            devices(lab)?
        );
        ensure!(control.status()?["config"]["hash"] == status["config"]["hash"], "{status}");
        ensure!(control.status()?["dataplane"]["pid"] == status["dataplane"]["pid"], "{status}");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn changes_under_traffic_lose_nothing() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &config::router(""))?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let number = |status: &Value| status["config"]["number"].as_u64();
        let hash =
            |control: &Control<'_>| Ok::<_, anyhow::Error>(control.status()?["config"]["hash"].clone());
        let first = hash(&control)?;
        let flow = Flow::to_server(lab, 20_000, 7000)?;
        let pause = || std::thread::sleep(Duration::from_millis(100));
        for round in 0..5 {
            let blocked = config::router(&format!("block = [\"192.0.2.{round}/32\", \"2001:db8::/32\"]"));
            let applied = control.apply(&blocked, &[])?;
            ensure!(applied["respawned"] == false, "{applied}");
            pause();
            let steered =
                config::router("steer = { prefixes = [\"10.0.0.0/8\", \"fd00::/8\"] }\ngrace = \"1s\"");
            control.apply(&steered, &[])?;
            pause();
            control.ctl(&["rollback"])?;
            pause();
            control.apply(&config::router(""), &[])?;
            pause();
        }
        ensure!(hash(&control)? == first, "{} {first}", control.status()?);

        // Taken back unless it is confirmed.
        control.apply(&config::router("grace = \"2s\""), &["--confirm", "1s"])?;
        let waiting = control.status()?;
        ensure!(waiting["pending-confirm-ms"].is_u64() && waiting["config"]["hash"] != first, "{waiting}");
        wait_for("the change to be taken back", Duration::from_secs(3), || {
            (hash(&control).ok()? == first).then_some(())
        })?;
        // And kept when it is.
        control.apply(&config::router("grace = \"3s\""), &["--confirm", "1s"])?;
        control.ctl(&["confirm"])?;
        let kept = control.status()?;
        std::thread::sleep(Duration::from_millis(1500));
        ensure!(number(&control.status()?) == number(&kept), "{kept} {}", control.status()?);

        let report = flow.finish()?;
        println!("{report}");
        ensure!((report.lost(), report.duplicated(), report.reordered()) == (0, 0, 0), "{report}");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn a_change_of_the_engine_is_a_blip() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &config::router(""))?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let flow = Flow::to_server(lab, 5000, 7000)?;
        for engine in ["[engine]\nidle = \"block\"\n", "[engine]\nidle = \"spin\"\n", ""] {
            std::thread::sleep(Duration::from_millis(200));
            let applied = control.apply(&format!("{engine}{}", config::router("")), &[])?;
            println!("{engine:?}: {applied}");
        }
        std::thread::sleep(Duration::from_millis(200));
        let report = flow.finish()?;
        println!("{report}");
        ensure!(report.longest_gap() < Duration::from_millis(500), "{report}");
        ensure!(report.duplicated() == 0, "{report}");
        control.balanced()?;
        Ok(())
    });
}
