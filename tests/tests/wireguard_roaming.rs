//! Ends that move: the peer's outer address, our own, and those who only say so.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_tests::wireguard::watch::{Kind, Seen, Watch};
use zsync_tests::wireguard::{Pair, Peer, Program, config, endpoint_of, talk};
use zsync_tests::{Control, Flow, FlowPlan, Lab, Shape, in_lab, wait_for};

/// What may take so long: a packet that says where its sender is now.
const SOON: Duration = Duration::from_secs(2);

/// A tunnel to wireguard-go over IPv4, and a flow each way through it.
struct Scene<'lab> {
    lab: &'lab Lab,
    keys: Pair,
    peer: Peer<'lab>,
    control: Control<'lab>,
}

impl<'lab> Scene<'lab> {
    fn new(lab: &'lab Lab) -> Result<Self> {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        peer.knows(&keys.public, Some("10.2.0.1:51820"), "")?;
        let control = Control::start(lab, &config(&keys, &peer.keys, Some("10.2.0.2:51821"), ""))?;
        talk(lab)?;
        Ok(Self { lab, keys, peer, control })
    }

    /// From the peer to us.
    fn flow(&self) -> Result<Flow> {
        let plan = FlowPlan {
            rate: 1000,
            source: "10.8.0.2:0".parse()?,
            target: "10.1.0.2:7000".parse()?,
            payload: 100,
        };
        Flow::start(&self.lab.server, &self.lab.client, plan)
    }

    /// Waits until we say that the peer is there.
    fn peer_is_at(&self, at: &str) -> Result<()> {
        let at: SocketAddr = at.parse()?;
        let found = wait_for(&format!("the peer at {at}"), SOON, || {
            (endpoint_of(&self.control, &self.peer.keys.public).ok()? == Some(at)).then_some(())
        });
        found.with_context(|| format!("{:?}", self.control.ctl(&["show", "wireguard"])))
    }

    /// Waits until the peer says that we are there.
    fn we_are_at(&self, at: &str) -> Result<()> {
        let said = format!("{}\t{at}", self.keys.public);
        wait_for(&format!("us at {at}"), SOON, || {
            self.peer.show("endpoints").ok()?.contains(&said).then_some(())
        })
    }
}

#[test]
fn a_peer_that_moves_is_followed_under_traffic() {
    in_lab(Shape::router(), |lab| {
        let scene = Scene::new(lab)?;
        let handshake = scene.peer.handshake()?;
        let flow = scene.flow()?;
        std::thread::sleep(Duration::from_millis(200));
        // Another port.
        scene.peer.set("listen-port 40001")?;
        scene.peer_is_at("10.2.0.2:40001")?;
        talk(lab)?;
        // Another address, with another port.
        lab.server.ip("addr add 10.2.0.3/24 dev eth0")?;
        lab.server.ip("addr del 10.2.0.2/24 dev eth0")?;
        lab.server.ip("addr replace 10.2.0.3/24 dev eth0")?;
        lab.server.ip("route replace default via 10.2.0.1")?;
        scene.peer.set("listen-port 40002")?;
        scene.peer_is_at("10.2.0.3:40002")?;
        talk(lab)?;
        // Another family, and back.
        scene.peer.set(&format!("peer {} endpoint [fd02::1]:51820", scene.keys.public))?;
        scene.peer_is_at("[fd02::2]:40002")?;
        talk(lab)?;
        scene.peer.set(&format!("peer {} endpoint 10.2.0.1:51820", scene.keys.public))?;
        scene.peer_is_at("10.2.0.3:40002")?;
        talk(lab)?;
        let report = flow.finish()?;
        println!("{} of {} lost, silent for {:?}", report.lost(), report.sent(), report.longest_gap());
        // What the peer's own kernel could not send while its socket was changed.
        ensure!(report.lost() < report.sent() / 5 && report.longest_gap() < SOON);
        ensure!(scene.peer.handshake()? == handshake, "who moves needs no other handshake");
        scene.control.balanced()?;
        Ok(())
    });
}

#[test]
fn we_move_and_the_peer_follows() {
    in_lab(Shape::router(), |lab| {
        let scene = Scene::new(lab)?;
        let handshake = scene.peer.handshake()?;
        let text = config(&scene.keys, &scene.peer.keys, Some("10.2.0.2:51821"), "");
        scene.we_are_at("10.2.0.1:51820")?;
        // Another port.
        let moved = text.replace("listen-port = 51820", "listen-port = 51999");
        scene.control.apply(&moved, &[])?;
        talk(lab)?;
        scene.we_are_at("10.2.0.1:51999")?;
        // Another family: the configuration says another place of the peer.
        scene.control.apply(&moved.replace("10.2.0.2:51821", "[fd02::2]:51821"), &[])?;
        talk(lab)?;
        scene.we_are_at("[fd02::1]:51999")?;
        scene.control.apply(&moved, &[])?;
        talk(lab)?;
        scene.we_are_at("10.2.0.1:51999")?;
        ensure!(scene.peer.handshake()? == handshake, "who moves needs no other handshake");
        scene.control.balanced()?;
        Ok(())
    });
}

#[test]
fn an_address_of_ours_that_goes_is_used_no_more() {
    in_lab(Shape::router(), |lab| {
        let scene = Scene::new(lab)?;
        for (family, old, new) in [("", "10.2.0.1/24", "10.2.0.9/24"), ("-6", "fd02::1/64", "fd02::9/64")] {
            let nodad = if family.is_empty() { "" } else { "nodad" };
            lab.router.ip(&format!("addr add {new} dev eth2 {nodad}"))?;
            lab.router.ip(&format!("addr del {old} dev eth2"))?;
            // A primary address takes those of its network with it, where the kernel is not told otherwise.
            lab.router.ip(&format!("{family} addr replace {new} dev eth2 {nodad}"))?;
            let new = new.split('/').next().unwrap_or_default();
            let at = if family.is_empty() { format!("{new}:51820") } else { format!("[{new}]:51820") };
            if !family.is_empty() {
                let text = config(&scene.keys, &scene.peer.keys, Some("[fd02::2]:51821"), "");
                scene.control.apply(&text, &[])?;
            }
            wait_for("an answer", Duration::from_secs(5), || talk(lab).ok())?;
            scene.we_are_at(&at)?;
        }
        scene.control.balanced()?;
        Ok(())
    });
}

/// A datagram from an address that the server has beside its own, with any port.
fn from_elsewhere(lab: &Lab, message: &[u8]) -> Result<()> {
    let socket = lab.server.run(|| Ok(UdpSocket::bind("10.2.0.66:4444")?))?;
    socket.send_to(message, "10.2.0.1:51820")?;
    Ok(())
}

#[test]
fn who_only_says_that_a_peer_moved_moves_nothing() {
    in_lab(Shape::router(), |lab| {
        let scene = Scene::new(lab)?;
        lab.server.ip("addr add 10.2.0.66/24 dev eth0")?;
        let watch = Watch::open(&lab.server, "eth0")?;
        // A session from its first message on, as somebody on the way sees it.
        scene.peer.set(&format!("peer {} remove", scene.keys.public))?;
        scene.peer.knows(&scene.keys.public, Some("10.2.0.1:51820"), "")?;
        let before = scene.control.counts()?;
        let (all, outcome) = std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch.all(Duration::from_secs(1)));
            let outcome = zsync_tests::ping(&lab.server, "10.1.0.2".parse()?, 10);
            anyhow::Ok((watching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?, outcome?))
        })?;
        ensure!(outcome.all(), "{outcome:?}");
        let theirs: Vec<&Seen> = all.iter().filter(|seen| seen.ends.1.port() == 51820).collect();
        let of = |wanted: fn(Kind) -> bool| {
            theirs.iter().filter(move |seen| seen.kind().is_some_and(wanted)).map(|seen| seen.bytes.clone())
        };
        let initiation = of(|kind| kind == Kind::Initiation).next();
        let data: Vec<Vec<u8>> = of(|kind| matches!(kind, Kind::Data(1..))).collect();
        ensure!(initiation.is_some() && data.len() >= 10, "{} messages", all.len());
        // Replayed, as they were; then changed, each in another place, with a counter that has not come yet.
        for message in initiation.iter().chain(&data) {
            from_elsewhere(lab, message)?;
        }
        for (place, message) in data.iter().enumerate() {
            let mut forged = message.clone();
            forged[8..16].copy_from_slice(&1000u64.to_le_bytes());
            let at = 16 + place * 7 % (forged.len() - 16);
            forged[at] ^= 1 << (place % 8);
            from_elsewhere(lab, &forged)?;
        }
        let dropped = |reason: &str| -> Result<u64> {
            Ok(scene.control.counts()?.dropped(reason) - before.dropped(reason))
        };
        let count = data.len() as u64;
        wait_for("them to be refused", SOON, || {
            let (replayed, forged) = (dropped("wireguard-replayed").ok()?, dropped("wireguard-forged").ok()?);
            (replayed >= count && forged >= count).then_some(())
        })?;
        scene.peer_is_at("10.2.0.2:51821")?;
        let answers = watch.all(Duration::from_millis(300))?;
        let told = answers.iter().filter(|seen| seen.ends.1.port() == 4444).count();
        ensure!(told == 0, "{told} answers to who is nobody");
        // The same session goes on, and its counters with it.
        let handshake = scene.peer.handshake()?;
        talk(lab)?;
        ensure!(scene.peer.handshake()? == handshake);
        scene.peer_is_at("10.2.0.2:51821")?;
        scene.control.balanced()?;
        Ok(())
    });
}
