//! What is under way lives on: a TCP connection and UDP bindings through NAT, while the configuration is replaced again and
//! again, and while data planes and controls are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use zsync_tests::{Control, Lab, Shape, in_lab, ping, wait_for};

/// Reloads, and kills of the data plane, of one test.
const RELOADS: usize = 100;
const KILLS: usize = 20;
/// Kills of control.
const CONTROL_KILLS: usize = 4;
/// Between a start and the next kill, as in the other tests of kills.
const REST: Duration = Duration::from_millis(120);
/// How soon what is under way must move again: TCP waits 200 ms before it sends something lost again, and twice as long the
/// next time.
const LIMIT: Duration = Duration::from_secs(5);
/// Pause between two datagrams of a binding.
const PAUSE: Duration = Duration::from_millis(5);

/// An edge, one way or the other: what is under way must not notice. A connection that was forgotten would not be picked up
/// again in its midst, and nobody outside may begin one.
fn edge(odd: bool) -> String {
    let (rules, tracked) = if odd {
        (
            r#"{ drop = true, input = "lan", protocol = "udp", to-port = 7999 }, { count = "from-inside", input = "lan" },"#,
            "udp = \"40s\"\ntcp-time-wait = \"60s\"\n",
        )
    } else {
        ("", "")
    };
    format!(
        r#"
        [port.lan]
        netdev = "eth1"
        [port.wan]
        netdev = "eth2"
        [pipeline.edge]
        input  = ["lan", "wan"]
        stages = ["filter.edge", "track.flows", "nat.out", "route.main"]
        [filter.edge]
        default = "drop"
        rules = [
            {rules}
            {{ accept = true, state = ["established", "related"] }},
            {{ accept = true, input = "lan", state = "new" }},
        ]
        [track.flows]
        loose = false
        {tracked}
        [nat.out]
        masquerade = [{{ output = "wan" }}]
        [route.main]
        "#
    )
}

/// The byte at this place of the stream.
fn pattern(place: u64) -> u8 {
    (place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// A TCP connection to a server that sends everything back.
struct Connection {
    /// Bytes that came back, each the right one.
    moved: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    writer: JoinHandle<Result<u64>>,
    reader: JoinHandle<Result<u64>>,
    server: JoinHandle<Result<SocketAddr>>,
}

impl Connection {
    fn open(lab: &Lab, target: SocketAddr) -> Result<Self> {
        let listener = lab.server.run(|| Ok(TcpListener::bind(target)?))?;
        let server = thread::spawn(move || {
            let (mut stream, peer) = listener.accept()?;
            let mut back = stream.try_clone()?;
            std::io::copy(&mut stream, &mut back).context("the server")?;
            back.shutdown(Shutdown::Write)?;
            Ok(peer)
        });
        let mut outbound =
            lab.client.run(|| Ok(TcpStream::connect_timeout(&target, Duration::from_secs(5))?))?;
        outbound.set_nodelay(true)?;
        let mut inbound = outbound.try_clone()?;
        let (stop, moved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writer = {
            let stop = stop.clone();
            thread::spawn(move || {
                let mut sent = 0;
                while !stop.load(Relaxed) {
                    let chunk: Vec<u8> = (sent..sent + 4096).map(pattern).collect();
                    outbound.write_all(&chunk).context("the connection broke")?;
                    sent += 4096;
                    thread::sleep(Duration::from_millis(2));
                }
                outbound.shutdown(Shutdown::Write)?;
                Ok(sent)
            })
        };
        let reader = {
            let moved = moved.clone();
            thread::spawn(move || {
                let (mut came, mut buffer) = (0, [0; 1 << 14]);
                loop {
                    let count = inbound.read(&mut buffer).context("the connection broke")?;
                    if count == 0 {
                        return Ok(came);
                    }
                    let wrong =
                        (came..).zip(&buffer[..count]).find(|(place, byte)| pattern(*place) != **byte);
                    ensure!(wrong.is_none(), "another byte came back at {wrong:?}");
                    came += count as u64;
                    moved.store(came, Relaxed);
                }
            })
        };
        Ok(Self { moved, stop, writer, reader, server })
    }

    /// Waits until data sent from now on has come back.
    fn moves(&self) -> Result<()> {
        ensure!(!self.reader.is_finished() && !self.writer.is_finished(), "the connection has ended");
        // More than can have been under way in socket buffers that are never full.
        let wanted = self.moved.load(Relaxed) + (64 << 10);
        wait_for("data to come back", LIMIT, || (self.moved.load(Relaxed) >= wanted).then_some(()))
    }

    /// Ends it in order; the bytes that came back, and who it was to the server.
    fn finish(self) -> Result<(u64, SocketAddr)> {
        self.stop.store(true, Relaxed);
        let (sent, came) = (join(self.writer)?, join(self.reader)?);
        let peer = join(self.server)?;
        ensure!(sent == came, "{sent} bytes were sent and {came} came back");
        Ok((came, peer))
    }
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

/// Who sent what, as a server sees it: the sources, by the number that is in the datagrams.
type Seen = Arc<Mutex<BTreeMap<u8, BTreeSet<SocketAddr>>>>;

/// Clients that send from one UDP port each, all the time, and a server that answers.
struct Bindings {
    stop: Arc<AtomicBool>,
    seen: Seen,
    answers: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Bindings {
    /// From each of these sources to this port of the server, in its family.
    fn open(lab: &Lab, sources: &[SocketAddr], port: u16) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, mut threads, mut answers) = (Seen::default(), Vec::new(), Vec::new());
        for target in lab.server_addresses {
            let socket = lab.server.run(|| Ok(UdpSocket::bind((target, port))?))?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            let (stop, seen) = (stop.clone(), seen.clone());
            threads.push(thread::spawn(move || {
                while !stop.load(Relaxed) {
                    let mut datagram = [0; 16];
                    let Some((_, from)) = received(socket.recv_from(&mut datagram))? else { continue };
                    if let Ok(mut seen) = seen.lock() {
                        seen.entry(datagram[0]).or_default().insert(from);
                    }
                    // Who is away for a moment asks again.
                    let _ = socket.send_to(&datagram, from);
                }
                Ok(())
            }));
        }
        for (number, &source) in sources.iter().enumerate() {
            let socket = lab.client.run(|| Ok(UdpSocket::bind(source)?))?;
            socket.connect((lab.server_addresses[usize::from(source.is_ipv6())], port))?;
            socket.set_read_timeout(Some(PAUSE))?;
            let (stop, came) = (stop.clone(), Arc::new(AtomicU64::new(0)));
            answers.push(came.clone());
            threads.push(thread::spawn(move || {
                let mut datagram = [number as u8; 16];
                while !stop.load(Relaxed) {
                    let _ = socket.send(&datagram);
                    if received(socket.recv(&mut datagram))?.is_some() {
                        ensure!(
                            datagram == [number as u8; 16],
                            "{source} got another's answer: {datagram:?}"
                        );
                        came.fetch_add(1, Relaxed);
                        thread::sleep(PAUSE);
                    }
                }
                Ok(())
            }));
        }
        Ok(Self { stop, seen, answers, threads })
    }

    /// Waits until each client got an answer to something that it sent from now on.
    fn answered(&self) -> Result<()> {
        ensure!(!self.threads.iter().any(JoinHandle::is_finished), "a client or a server has ended");
        for (number, answers) in self.answers.iter().enumerate() {
            // The first two may be answers to what was sent before.
            let wanted = answers.load(Relaxed) + 3;
            wait_for(&format!("answers to client {number}"), LIMIT, || {
                (answers.load(Relaxed) >= wanted).then_some(())
            })?;
        }
        Ok(())
    }

    fn seen(&self) -> BTreeMap<u8, BTreeSet<SocketAddr>> {
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    fn finish(self) -> Result<()> {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().try_for_each(join)
    }
}

/// Nothing, when it was a matter of time: refusals of a moment ago among them.
fn received<T>(outcome: std::io::Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(received) => Ok(Some(received)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::WouldBlock
                    | ErrorKind::TimedOut
                    | ErrorKind::Interrupted
                    | ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[test]
fn connections_and_bindings_live_through_reloads_and_kills() {
    let mut namespaces = Vec::new();
    in_lab(Shape::router(), |lab| {
        namespaces.extend([&lab.client, &lab.router, &lab.server].map(|part| part.name().to_owned()));
        lab.client.ip("addr add 10.1.0.66/24 dev eth0")?;
        lab.client.ip("addr add fd01::66/64 dev eth0 nodad")?;
        let mut control = Control::start(lab, &edge(false))?;
        for target in lab.server_addresses {
            ensure!(ping(&lab.client, target, 3)?.all(), "no way to {target}");
        }
        // Two of one port in each family: one of them gets another port, which nobody could guess.
        let sources = ["10.1.0.2:5000", "10.1.0.66:5000", "[fd01::2]:5000", "[fd01::66]:5000"];
        let sources: Vec<SocketAddr> =
            sources.iter().map(|source| source.parse()).collect::<Result<_, _>>()?;
        let bindings = Bindings::open(lab, &sources, 7001)?;
        bindings.answered()?;
        let connections =
            lab.server_addresses.map(|target| Connection::open(lab, SocketAddr::new(target, 7000)));
        let [v4, v6] = connections;
        let connections = [v4?, v6?];
        connections.iter().try_for_each(Connection::moves)?;
        let first = bindings.seen();
        ensure!(first.len() == sources.len() && first.values().all(|seen| seen.len() == 1), "{first:?}");
        let outside: BTreeSet<_> = first.values().flatten().collect();
        ensure!(outside.len() == sources.len(), "two clients share an external end: {first:?}");
        let own: [IpAddr; 2] = ["10.2.0.1".parse()?, "fd02::1".parse()?];
        ensure!(outside.iter().all(|end| own.contains(&end.ip())), "not translated: {first:?}");

        let mut reloads = 0;
        for round in 1..=KILLS {
            for _ in 0..RELOADS / KILLS {
                reloads += 1;
                control.apply(&edge(reloads % 2 == 1), &[]).with_context(|| format!("reload {reloads}"))?;
            }
            let killed = control.kill9_dataplane()?;
            control.wait_successor(killed)?;
            if round % (KILLS / CONTROL_KILLS) == 0 {
                control.kill9()?;
                control.revive()?;
                control.wait_ready()?;
            }
            let after = || format!("after {reloads} reloads and {round} kills");
            bindings.answered().with_context(after)?;
            for connection in &connections {
                connection.moves().with_context(after)?;
            }
            thread::sleep(REST);
        }
        ensure!(reloads == RELOADS, "{reloads} reloads");
        ensure!(bindings.seen() == first, "bindings changed: {first:?}, now {:?}", bindings.seen());
        bindings.finish()?;
        for (connection, own) in connections.into_iter().zip(own) {
            let (bytes, peer) = connection.finish()?;
            println!("{bytes} bytes went to and fro, from {peer}");
            ensure!(peer.ip() == own, "not translated: {peer}");
        }
        let books = control.balanced()?;
        println!("{} packets were in a dying worker's hands", books.lost_in_crashes());
        control.stop()?;
        drop(control);
        ensure!(lab.router.processes().is_empty(), "left in the router: {:?}", lab.router.processes());
        Ok(())
    });
    for name in namespaces {
        assert!(!Path::new("/run/netns").join(&name).exists(), "{name} was left");
    }
}
