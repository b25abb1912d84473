//! `wg` at a running tunnel of zsync, wireguard-go at the other end.

use anyhow::{Context, Result, anyhow, ensure};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zsync_tests::control::{state_dir, wireguard_dir};
use zsync_tests::wireguard::{INNER, Pair, Peer, Program, config_of, peer_of, talk};
use zsync_tests::{Control, Lab, Shape, in_lab, ping, wait_for};
use zsync_wireguard::key::PublicKey;

/// What is behind the other end, as `wg` has it.
const BEHIND: &str = "10.8.0.0/24,fd08::/64";
/// Where the other end is.
const ENDPOINT: &str = "10.2.0.2:51821";

/// wireguard-go knows us by this key, and by no other. It does not know where we are.
fn knows(peer: &Peer<'_>, ours: &Pair, preshared: &Pair) -> Result<()> {
    for other in peer.show("peers")?.lines() {
        peer.set(&format!("peer {other} remove"))?;
    }
    peer.knows(&ours.public, None, &format!("preshared-key {}", preshared.path()?))
}

/// Our side, which knows nobody.
fn config(ours: &Pair) -> String {
    config_of(ours, "", &[])
}

fn reached(lab: &Lab, inner: &str) -> Result<bool> {
    Ok(ping(&lab.client, inner.parse()?, 3)?.received > 0)
}

/// `wg show site dump` without its times and counts: the tunnel, then a line a peer.
fn dump(control: &Control) -> Result<Vec<String>> {
    let lines = control.wg(&["show", "site", "dump"])?;
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            [public, preshared, endpoint, allowed, _, _, _, keepalive] => {
                [*public, preshared, endpoint, allowed, keepalive].join(" ")
            }
            fields => fields.join(" "),
        }
    };
    Ok(lines.lines().map(line).collect())
}

/// The numbers and names of all configurations, the newest first.
fn history(control: &Control) -> Result<Vec<(u64, String)>> {
    let rows = control.ctl(&["show", "history"])?;
    let row = |row: &serde_json::Value| Some((row["number"].as_u64()?, row["file"].as_str()?.to_owned()));
    rows.as_array().into_iter().flatten().map(|found| row(found).context("a row of the history")).collect()
}

/// Sends bytes to the tunnel's socket, and gives all that comes back.
fn raw(lab: &Lab, request: &str) -> Result<String> {
    let mut stream = UnixStream::connect(wireguard_dir(lab).join("site.sock"))?;
    stream.write_all(request.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Files below a folder that have this text in them.
fn files_with(folder: &Path, text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, text)?);
        } else if fs::read(&path)?.windows(text.len()).any(|part| part == text.as_bytes()) {
            found.push(path);
        }
    }
    Ok(found)
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

#[test]
fn wg_sees_a_tunnel_and_changes_it_while_sessions_go_on() {
    in_lab(Shape::router(), |lab| {
        let (ours, shared) =
            (Pair::generate(lab.folder(), "ours.key")?, Pair::generate(lab.folder(), "shared.key")?);
        let other = Pair::generate(lab.folder(), "other.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        knows(&peer, &ours, &shared)?;
        let control = Control::start(lab, &config(&ours))?;
        let tunnel = format!("{} {} 51820 off", ours.private()?, ours.public);
        ensure!(dump(&control)? == [tunnel.as_str()], "{:?}", dump(&control)?);
        ensure!(control.wg(&["show", "interfaces"])? == "site");
        ensure!(mode(&wireguard_dir(lab))? == 0o700 && mode(&wireguard_dir(lab).join("site.sock"))? == 0o600);

        // A peer that the configuration does not have, and traffic with it.
        let set =
            |key: &Pair, words: &[&str]| control.wg(&[&["set", "site", "peer", &key.public], words].concat());
        let whole = ["preshared-key", shared.path()?, "endpoint", ENDPOINT, "allowed-ips", BEHIND];
        set(&peer.keys, &whole)?;
        talk(lab)?;
        let first = format!("{} {} {ENDPOINT} {BEHIND} off", peer.keys.public, shared.private()?);
        ensure!(dump(&control)? == [tunnel.as_str(), &first], "{:?}", dump(&control)?);
        let (handshake, shown) = (peer.handshake()?, control.wg(&["show", "site", "latest-handshakes"])?);
        ensure!(handshake > 0 && !shown.ends_with("\t0"), "{handshake} {shown}");
        let transfer = control.wg(&["show", "site", "transfer"])?;
        ensure!(transfer.split('\t').skip(1).all(|bytes| bytes != "0"), "{transfer}");
        ensure!(control.wg(&["show", "all", "dump"])?.starts_with("site\t"));

        // The same once more is no change.
        let file = lab.folder().join("site.conf");
        let path = file.to_str().context("a path that is no text")?;
        let conf = control.wg(&["showconf", "site"])?;
        fs::write(&file, &conf)?;
        let before = history(&control)?;
        control.wg(&["syncconf", "site", path])?;
        control.wg(&["setconf", "site", path])?;
        ensure!(history(&control)? == before, "{:?}", history(&control)?);

        // One more peer: who was there goes on in its session.
        let more = format!("{conf}\n\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.9.0.0/24\n", other.public);
        fs::write(&file, &more)?;
        control.wg(&["syncconf", "site", path])?;
        let second = format!("{} (none) (none) 10.9.0.0/24 off", other.public);
        ensure!(dump(&control)? == [tunnel.as_str(), &first, &second], "{:?}", dump(&control)?);
        let after = history(&control)?;
        ensure!(
            after[0].0 == before[0].0 + 1 && after[0].1.ends_with("zsync.toml (changed by wg)"),
            "{after:?}"
        );
        talk(lab)?;

        // An allowed IP moves, and comes back.
        set(&other, &["allowed-ips", "10.9.0.0/24,10.8.0.0/24", "persistent-keepalive", "25"])?;
        ensure!(dump(&control)?[1].contains(" fd08::/64 off"), "{:?}", dump(&control)?);
        ensure!(!reached(lab, INNER[0])? && reached(lab, INNER[1])?);
        set(&peer.keys, &["allowed-ips", BEHIND])?;
        ensure!(dump(&control)?[2] == format!("{} (none) (none) 10.9.0.0/24 25", other.public));
        talk(lab)?;

        // The other end moves without a word, and is found where `wg` says.
        peer.set("listen-port 51831")?;
        set(&peer.keys, &["endpoint", "10.2.0.2:51831"])?;
        talk(lab)?;
        ensure!(control.wg(&["show", "site", "endpoints"])?.contains("10.2.0.2:51831"));
        // It goes back, and says so; then it moves without a word to where it is configured to be.
        peer.set("listen-port 51841")?;
        ensure!(ping(&lab.server, "10.1.0.2".parse()?, 3)?.received > 0, "it cannot speak");
        ensure!(control.wg(&["show", "site", "endpoints"])?.contains("10.2.0.2:51841"));
        peer.set("listen-port 51831")?;
        let before = history(&control)?;
        set(&peer.keys, &["endpoint", "10.2.0.2:51831"])?;
        ensure!(control.wg(&["show", "site", "endpoints"])?.contains("10.2.0.2:51831"), "it is where it was");
        ensure!(history(&control)? == before, "no configuration has changed");
        talk(lab)?;
        ensure!(peer.handshake()? == handshake, "there was another handshake");

        // Who is removed is gone at once, and the one who stays, stays.
        set(&peer.keys, &["remove"])?;
        ensure!(dump(&control)?.len() == 2 && !reached(lab, INNER[0])?);
        // As a new peer it needs a new handshake, which wireguard-go answers no sooner than it takes another one.
        set(&peer.keys, &[&whole[..3], &["10.2.0.2:51831"], &whole[4..]].concat())?;
        talk(lab)?;

        // The tunnel gets another key and another port.
        let turned = Pair::generate(lab.folder(), "turned.key")?;
        control.wg(&["set", "site", "private-key", turned.path()?, "listen-port", "51822"])?;
        knows(&peer, &turned, &shared)?;
        talk(lab)?;
        ensure!(dump(&control)?[0] == format!("{} {} 51822 off", turned.private()?, turned.public));

        // `addconf` adds, `setconf` leaves nothing else.
        fs::write(&file, format!("[Peer]\nPublicKey = {}\nAllowedIPs = 10.9.1.0/24\n", other.public))?;
        control.wg(&["addconf", "site", path])?;
        ensure!(dump(&control)?.len() == 3);
        fs::write(
            &file,
            format!("[Interface]\nPrivateKey = {}\n[Peer]\nPublicKey = {}\n", ours.private()?, other.public),
        )?;
        control.wg(&["setconf", "site", path])?;
        let expected = [
            format!("{} {} 51822 off", ours.private()?, ours.public),
            format!("{} (none) (none) (none) off", other.public),
        ];
        ensure!(dump(&control)? == expected, "{:?}", dump(&control)?);

        // Secrets are where nobody else reads them, and not in the log.
        for secret in [turned.private()?, shared.private()?] {
            let files = files_with(&state_dir(lab), &secret)?;
            ensure!(!files.is_empty(), "it is not kept");
            for file in files {
                let folder = file.parent().context("a file is in a folder")?;
                ensure!(mode(&file)? == 0o600 && mode(folder)? == 0o700, "{}", file.display());
            }
            ensure!(!control.log().contains(secret.as_str()));
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn what_wg_changed_survives_every_kill_and_goes_with_the_next_apply() {
    in_lab(Shape::router(), |lab| {
        let (ours, shared) =
            (Pair::generate(lab.folder(), "ours.key")?, Pair::generate(lab.folder(), "shared.key")?);
        let turned = Pair::generate(lab.folder(), "turned.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        knows(&peer, &turned, &shared)?;
        let text = config(&ours);
        let mut control = Control::start(lab, &text)?;
        control.wg(&[
            "set",
            "site",
            "private-key",
            turned.path()?,
            "peer",
            &peer.keys.public,
            "preshared-key",
            shared.path()?,
            "endpoint",
            ENDPOINT,
            "allowed-ips",
            BEHIND,
        ])?;
        talk(lab)?;
        let (handshake, shown) = (peer.handshake()?, dump(&control)?);

        let old = control.kill9_dataplane()?;
        control.wait_successor(old)?;
        talk(lab)?;
        // Control's socket stays behind, and its successor takes the path.
        control.kill9()?;
        ensure!(wireguard_dir(lab).join("site.sock").exists());
        talk(lab)?;
        control.revive_from_history()?;
        control.wait_ready()?;
        ensure!(dump(&control)? == shown, "{:?}", dump(&control)?);
        talk(lab)?;
        // So does what `wg` changes then; and a file of keys that goes missing keeps nobody from changing what it does not hold.
        fs::rename(&ours.file, lab.folder().join("away"))?;
        control.wg(&["set", "site", "peer", &ours.public, "allowed-ips", "10.9.0.0/24"])?;
        let old = control.kill9_dataplane()?;
        control.wait_successor(old)?;
        ensure!(dump(&control)?.len() == shown.len() + 1);
        talk(lab)?;
        ensure!(peer.handshake()? == handshake, "there was another handshake");

        // The whole once more from nothing: what `wg` said is the configuration.
        control.stop()?;
        ensure!(!wireguard_dir(lab).join("site.sock").exists(), "an orderly end leaves nothing behind");
        control.revive_from_history()?;
        control.wait_ready()?;
        ensure!(dump(&control)?.len() == shown.len() + 1 && dump(&control)?[..2] == shown);
        talk(lab)?;

        // The file knows nothing of it.
        fs::rename(lab.folder().join("away"), &ours.file)?;
        control.apply(&text, &[])?;
        ensure!(dump(&control)? == [format!("{} {} 51820 off", ours.private()?, ours.public)]);
        ensure!(!reached(lab, INNER[0])?);
        control.ctl(&["rollback"])?;
        ensure!(dump(&control)?.len() == shown.len() + 1);
        talk(lab)?;
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn bad_requests_change_nothing_and_sockets_follow_the_tunnels() {
    in_lab(Shape::router(), |lab| {
        let ours = Pair::generate(lab.folder(), "ours.key")?;
        let text = config(&ours);
        // Somebody else has the path.
        fs::create_dir_all(wireguard_dir(lab))?;
        let socket = wireguard_dir(lab).join("site.sock");
        let other = std::os::unix::net::UnixListener::bind(&socket)?;
        let mut control = Control::start(lab, &text)?;
        ensure!(control.log().contains("another process listens on it"), "{}", control.log());
        drop(other);
        wait_for("the socket", Duration::from_secs(5), || raw(lab, "get=1\n\n").ok())?;

        let before = (dump(&control)?, history(&control)?);
        for (request, errno) in [
            ("get=1\nlisten_port=1\n\n", -22),
            ("help\n\n", -71),
            ("set=1\nlisten_port=70000\n\n", -22),
            ("set=1\nlisten_port=51899\nfwmark=1\n\n", -95),
            ("set=1\nlisten_port=51899\npublic_key=00\n\n", -22),
            ("set=1\nlisten_port=51899\nmtu=1400\n\n", -22),
            ("set=1\nlisten_port\n\n", -71),
            (&format!("set=1\nlisten_port=51899\nx={}\n\n", "a".repeat(300)), -90),
        ] {
            let answer = raw(lab, request)?;
            ensure!(answer == format!("errno={errno}\n\n"), "{request}: {answer}");
        }
        ensure!(raw(lab, "set=1\nlisten_port=51899\n")?.is_empty(), "half a request");
        let refused = control.wg(&["set", "site", "fwmark", "7"]).unwrap_err().to_string();
        ensure!(refused.contains("Operation not supported"), "{refused}");
        control.wg(&["set", "site", "fwmark", "0", "peer", &ours.public, "allowed-ips", "::/0"])?;
        ensure!((dump(&control)?, history(&control)?) == before, "our own key is passed over");
        ensure!(control.log().contains("`fwmark` means nothing here"), "{}", control.log());
        let shown = control.ctl(&["show", "wireguard"])?;
        let counts = serde_json::json!({
            "invalid": 4, "not-supported": 2, "protocol": 2, "too-long": 1, "unfinished": 1
        });
        ensure!(shown["ends"][0]["refused"] == counts, "{shown}");

        // A change that waits to be confirmed is not confirmed by the way.
        control.apply(
            &text.replace("[wireguard.site]", "[wireguard.site]\nmtu = 1400"),
            &["--confirm", "60s"],
        )?;
        let refused = control.wg(&["set", "site", "listen-port", "51899"]).unwrap_err().to_string();
        ensure!(refused.contains("busy"), "{refused}");
        control.ctl(&["confirm"])?;

        // Two tunnels cannot have one port; each has its socket, as long as it is there.
        let two = text
            .replace("\"route.main\"]", "\"wireguard-open.two\", \"wireguard-seal.two\", \"route.main\"]")
            + &format!(
                "[wireguard.two]\nlisten-port = 51899\nmax-peers = 1\nprivate-key-file = \"{}\"\n",
                ours.path()?
            );
        control.apply(&two, &[])?;
        let mut interfaces: Vec<String> =
            control.wg(&["show", "interfaces"])?.split_whitespace().map(str::to_owned).collect();
        interfaces.sort();
        ensure!(interfaces == ["site", "two"], "{interfaces:?}");
        let refused = control.wg(&["set", "site", "listen-port", "51899"]).unwrap_err().to_string();
        ensure!(refused.contains("Address already in use"), "{refused}");
        let keys = [Pair::generate(lab.folder(), "a.key")?, Pair::generate(lab.folder(), "b.key")?];
        let peers = ["set", "two", "peer", &keys[0].public, "peer", &keys[1].public];
        let refused = control.wg(&peers).unwrap_err().to_string();
        ensure!(refused.contains("No space left"), "{refused}");
        control.wg(&peers[..4])?;
        control.apply(&text, &[])?;
        wait_for("the socket to go", Duration::from_secs(5), || {
            (!wireguard_dir(lab).join("two.sock").exists()).then_some(())
        })?;
        control.stop()?;
        ensure!(fs::read_dir(wireguard_dir(lab))?.next().is_none(), "a socket was left behind");
        Ok(())
    });
}

#[test]
fn a_tunnel_that_gets_more_peers_than_it_had_room_for_keeps_its_sessions() {
    in_lab(Shape::router(), |lab| {
        let ours = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        peer.knows(&ours.public, None, "")?;
        let own = peer_of(&peer.keys.public, Some(ENDPOINT), zsync_tests::wireguard::BEHIND, "");
        let text = config_of(&ours, "", &[own])
            .replace("[pipeline.forward]", "[engine]\nworkers = 2\n\n[pipeline.forward]");
        ensure!(text.contains("workers = 2"), "{text}");
        let mut control = Control::start(lab, &text)?;
        talk(lab)?;
        let handshake = peer.handshake()?;
        let limit = |control: &Control<'_>| -> Result<u64> {
            let shown = control.ctl(&["show", "wireguard"])?;
            shown["ends"][0]["limit"].as_u64().with_context(|| format!("{shown}"))
        };
        ensure!(limit(&control)? == 64, "{}", limit(&control)?);
        // While packets go to and fro.
        let flow = std::thread::scope(|scope| {
            let flow = scope.spawn(|| ping(&lab.client, INNER[0].parse()?, 100));
            for count in [70u16, 300] {
                let key = |n: u16| {
                    let mut bytes = [7; 32];
                    bytes[..2].copy_from_slice(&n.to_le_bytes());
                    PublicKey(bytes)
                };
                let others = (1..=count).map(|n| format!("[Peer]\nPublicKey = {}\n", key(n)));
                let file = lab.folder().join("more.conf");
                fs::write(&file, others.collect::<String>())?;
                control.wg(&["addconf", "site", file.to_str().context("a path that is no text")?])?;
            }
            flow.join().map_err(|_| anyhow!("ping has panicked"))?
        })?;
        ensure!(limit(&control)? == 1024, "{}", limit(&control)?);
        ensure!(flow.all(), "{flow:?}");
        talk(lab)?;
        let old = control.kill9_dataplane()?;
        control.wait_successor(old)?;
        talk(lab)?;
        // Ports that are opened anew, and a tunnel that gets more memory with them.
        let smaller = text.replace("netdev = \"eth1\"\n", "netdev = \"eth1\"\nring-size = 1024\n");
        control.apply(&smaller.replace("[wireguard.site]", "[wireguard.site]\nmax-peers = 1000"), &[])?;
        ensure!(limit(&control)? == 1000, "{}", limit(&control)?);
        talk(lab)?;
        ensure!(peer.handshake()? == handshake, "there was another handshake");
        control.balanced()?;
        Ok(())
    });
}
