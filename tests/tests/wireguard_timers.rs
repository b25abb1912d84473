//! What an end says without being asked: keepalives, tries of a handshake whose answer was lost, cookies under load.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use zsync_tests::wireguard::caller::Caller;
use zsync_tests::wireguard::watch::{Kind, Seen, Watch};
use zsync_tests::wireguard::{BEHIND, INNER, Pair, Peer, Program, config, config_of, peer_of, talk};
use zsync_tests::{Control, Namespace, Shape, in_lab, ping};
use zsync_wireguard::cookie::Pass;

/// What a message's time may be late by: timers are looked at five times a second, and the machine does other things.
const LATE: Duration = Duration::from_millis(700);

/// Messages to this port, of this kind.
fn to(seen: &[Seen], port: u16, kind: Kind) -> Vec<Seen> {
    seen.iter().filter(|seen| seen.ends.1.port() == port && seen.kind() == Some(kind)).cloned().collect()
}

/// The times between messages.
fn gaps(seen: &[Seen]) -> Vec<Duration> {
    seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

#[test]
fn who_is_configured_to_be_heard_of_is_heard_of() {
    const EVERY: Duration = Duration::from_secs(1);
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        peer.knows(&keys.public, None, "")?;
        let watch = Watch::open(&lab.server, "eth0")?;
        // With nothing to send, and nobody that has sent anything: a handshake, and then something each second.
        let text = config(&keys, &peer.keys, Some("10.2.0.2:51821"), ", keepalive = \"1s\"");
        let control = Control::start(lab, &text)?;
        let first = watch.until(Duration::from_secs(8), |seen| seen.kind() == Some(Kind::Data(0)))?;
        println!("{:?}", first.iter().map(|seen| (seen.ends.1.port(), seen.kind())).collect::<Vec<_>>());
        let ours = to(&watch.all(Duration::from_millis(4500))?, 51821, Kind::Data(0));
        println!("ours: {:?}", gaps(&ours));
        ensure!(ours.len() >= 2, "{} in 4.5 s", ours.len());
        let wrong = gaps(&ours).into_iter().find(|gap| *gap < EVERY - LATE || *gap > EVERY + LATE);
        ensure!(wrong.is_none(), "{wrong:?}");
        // Now the peer, and we need not.
        control.apply(&config(&keys, &peer.keys, Some("10.2.0.2:51821"), ""), &[])?;
        peer.set(&format!("peer {} persistent-keepalive 1", keys.public))?;
        let before = control.counts()?;
        let watch = Watch::open(&lab.server, "eth0")?;
        let seen = watch.all(Duration::from_millis(4500))?;
        let (theirs, ours) = (to(&seen, 51820, Kind::Data(0)), to(&seen, 51821, Kind::Data(0)));
        println!("theirs: {:?}", gaps(&theirs));
        ensure!(theirs.len() >= 3 && ours.len() <= 1, "{} of theirs, {} of ours", theirs.len(), ours.len());
        let consumed = control.counts()?.total("consumed") - before.total("consumed");
        ensure!(consumed >= theirs.len() as u64, "{consumed} of {}", theirs.len());
        ensure!(control.balanced()?.counts.dropped_in_all() == 0);
        Ok(())
    });
}

/// Sends one datagram where nobody answers, but where there is somebody.
fn whisper(from: &Namespace, source: &str, to: &Namespace, target: &str) -> Result<()> {
    let target: SocketAddr = target.parse()?;
    let _listener = to.run(|| Ok(UdpSocket::bind(target)?))?;
    let sender = from.run(|| Ok(UdpSocket::bind(source)?))?;
    sender.send_to(b"nobody answers this", target)?;
    thread::sleep(Duration::from_millis(100));
    Ok(())
}

#[test]
fn what_is_not_answered_is_acknowledged_after_ten_seconds() {
    const AFTER: Duration = Duration::from_secs(10);
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        peer.knows(&keys.public, None, "")?;
        let control = Control::start(lab, &config(&keys, &peer.keys, Some("10.2.0.2:51821"), ""))?;
        talk(lab)?;
        // What was answered needs no more; from here on only one side speaks.
        let watch = Watch::open(&lab.server, "eth0")?;
        whisper(&lab.server, "10.8.0.2:0", &lab.client, "10.1.0.2:7000")?;
        let seen = watch.until(AFTER + LATE + LATE, |seen| {
            seen.ends.1.port() == 51821 && seen.kind() == Some(Kind::Data(0))
        })?;
        let said = seen.iter().find(|seen| matches!(seen.kind(), Some(Kind::Data(1..))));
        let acknowledged = to(&seen, 51821, Kind::Data(0));
        let (said, acknowledged) =
            (said.context("nothing was said")?, acknowledged.first().context("no answer")?);
        let after = acknowledged.at - said.at;
        println!("acknowledged after {after:?}");
        ensure!(after > AFTER - LATE && after < AFTER + LATE, "{after:?}");
        control.balanced()?;
        Ok(())
    });
}

/// Drops messages of this length (with the UDP header) that come to the server or leave it, until told otherwise.
fn lose(lab: &zsync_tests::Lab, length: u16) -> Result<()> {
    let chain = |hook: &str| {
        format!("chain {hook} {{\ntype filter hook {hook} priority 0\nudp length {length} counter drop\n}}\n")
    };
    let rules = format!("table inet lossy {{\n{}{}}}\n", chain("input"), chain("output"));
    let file = lab.folder().join("lossy.nft");
    std::fs::write(&file, rules)?;
    lab.server.output(std::process::Command::new("nft").arg("-f").arg(&file)).map(drop)
}

fn lose_no_more(lab: &zsync_tests::Lab) -> Result<()> {
    lab.server.output(std::process::Command::new("nft").args(["delete", "table", "inet", "lossy"])).map(drop)
}

#[test]
fn a_handshake_whose_answer_is_lost_is_tried_again_after_five_seconds() {
    in_lab(Shape::router(), |lab| {
        for (from, to, begins) in [(&lab.client, INNER[0], 51821), (&lab.server, "10.1.0.2", 51820)] {
            let keys = Pair::generate(lab.folder(), "ours.key")?;
            let peer = Peer::start(lab, Program::Go)?;
            let theirs = (begins == 51821).then_some("10.2.0.2:51821");
            peer.knows(&keys.public, theirs.is_none().then_some("10.2.0.1:51820"), "")?;
            let control = Control::start(lab, &config(&keys, &peer.keys, theirs, ""))?;
            // Responses are 92 bytes.
            lose(lab, 100)?;
            let watch = Watch::open(&lab.server, "eth0")?;
            let (mut initiations, to) = (0, to.parse()?);
            let seen = thread::scope(|scope| {
                // When a message passed, only who looks meanwhile can say.
                let watching = scope.spawn(|| {
                    watch.until(Duration::from_secs(8), |seen| {
                        let one = seen.ends.1.port() == begins && seen.kind() == Some(Kind::Initiation);
                        initiations += u32::from(one);
                        initiations == 2
                    })
                });
                let pinged = ping(from, to, 1);
                lose_no_more(lab)?;
                ensure!(pinged?.received == 0, "it got through without an answer");
                watching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?;
            let tries = self::to(&seen, begins, Kind::Initiation);
            let between = gaps(&tries);
            println!("to {begins}: {between:?}");
            ensure!(between.len() == 1 && between[0] > Duration::from_secs(5) - LATE, "{between:?}");
            ensure!(between[0] < Duration::from_millis(5334) + LATE, "{between:?}");
            talk(lab)?;
            control.balanced()?;
        }
        Ok(())
    });
}

/// Sends these messages from this address again and again, so many in a millisecond, until told otherwise; how many.
fn flood(
    at: &Namespace,
    from: &str,
    to: SocketAddr,
    messages: &[Vec<u8>],
    each: usize,
    over: &AtomicBool,
) -> Result<u64> {
    let socket = at.run(|| UdpSocket::bind(from).with_context(|| format!("binding {from}")))?;
    let (start, mut sent) = (Instant::now(), 0);
    while !over.load(Relaxed) {
        let due = (start.elapsed().as_millis() as u64 + 1) * each as u64;
        while sent < due && !over.load(Relaxed) {
            // What the sender's own queue does not take is not sent.
            let _ = socket.send_to(&messages[sent as usize % messages.len()], to);
            sent += 1;
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(sent)
}

/// Initiations of strangers, whose first code is right.
fn strangers(at: &Namespace, from: SocketAddr, to: SocketAddr, theirs: &str) -> Result<Vec<Vec<u8>>> {
    let mut stranger = Caller::new(at, from, to, theirs, 77)?;
    (0..64).map(|_| Ok(stranger.initiation()?.1.to_vec())).collect()
}

#[test]
fn under_a_flood_of_initiations_a_peer_gets_its_session_by_a_cookie() {
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        let control = Control::start(lab, &config(&keys, &peer.keys, None, ""))?;
        lab.server.ip("addr add 10.2.0.66/24 dev eth0")?;
        let to_us: SocketAddr = "10.2.0.1:51820".parse()?;
        let messages = strangers(&lab.server, "10.2.0.66:0".parse()?, to_us, &keys.public)?;
        let watch = Watch::open(&lab.server, "eth0")?;
        let over = AtomicBool::new(false);
        let (seen, outcome, sent) = thread::scope(|scope| {
            let flooding = scope.spawn(|| flood(&lab.server, "10.2.0.66:666", to_us, &messages, 4, &over));
            let watching = scope.spawn(|| {
                // Of the peer's alone: a flood is too much to keep.
                watch.until(Duration::from_secs(9), |seen| {
                    seen.ends.0.port() == 51821 && matches!(seen.kind(), Some(Kind::Data(1..)))
                })
            });
            thread::sleep(Duration::from_millis(700));
            peer.knows(&keys.public, Some("10.2.0.1:51820"), "")?;
            let outcome = ping(&lab.server, "10.1.0.2".parse()?, 1);
            let seen = watching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let during = talk(lab);
            over.store(true, Relaxed);
            let sent = flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            during.context("while the flood goes on")?;
            anyhow::Ok((seen?, outcome?, sent))
        })?;
        let theirs: Vec<_> = seen
            .into_iter()
            .filter(|seen| [seen.ends.0, seen.ends.1].iter().any(|end| end.port() == 51821))
            .collect();
        let kinds: Vec<_> = theirs.iter().map(|seen| (seen.ends.1.port(), seen.kind())).collect();
        println!("{sent} initiations; {kinds:?}; {outcome:?}");
        let initiations = to(&theirs, 51820, Kind::Initiation);
        ensure!(!to(&theirs, 51821, Kind::Cookie).is_empty(), "no cookie: {kinds:?}");
        ensure!(!to(&theirs, 51821, Kind::Response).is_empty(), "no session: {kinds:?}");
        let shows = |seen: &Seen| seen.bytes[132..] != [0; 16];
        ensure!(initiations.len() >= 2 && !shows(&initiations[0]) && shows(&initiations[1]), "{kinds:?}");
        let books = control.balanced()?;
        println!("{:?}", books.counts);
        Ok(())
    });
}

#[test]
fn a_cookie_is_shown_to_who_asks_for_it() {
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let (from, to_us) = ("10.2.0.2:51821".parse()?, "10.2.0.1:51820".parse()?);
        let caller = Caller::new(&lab.server, from, to_us, &keys.public, 5)?;
        let text = config_of(&keys, "", &[peer_of(&caller.public(), Some("10.2.0.2:51821"), BEHIND, "")]);
        let control = Control::start(lab, &text)?;
        ensure!(ping(&lab.client, INNER[0].parse()?, 1)?.received == 0);
        let (first, us) = caller.receive(Duration::from_secs(1))?.context("no initiation")?;
        ensure!(caller.gate.check(&first, us) == Pass::Known);
        caller.send(&caller.gate.reply(&first, us, &[9; 24]))?;
        let (second, us) = caller.receive(Duration::from_secs(7))?.context("no other initiation")?;
        ensure!(caller.gate.check(&second, us) == Pass::Reachable, "it does not show the cookie");
        // A cookie that answers nothing is none.
        let before = control.counts()?.dropped("wireguard-forged");
        caller.send(&caller.gate.reply(&first, us, &[9; 24]))?;
        zsync_tests::wait_for("it to be refused", Duration::from_secs(1), || {
            (control.counts().ok()?.dropped("wireguard-forged") > before).then_some(())
        })?;
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn wireguard_go_under_load_gets_to_see_its_cookie() {
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        peer.knows(&keys.public, None, "")?;
        let to_them: SocketAddr = "10.2.0.2:51821".parse()?;
        lab.server.ip("addr add 10.2.0.66/24 dev eth0")?;
        let messages = strangers(&lab.server, "10.2.0.66:0".parse()?, to_them, &peer.keys.public)?;
        let control = Control::start(lab, &config(&keys, &peer.keys, Some("10.2.0.2:51821"), ""))?;
        let watch = Watch::open(&lab.server, "eth0")?;
        let over = AtomicBool::new(false);
        let seen = thread::scope(|scope| {
            let flooding = scope.spawn(|| flood(&lab.server, "10.2.0.66:666", to_them, &messages, 40, &over));
            thread::sleep(Duration::from_millis(700));
            let pinged = ping(&lab.client, INNER[0].parse()?, 1);
            let seen = watch.until(Duration::from_secs(9), |seen| {
                seen.ends.0.port() == 51820 && matches!(seen.kind(), Some(Kind::Data(_)))
            });
            over.store(true, Relaxed);
            let sent = flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            println!("{sent} initiations; {:?}", pinged?);
            seen
        })?;
        let kinds: Vec<_> = seen.iter().map(|seen| (seen.ends.1.port(), seen.kind())).collect();
        println!("{kinds:?}");
        let initiations = to(&seen, 51821, Kind::Initiation);
        ensure!(!to(&seen, 51820, Kind::Cookie).is_empty(), "no cookie: {kinds:?}");
        let last = initiations.last().context("no initiation")?;
        ensure!(initiations.len() >= 2 && last.bytes[132..] != [0; 16], "{kinds:?}");
        talk(lab)?;
        control.balanced()?;
        Ok(())
    });
}
