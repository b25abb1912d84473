//! Two workers share a stateful edge: whichever of them the kernel gives a packet to, the owner of its flow deals with it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use zsync_tests::ping::ping_with;
use zsync_tests::{Control, Lab, Namespace, Shape, in_lab, ping};

/// Clients of each family, and so flows of each kind.
const CLIENTS: usize = 25;
/// Long enough that answers which are not lost are there.
const PATIENCE: Duration = Duration::from_secs(2);

const EDGE: &str = r#"
[engine]
workers = 2
[port.lan]
netdev = "eth1"
queues = 2
[port.wan]
netdev = "eth2"
queues = 2
[pipeline.edge]
input  = ["lan", "wan"]
stages = ["filter.edge", "track.flows", "nat.out", "route.main"]
[filter.edge]
default = "drop"
rules = [
    { accept = true, state = ["established", "related"] },
    { accept = true, input = "lan", state = "new" },
]
[track.flows]
loose = false
[nat.out]
masquerade = [{ output = "wan" }]
[route.main]
"#;

/// Threads that answer what comes to some sockets, until they are dropped.
struct Echoes {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echoes {
    /// At this port of each address, over UDP and TCP; what comes over TCP is answered line by line.
    fn open(place: &Namespace, addresses: &[IpAddr], port: u16) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for &address in addresses {
            let socket = place.run(|| Ok(UdpSocket::bind((address, port))?))?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            let over = stop.clone();
            threads.push(thread::spawn(move || {
                let mut datagram = [0; 9000];
                while !over.load(Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut datagram) {
                        let _ = socket.send_to(&datagram[..length], from);
                    }
                }
            }));
            let listener = place.run(|| Ok(TcpListener::bind((address, port))?))?;
            listener.set_nonblocking(true)?;
            let over = stop.clone();
            threads.push(thread::spawn(move || {
                while !over.load(Relaxed) {
                    match listener.accept() {
                        // Each to its end: it comes with the test's, at the latest.
                        Ok((mut stream, _)) => drop(thread::spawn(move || {
                            let _ = stream.set_nonblocking(false);
                            let mut back = stream.try_clone()?;
                            std::io::copy(&mut stream, &mut back)
                        })),
                        Err(_) => thread::sleep(Duration::from_millis(2)),
                    }
                }
            }));
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for Echoes {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sends this to and fro between each client and the server of its family, over UDP, in `rounds`; what was not answered.
fn datagrams(
    lab: &Lab,
    clients: &[IpAddr],
    servers: [IpAddr; 2],
    (port, length, rounds): (u16, usize, usize),
) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for &client in clients {
        let socket = lab.client.run(|| Ok(UdpSocket::bind((client, 0))?))?;
        socket.connect((servers[usize::from(client.is_ipv6())], port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        for round in 0..rounds {
            let sent: Vec<u8> =
                (0..length).map(|place| (place * 7 + round + usize::from(port)) as u8).collect();
            socket.send(&sent)?;
            let mut came = vec![0; length + 1];
            match socket.recv(&mut came) {
                Ok(count) => ensure!(came[..count] == sent, "{client}: something else came back"),
                Err(error) => missing.push(format!("{client}, round {round}: {error}")),
            }
        }
    }
    Ok(missing)
}

/// Holds a connection of each client open, and lets all of them speak in turn.
fn connections(lab: &Lab, clients: &[IpAddr], servers: [IpAddr; 2], port: u16) -> Result<()> {
    let open = |client: &IpAddr| -> Result<TcpStream> {
        let server = SocketAddr::new(servers[usize::from(client.is_ipv6())], port);
        let stream = lab.client.connect(*client, server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let mut streams = clients.iter().map(open).collect::<Result<Vec<_>>>()?;
    for round in 0..5u8 {
        for (number, stream) in streams.iter_mut().enumerate() {
            let sent = [number as u8 ^ round; 3000];
            stream.write_all(&sent)?;
            let mut came = [0; 3000];
            stream.read_exact(&mut came).with_context(|| format!("{}, round {round}", clients[number]))?;
            ensure!(came == sent, "{}: something else came back", clients[number]);
        }
    }
    Ok(())
}

/// What each client hears of a port that nobody listens at; those that heard nothing.
fn refused(lab: &Lab, clients: &[IpAddr]) -> Result<Vec<IpAddr>> {
    let mut silent = Vec::new();
    for &client in clients {
        let socket = lab.client.run(|| Ok(UdpSocket::bind((client, 0))?))?;
        socket.connect((lab.server_addresses[usize::from(client.is_ipv6())], 7999))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        // A host says a thousand times a second that nobody listens, and 50 times at once (net.ipv4.icmp_msgs_burst).
        thread::sleep(Duration::from_millis(5));
        socket.send(b"anybody?")?;
        match socket.recv(&mut [0; 9]) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                silent.push(client);
            }
            other => return Err(anyhow!("{client}: {other:?}")),
        }
    }
    Ok(silent)
}

/// The workers that have received something.
fn busy_workers(control: &Control<'_>) -> Result<usize> {
    let shown = control.ctl(&["show", "workers"])?;
    let workers = shown.as_array().with_context(|| format!("{shown}"))?;
    let received = |worker: &&serde_json::Value| worker["rx"].as_u64().is_some_and(|rx| rx > 0);
    println!("{shown}");
    Ok(workers.iter().filter(received).count())
}

#[test]
fn both_ways_of_a_translated_flow_have_one_owner() {
    in_lab(Shape::router().queues(2), |lab| {
        lab.server.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        lab.server.sysctl("net/ipv6/icmp/ratelimit", "0")?;
        let clients = lab.more_clients(CLIENTS)?;
        let control = Control::start(lab, EDGE)?;
        for target in lab.server_addresses {
            ensure!(ping(&lab.client, target, 3)?.all(), "no way to {target}");
        }
        let servers = lab.server_addresses;
        let _echoes = Echoes::open(&lab.server, &servers, 7000)?;
        let mut faults = Vec::new();
        for (what, length, rounds) in [("whole", 100, 5), ("in fragments", 5000, 3)] {
            let missing = datagrams(lab, &clients, servers, (7000, length, rounds))?;
            faults.extend(missing.iter().map(|fault| format!("{what}: {fault}")));
        }
        if let Err(error) = connections(lab, &clients, servers, 7000) {
            faults.push(format!("TCP: {error:#}"));
        }
        faults.extend(refused(lab, &clients)?.iter().map(|client| format!("{client} was not told")));
        for target in servers {
            let outcome = ping_with(&lab.client, target, 5, &["-i", "0.02", "-s", "4000"])?;
            if !outcome.all() {
                faults.push(format!("{outcome:?}"));
            }
        }
        let books = control.balanced()?;
        let counts = &books.counts;
        let (over, rx) = (counts.total("handed-over"), counts.rx());
        println!("{over} of {rx} packets were handed over; dropped: {:?}", counts.drops);
        ensure!(faults.is_empty(), "{} faults: {faults:#?}; {:?}", faults.len(), counts.drops);
        ensure!(busy_workers(&control)? == 2, "one worker had nothing to do");
        ensure!(over > rx / 10, "of {rx} packets only {over} came to another worker than their flow's");
        Ok(())
    });
}
