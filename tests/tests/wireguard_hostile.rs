//! What a tunnel makes of bad input: messages cut or stretched, of no session, that came before, out of order, for nobody. Each is
//! dropped and counted by its reason, and nothing is sent back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::protocol;
use zsync_tests::wireguard::caller::Caller;
use zsync_tests::wireguard::stream::Bytes;
use zsync_tests::wireguard::{BEHIND, PORTS, Pair, config_of, peer_of, shown};
use zsync_tests::{Control, Lab, Shape, in_lab, wait_for};

/// Where the client listens.
const PORT: u16 = 7000;

struct Scene<'lab> {
    caller: Caller,
    control: Control<'lab>,
    inside: std::net::UdpSocket,
}

impl<'lab> Scene<'lab> {
    /// A session, over IPv4 or IPv6.
    fn new(lab: &'lab Lab, v6: bool) -> Result<Self> {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let ends = if v6 { ["fd02::2", "fd02::1"] } else { ["10.2.0.2", "10.2.0.1"] };
        let [from, to] = [(ends[0], 999), (ends[1], PORTS[0])]
            .map(|(address, port)| address.parse().map(|address| SocketAddr::new(address, port)));
        let mut caller = Caller::new(&lab.server, from?, to?, &keys.public, 3)?;
        let control =
            Control::start(lab, &config_of(&keys, "", &[peer_of(&caller.public(), None, BEHIND, "")]))?;
        caller.handshake(|_| ())?;
        let inside = lab.client.run(|| Ok(std::net::UdpSocket::bind(("10.1.0.2", PORT))?))?;
        inside.set_read_timeout(Some(Duration::from_secs(2)))?;
        let scene = Self { caller, control, inside };
        scene.counted("consumed", 2)?;
        Ok(scene)
    }

    /// Waits until so many packets were dropped for that reason, or consumed.
    fn counted(&self, reason: &str, count: u64) -> Result<()> {
        let found = wait_for(&format!("{count} {reason}"), Duration::from_secs(2), || {
            let counts = self.control.counts().ok()?;
            let is = if reason == "consumed" { counts.total(reason) } else { counts.dropped(reason) };
            (is == count).then_some(())
        });
        found.map_err(|error| error.context(format!("{:?}", self.control.counts())))
    }

    /// What comes out inside next.
    fn came(&self) -> Result<Vec<u8>> {
        let mut buffer = [0; 2048];
        let length = self.inside.recv(&mut buffer)?;
        Ok(buffer[..length].to_vec())
    }

    fn silent(&self) -> Result<()> {
        let answer = self.caller.receive(Duration::from_millis(200))?;
        ensure!(answer.is_none(), "an answer: {answer:?}");
        Ok(())
    }
}

/// A datagram to the client.
fn packet(payload: &[u8]) -> Vec<u8> {
    let ip = Ipv4Spec::new([10, 8, 0, 2].into(), [10, 1, 0, 2].into(), protocol::UDP);
    ip.packet(&build::udp(ip.address_sum(), 7, PORT, payload))
}

#[test]
fn messages_that_are_none_are_counted_and_not_answered() {
    for v6 in [false, true] {
        in_lab(Shape::router(), |lab| {
            let mut scene = Scene::new(lab, v6)?;
            let data = scene.caller.seal(&packet(b"whole"))?;
            let (_, initiation) = scene.caller.initiation()?;
            let mut forged = 0;
            // Cut, stretched, of no type, with bytes that must be zero and are not.
            let mut bad: Vec<Vec<u8>> = vec![Vec::new(), vec![4], data[..31].to_vec(), data[..16].to_vec()];
            bad.push(initiation[..147].to_vec());
            bad.push([&initiation[..], &[0]].concat());
            bad.push([&initiation[..], &[0; 1300]].concat());
            bad.extend((0..=5u8).map(|kind| [&[kind, 0, 0, 1][..], &[7; 144]].concat()));
            bad.extend([92, 64].map(|length| vec![9; length]));
            bad.push([&[2, 0, 0, 0][..], &[7; 88]].concat());
            bad.push([&[3, 0, 0, 0][..], &[7; 60]].concat());
            // Whose first code is wrong.
            bad.push([&initiation[..116], &[0; 32]].concat());
            let mut random = Bytes::new(1);
            bad.extend([1, 40, 148, 600, 1400].map(|length| {
                let mut bytes = vec![0; length];
                random.fill(&mut bytes);
                bytes
            }));
            for message in &bad {
                scene.caller.send(message)?;
                forged += 1;
            }
            scene.counted("wireguard-forged", forged)?;
            // Data of sessions that are not there.
            for index in [0u32, 1, 0x00ff_ffff, u32::MAX] {
                let mut message = data.clone();
                message[4..8].copy_from_slice(&index.to_le_bytes());
                scene.caller.send(&message)?;
            }
            scene.counted("wireguard-unknown", 4)?;
            scene.silent()?;
            // A changed message is not shown to anybody, and the one that was meant still comes.
            let mut changed = data.clone();
            changed[20] ^= 1;
            scene.caller.send(&changed)?;
            scene.caller.send(&[&data[..], &[0; 16]].concat())?;
            scene.caller.send(&data[..data.len() - 16])?;
            scene.counted("wireguard-forged", forged + 3)?;
            scene.caller.send(&data)?;
            ensure!(scene.came()? == b"whole");
            scene.control.balanced()?;
            Ok(())
        });
    }
}

#[test]
fn counters_that_came_or_that_nobody_may_use_are_refused() {
    in_lab(Shape::router(), |lab| {
        let mut scene = Scene::new(lab, false)?;
        let messages = (0..100u8).map(|n| scene.caller.seal(&packet(&[n]))).collect::<Result<Vec<_>>>()?;
        // In any order, once.
        for n in (0..100).rev() {
            scene.caller.send(&messages[n])?;
            ensure!(scene.came()? == [n as u8]);
        }
        for message in &messages {
            scene.caller.send(message)?;
        }
        scene.counted("wireguard-replayed", 100)?;
        // 8,192 behind the last one is too late, and one less is not.
        let far = 20_000;
        scene.caller.send(&scene.caller.seal_with(&packet(b"far"), far)?)?;
        ensure!(scene.came()? == b"far");
        for behind in [1, 500, 4096, 8000, 8127, 8190, 8191] {
            scene.caller.send(&scene.caller.seal_with(&packet(b"late"), far - behind)?)?;
            ensure!(scene.came()? == b"late", "{behind}");
        }
        for behind in [8192, 8193, 9000, 19_000] {
            scene.caller.send(&scene.caller.seal_with(&packet(b"too late"), far - behind)?)?;
        }
        scene.counted("wireguard-replayed", 104)?;
        // At the end of all counters there is another reason.
        for counter in [u64::MAX, u64::MAX - (1 << 13)] {
            scene.caller.send(&scene.caller.seal_with(&packet(b"never"), counter)?)?;
        }
        scene.counted("wireguard-expired", 2)?;
        scene.caller.send(&scene.caller.seal_with(&packet(b"last"), u64::MAX - (1 << 13) - 1)?)?;
        ensure!(scene.came()? == b"last");
        scene.silent()?;
        scene.control.balanced()?;
        Ok(())
    });
}

#[test]
fn initiations_that_came_before_or_of_nobody_are_not_answered() {
    in_lab(Shape::router(), |lab| {
        let mut scene = Scene::new(lab, false)?;
        let (_, old) = scene.caller.initiation()?;
        std::thread::sleep(Duration::from_millis(30));
        scene.caller.handshake(|_| ())?;
        let handshake = |scene: &Scene<'_>| {
            Ok::<_, anyhow::Error>(shown(&scene.control, &scene.caller.public())?["handshake-ms"].clone())
        };
        std::thread::sleep(Duration::from_millis(100));
        let before = handshake(&scene)?;
        // A stamp that is older than the last one; then one of somebody else.
        scene.caller.send(&old)?;
        scene.silent()?;
        let stranger_at = "10.2.0.2:998".parse()?;
        let key = scene.control.ctl(&["show", "wireguard"])?["ends"][0]["public-key"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let mut stranger = Caller::new(&lab.server, stranger_at, scene.caller.to, &key, 4)?;
        let (_, message) = stranger.initiation()?;
        stranger.send(&message)?;
        let answer = stranger.receive(Duration::from_millis(300))?;
        ensure!(answer.is_none(), "a stranger is answered: {answer:?}");
        ensure!(handshake(&scene)? == before);
        // The session is still the same.
        let data = scene.caller.seal(&packet(b"still"))?;
        scene.caller.send(&data)?;
        ensure!(scene.came()? == b"still");
        scene.control.balanced()?;
        Ok(())
    });
}

#[test]
fn what_is_inside_must_be_a_packet_of_the_peers() {
    in_lab(Shape::router(), |lab| {
        let mut scene = Scene::new(lab, false)?;
        let v6 = Ipv6Spec::new("fd09::2".parse()?, "fd01::2".parse()?, 59);
        let v4 = Ipv4Spec::new([10, 9, 0, 2].into(), [10, 1, 0, 2].into(), 253);
        for foreign in [v4.packet(b"not its own"), v6.packet(b"nor this")] {
            let message = scene.caller.seal(&foreign)?;
            scene.caller.send(&message)?;
        }
        scene.counted("wireguard-source", 2)?;
        let whole = packet(&[1; 40]);
        let mut longer = whole.clone();
        longer[2..4].copy_from_slice(&2000u16.to_be_bytes());
        for bad in [&b"no packet"[..], &[0x45; 10], &[0x60; 39], &whole[..19], &longer] {
            let message = scene.caller.seal(bad)?;
            scene.caller.send(&message)?;
        }
        scene.counted("tunnel-malformed", 5)?;
        scene.silent()?;
        let data = scene.caller.seal(&whole)?;
        scene.caller.send(&data)?;
        ensure!(scene.came()? == [1; 40]);
        scene.control.balanced()?;
        Ok(())
    });
}
