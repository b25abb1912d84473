//! The same bytes at both ends of a tunnel, whoever is at the other end: wireguard-go and boringtun-cli, either side beginning,
//! both families inside and outside, with and without a preshared key; and over as many handshakes as there may be.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use zsync_packet::header::build::{self, Ipv4Spec};
use zsync_packet::header::{Ipv4, Udp, protocol};
use zsync_tests::ping::ping_with;
use zsync_tests::wireguard::caller::Caller;
use zsync_tests::wireguard::stream::{datagrams, tcp};
use zsync_tests::wireguard::{
    At, BEHIND, INNER, PORTS, Pair, Peer, Program, config, config_of, peer_of, talk,
};
use zsync_tests::{Control, Flow, FlowPlan, Lab, Namespace, Shape, in_lab, ping};

/// Inside, at our end.
const CLIENT: [&str; 2] = ["10.1.0.2", "fd01::2"];
/// What a datagram may carry so that nobody takes it apart, in each family: 1420 bytes without its headers.
const LONGEST: [usize; 2] = [1392, 1372];

/// Who begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    Zsync,
    Peer,
}

fn at(address: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(address.parse()?, port))
}

/// Known bytes both ways, in both families: a stream, then datagrams of all lengths that fit, then some that hosts take apart.
fn compare(lab: &Lab, seed: u64) -> Result<()> {
    for (family, (inner, client)) in INNER.into_iter().zip(CLIENT).enumerate() {
        for (from, to, address) in [(&lab.client, &lab.server, inner), (&lab.server, &lab.client, client)] {
            let say = || format!("to {address}");
            tcp(from, to, at(address, 7000)?, 4 << 20, seed).with_context(say)?;
            let step = if address == inner { 1 } else { 7 };
            let lengths = (0..LONGEST[family]).step_by(step).chain([LONGEST[family]]);
            datagrams(from, to, at(address, 7000)?, lengths, seed).with_context(say)?;
            // Who sends more than fits is told so, and its kernel takes apart what comes next.
            ping_with(from, address.parse()?, 1, &["-s", "1410"])?;
            let lengths = [LONGEST[family] + 1, 1473, 2000, 4321, 9000];
            datagrams(from, to, at(address, 7000)?, lengths, seed).with_context(say)?;
        }
    }
    Ok(())
}

fn bytes_come_as_they_were(program: Program, [ours, theirs]: [&str; 2], begins: Begins) {
    if !program.is_there() {
        return;
    }
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, program)?;
        let shared = Pair::generate(lab.folder(), "shared.key")?.file.display().to_string();
        let (here, there) = (At(ours, PORTS[0]).to_string(), At(theirs, PORTS[1]).to_string());
        let (here, there) = match begins {
            Begins::Zsync => (None, Some(there.as_str())),
            Begins::Peer => (Some(here.as_str()), None),
        };
        peer.knows(&keys.public, here, &format!("preshared-key {shared}"))?;
        let more = format!(", preshared-key-file = \"{shared}\"");
        let control = Control::start(lab, &config(&keys, &peer.keys, there, &more))?;
        let (from, to) = match begins {
            Begins::Zsync => (&lab.client, INNER[0]),
            Begins::Peer => (&lab.server, CLIENT[0]),
        };
        let outcome = ping(from, to.parse()?, 10)?;
        ensure!(outcome.all(), "the first packets wait for the handshake: {outcome:?}");
        ensure!(peer.show("endpoints")?.contains(ours), "{}", peer.show("endpoints")?);
        talk(lab)?;
        compare(lab, 5)?;
        ensure!(peer.show("preshared-keys")?.contains('='), "there was no preshared key");
        let books = control.balanced()?;
        ensure!(books.counts.dropped("wireguard-forged") == 0, "{books:?}");
        Ok(())
    });
}

#[test]
fn boringtun_is_called_over_ipv4() {
    bytes_come_as_they_were(Program::Boringtun, ["10.2.0.1", "10.2.0.2"], Begins::Zsync);
}

#[test]
fn boringtun_is_called_over_ipv6() {
    bytes_come_as_they_were(Program::Boringtun, ["fd02::1", "fd02::2"], Begins::Zsync);
}

#[test]
fn boringtun_calls_over_ipv4() {
    bytes_come_as_they_were(Program::Boringtun, ["10.2.0.1", "10.2.0.2"], Begins::Peer);
}

#[test]
fn boringtun_calls_over_ipv6() {
    bytes_come_as_they_were(Program::Boringtun, ["fd02::1", "fd02::2"], Begins::Peer);
}

#[test]
fn wireguard_go_is_called_over_ipv4_and_all_bytes_are_the_same() {
    bytes_come_as_they_were(Program::Go, ["10.2.0.1", "10.2.0.2"], Begins::Zsync);
}

#[test]
fn wireguard_go_calls_over_ipv6_and_all_bytes_are_the_same() {
    bytes_come_as_they_were(Program::Go, ["fd02::1", "fd02::2"], Begins::Peer);
}

/// Somebody who always has something to say, until it is dropped.
struct Speaks(Arc<AtomicBool>);

impl Speaks {
    fn start<'s>(scope: &'s thread::Scope<'s, '_>, from: &'s Namespace, to: IpAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let its = over.clone();
        scope.spawn(move || while !its.load(Relaxed) && ping_with(from, to, 5, &["-i", "0.1"]).is_ok() {});
        Self(over)
    }
}

impl Drop for Speaks {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A peer that forgets its session and begins another, while a stream goes both ways through it: TCP repairs what was under way in
/// the session that the peer no longer has, and no byte is another.
fn forgets_its_session(program: Program) {
    if !program.is_there() {
        return;
    }
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, program)?;
        peer.knows(&keys.public, Some("10.2.0.1:51820"), "")?;
        let control = Control::start(lab, &config(&keys, &peer.keys, Some("10.2.0.2:51821"), ""))?;
        talk(lab)?;
        thread::scope(|scope| {
            let forgetting = scope.spawn(|| {
                for _ in 0..4 {
                    peer.set(&format!("peer {} remove", keys.public))?;
                    // Who keeps a way open begins at once.
                    peer.knows(&keys.public, Some("10.2.0.1:51820"), "persistent-keepalive 25")?;
                    thread::sleep(Duration::from_millis(700));
                }
                anyhow::Ok(())
            });
            // A peer that has forgotten us calls as soon as it has something to send; we do when nothing has come for 15 seconds.
            let _speaks = Speaks::start(scope, &lab.server, CLIENT[0].parse()?);
            let mut round = 0;
            while round < 2 || !forgetting.is_finished() {
                tcp(&lab.client, &lab.server, at(INNER[round % 2], 7000)?, 8 << 20, 11)?;
                tcp(&lab.server, &lab.client, at(CLIENT[round % 2], 7000)?, 8 << 20, 12)?;
                round += 1;
            }
            println!("{} streams", round * 4);
            forgetting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        talk(lab)?;
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn wireguard_go_forgets_its_session_under_traffic_and_streams_go_on() {
    forgets_its_session(Program::Go);
}

#[test]
fn boringtun_forgets_its_session_under_traffic_and_streams_go_on() {
    forgets_its_session(Program::Boringtun);
}

/// A UDP packet of the caller's network to the client.
fn numbered(number: u32) -> Vec<u8> {
    let ip = Ipv4Spec::new([10, 8, 0, 2].into(), [10, 1, 0, 2].into(), protocol::UDP);
    ip.packet(&build::udp(ip.address_sum(), 7001, 7001, &number.to_be_bytes()))
}

/// Answers each datagram of the client with itself.
fn echo(socket: &std::net::UdpSocket, over: &AtomicBool) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut buffer = [0; 64];
    while !over.load(Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], from)?;
        }
    }
    Ok(())
}

#[test]
fn a_peer_begins_session_after_session_under_traffic_and_no_packet_is_lost() {
    const EACH: u32 = 40;
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let (from, to) = (at("10.2.0.2", 999)?, at("10.2.0.1", PORTS[0])?);
        let mut caller = Caller::new(&lab.server, from, to, &keys.public, 1)?;
        let text = config_of(&keys, "", &[peer_of(&caller.public(), None, BEHIND, "")]);
        let control = Control::start(lab, &text)?;
        // Ahead of all that is sent there, or the client's kernel says that nobody listens.
        let socket = lab.client.run(|| Ok(std::net::UdpSocket::bind("10.1.0.2:7001")?))?;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let echoing = scope.spawn(|| echo(&socket, &over));
            let sessions = sessions(&mut caller, EACH);
            over.store(true, Relaxed);
            echoing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            sessions
        })?;
        let books = control.balanced()?;
        ensure!(books.counts.dropped_in_all() == 0, "{books:?}");
        Ok(())
    });
}

/// Thirty sessions, each begun while answers to what was sent in the one before are on their way.
fn sessions(caller: &mut Caller, each: u32) -> Result<()> {
    let mut came = Vec::new();
    let number = |data: &[u8]| -> Result<u32> {
        let ip = Ipv4::parse(data).map_err(|error| anyhow::anyhow!("{error}"))?;
        let udp = Udp::parse(ip.payload()).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(u32::from_be_bytes(udp.payload().try_into()?))
    };
    for session in 0..30 {
        let mut early = Vec::new();
        caller.handshake(|data| early.push(data))?;
        for packet in session * each..(session + 1) * each {
            let message = caller.seal(&numbered(packet))?;
            caller.send(&message)?;
        }
        let start = Instant::now();
        // The last ones come while the next session is begun.
        let wanted = ((session + 1) * each) as usize - if session < 29 { 8 } else { 0 };
        for data in early {
            came.push(number(&data)?);
        }
        while came.len() < wanted {
            let (message, _) = caller.receive(Duration::from_secs(2))?.with_context(|| {
                format!("{} of {wanted} packets, {:?} into session {session}", came.len(), start.elapsed())
            })?;
            let data = caller.open(&message)?;
            if !data.is_empty() {
                came.push(number(&data)?);
            }
        }
        // A peer is answered fifty times a second.
        thread::sleep(Duration::from_millis(25).saturating_sub(start.elapsed()));
    }
    let mut sorted = came.clone();
    sorted.sort_unstable();
    ensure!(sorted.into_iter().eq(0..30 * each), "lost or twice: {came:?}");
    Ok(())
}

/// The protocol's own time, 120 s: who began a session begins the next while packets flow, and none of them is lost.
fn rekeys_by_the_clock(begins: Begins) {
    if std::env::var("ZSYNC_LONG").as_deref() != Ok("1") {
        println!("not asked for: two minutes, by ZSYNC_LONG=1");
        return;
    }
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        let (here, there) = match begins {
            Begins::Zsync => (None, Some("10.2.0.2:51821")),
            Begins::Peer => (Some("10.2.0.1:51820"), None),
        };
        peer.knows(&keys.public, here, "")?;
        let control = Control::start(lab, &config(&keys, &peer.keys, there, ""))?;
        let (first, to) = match begins {
            Begins::Zsync => (&lab.client, INNER[0]),
            Begins::Peer => (&lab.server, CLIENT[0]),
        };
        ensure!(ping(first, to.parse()?, 3)?.all());
        let handshake = peer.handshake()?;
        let plan = |source: &str, target: &str| -> Result<FlowPlan> {
            Ok(FlowPlan { rate: 500, source: at(source, 0)?, target: at(target, 7002)?, payload: 200 })
        };
        let flows = [
            Flow::start(&lab.client, &lab.server, plan(CLIENT[0], INNER[0])?)?,
            Flow::start(&lab.server, &lab.client, plan(INNER[0], CLIENT[0])?)?,
        ];
        let rekeyed = peer.wait_handshake(handshake, Duration::from_secs(130))?;
        thread::sleep(Duration::from_secs(5));
        for flow in flows {
            let report = flow.finish()?;
            println!("{} of {} lost", report.lost(), report.sent());
            ensure!(report.lost() == 0 && report.sent() > 50_000, "{} of {}", report.lost(), report.sent());
        }
        println!("another handshake {} s after the first", rekeyed - handshake);
        ensure!((118..=126).contains(&(rekeyed - handshake)), "{handshake} {rekeyed}");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn zsync_begins_the_next_session_after_two_minutes_of_traffic() {
    rekeys_by_the_clock(Begins::Zsync);
}

#[test]
fn wireguard_go_begins_the_next_session_after_two_minutes_of_traffic() {
    rekeys_by_the_clock(Begins::Peer);
}
