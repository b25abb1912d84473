//! The shipped filter in front of a service, on real traffic: what is for the service passes, the rest is refused as it is said.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_tests::http::{Web, get};
use zsync_tests::ping::ping_with;
use zsync_tests::{Control, Lab, Namespace, Shape, in_lab, ping};

/// The example, as it is shipped: its devices are the lab's.
const FILTER: &str = include_str!("../../pipelines/examples/inline-filter.toml");

/// Who is on the list, in the lab.
const BLOCKED: [&str; 2] = ["10.1.0.66", "fd01::66"];

/// The example for the lab: the service is the server.
fn filter(lab: &Lab) -> Result<String> {
    lab.client.ip(&format!("addr add {}/24 dev eth0", BLOCKED[0]))?;
    // Nobody but who asks for it sends from there.
    lab.client.ip(&format!("addr add {}/64 dev eth0 nodad preferred_lft 0", BLOCKED[1]))?;
    Ok(FILTER
        .replace("203.0.113.0/24", "10.2.0.0/24")
        .replace("2001:db8:80::/64", "fd02::/64")
        .replace("198.51.100.0/24", "10.1.0.66/32")
        .replace("2001:db8:bad::/48", "fd01::66/128"))
}

fn connect(from: &Namespace, to: SocketAddr) -> Result<(), ErrorKind> {
    let tried = from.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_millis(800))));
    tried.map_err(|_| ErrorKind::Other)?.map(drop).map_err(|error| error.kind())
}

/// What a datagram is answered with.
fn ask(from: &Namespace, source: IpAddr, to: SocketAddr) -> Result<Result<Vec<u8>, ErrorKind>> {
    let socket = from.run(|| Ok(UdpSocket::bind((source, 0))?))?;
    socket.set_read_timeout(Some(Duration::from_millis(800)))?;
    socket.connect(to)?;
    socket.send(b"ask")?;
    let mut answer = [0; 64];
    Ok(match socket.recv(&mut answer) {
        Ok(len) => Ok(answer[..len].to_vec()),
        Err(error) => Err(error.kind()),
    })
}

#[test]
fn what_is_for_the_service_passes_and_the_rest_is_refused() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &filter(lab)?)?;
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            let outcome = ping(&lab.client, server, 5)?;
            ensure!(outcome.all(), "{outcome:?}");
            let _web = Web::serve(lab, &lab.server, (server, 80).into(), "served")?;
            let page = get(&lab.client, (server, 80).into())?;
            ensure!(page == "served", "{server}: {page}");
            let echo = lab.server.run(|| Ok(UdpSocket::bind((server, 443))?))?;
            std::thread::scope(|scope| {
                let answering = scope.spawn(|| -> Result<()> {
                    echo.set_read_timeout(Some(Duration::from_secs(3)))?;
                    let (_, peer) = echo.recv_from(&mut [0; 64])?;
                    echo.send_to(b"answer", peer)?;
                    Ok(())
                });
                let answer = ask(&lab.client, client, (server, 443).into())?;
                ensure!(answer.as_deref() == Ok(b"answer"), "{answer:?}");
                answering.join().expect("does not panic")
            })?;
            // Somebody listens there, and the filter is in front.
            let hidden =
                lab.server.run(|| Ok((TcpListener::bind((server, 22))?, UdpSocket::bind((server, 53))?)))?;
            let before = control.counts()?;
            let told = connect(&lab.client, (server, 22).into());
            ensure!(told == Err(ErrorKind::ConnectionRefused), "TCP: {told:?}");
            let told = ask(&lab.client, client, (server, 53).into())?;
            ensure!(told == Err(ErrorKind::ConnectionRefused), "UDP: {told:?}");
            // The answers are the filter's own: nothing of it was forwarded, and each left by the port where it came from.
            let after = control.counts()?;
            let answered = after.tx() - before.tx();
            ensure!((2..=4).contains(&answered), "{before:?} {after:?}");
            hidden.1.set_nonblocking(true)?;
            ensure!(hidden.1.recv(&mut [0; 4]).is_err(), "a refused datagram came through");
        }
        // The service begins nothing, and is not told so.
        let before = control.counts()?;
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            let told = ask(&lab.server, server, (client, 9).into())?;
            ensure!(told == Err(ErrorKind::WouldBlock), "{told:?}");
        }
        let after = control.counts()?;
        ensure!(after.dropped("filtered") - before.dropped("filtered") == 2, "{before:?} {after:?}");
        for (input, packet, verdict) in [
            ("outside", "tcp 10.1.0.2:40000 -> 10.2.0.2:80", "transmit by inside"),
            ("outside", "udp [fd01::2]:40000 -> [fd02::2]:443", "transmit by inside"),
            ("outside", "tcp 10.1.0.2:40000 -> 10.2.0.2:22", "transmit by outside"),
            ("outside", "tcp 10.1.0.66:40000 -> 10.2.0.2:80", "drop: filtered"),
            ("outside", "tcp [fd01::66]:40000 -> [fd02::2]:80", "drop: filtered"),
            ("inside", "tcp 10.2.0.2:80 -> 10.1.0.2:40000 flags=syn,ack", "transmit by outside"),
            ("inside", "tcp 10.2.0.2:80 -> 10.1.0.2:40000 flags=syn", "drop: filtered"),
        ] {
            let explained = control.verdict(input, packet)?;
            ensure!(explained == verdict, "{packet}: {explained}");
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn who_is_on_the_list_gets_no_answer_and_lists_change_under_traffic() {
    in_lab(Shape::router(), |lab| {
        let config = filter(lab)?;
        let control = Control::start(lab, &config)?;
        for (blocked, server) in BLOCKED.into_iter().zip(lab.server_addresses) {
            ensure!(ping(&lab.client, server, 2)?.all(), "no way");
            let before = control.counts()?.dropped("filtered");
            let outcome = ping_with(&lab.client, server, 5, &["-i", "0.02", "-I", blocked])?;
            ensure!(outcome.received == 0 && !outcome.text.contains("From"), "{outcome:?}");
            let dropped = control.counts()?.dropped("filtered") - before;
            ensure!(dropped == 5, "{dropped} of 5 packets were filtered");
        }
        // A connection that was there before goes on while another list comes into force.
        let server = SocketAddr::new(lab.server_addresses[1], 443);
        let listener = lab.server.run(|| Ok(TcpListener::bind(server)?))?;
        let mut client = lab
            .client
            .run(|| TcpStream::connect_timeout(&server, Duration::from_secs(2)).context("connecting"))?;
        let (mut served, peer) = listener.accept()?;
        ensure!(peer.ip() == lab.client_addresses[1], "{peer}");
        let mut exchange = || -> Result<()> {
            let mut word = [0; 4];
            client.write_all(b"ping")?;
            served.read_exact(&mut word)?;
            served.write_all(b"pong")?;
            client.read_exact(&mut word)?;
            ensure!(&word == b"pong");
            Ok(())
        };
        exchange()?;
        let applied = control.apply(&config.replace("10.1.0.66/32", "10.1.0.67/32"), &[])?;
        ensure!(applied["respawned"] == false, "{applied}");
        exchange()?;
        let outcome = ping_with(&lab.client, lab.server_addresses[0], 5, &["-i", "0.02", "-I", BLOCKED[0]])?;
        ensure!(outcome.all(), "no longer on the list: {outcome:?}");
        control.balanced()?;
        Ok(())
    });
}

/// A wire that lets the client ask for pages and pings, and refuses the rest.
const WIRE: &str = r#"
[port.left]
netdev = "eth1"
promiscuous = true
[port.right]
netdev = "eth2"
promiscuous = true
[pipeline.wire]
input  = ["left", "right"]
stages = ["filter.guard", "patch.wire"]
[patch.wire]
pairs = [["left", "right"]]
[filter.guard]
default = "drop"
rules = [
  { accept = true, state = ["established", "related"] },
  { accept = true, protocol = "icmpv6", icmp = "neighbour-solicitation" },
  { accept = true, protocol = "icmpv6", icmp = "neighbour-advertisement" },
  { accept = true, input = "left", protocol = "icmp", icmp = "echo-request" },
  { accept = true, input = "left", protocol = "icmpv6", icmp = "echo-request" },
  { accept = true, input = "left", protocol = "tcp", to-port = 80 },
  { reject = true, input = "left", protocol = "tcp" },
]
"#;

#[test]
fn a_filter_on_a_wire_judges_the_packets_and_lets_arp_through() {
    in_lab(Shape::wire(), |lab| {
        let control = Control::start(lab, WIRE)?;
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            // Nobody knows anybody's station yet: ARP and neighbour discovery come first.
            ensure!(ping(&lab.client, server, 5)?.all(), "no way to {server}");
            let _web = Web::serve(lab, &lab.server, (server, 80).into(), "served")?;
            let page = get(&lab.client, (server, 80).into())?;
            ensure!(page == "served", "{server}: {page}");
            let _hidden = lab.server.run(|| Ok(TcpListener::bind((server, 22))?))?;
            let told = connect(&lab.client, (server, 22).into());
            ensure!(told == Err(ErrorKind::ConnectionRefused), "{told:?}");
            // The server begins nothing.
            let before = control.counts()?.dropped("filtered");
            let told = ask(&lab.server, server, (client, 9).into())?;
            ensure!(told == Err(ErrorKind::WouldBlock), "{told:?}");
            ensure!(control.counts()?.dropped("filtered") > before, "not by the filter");
        }
        ensure!(control.counts()?.dropped("not-ip") == 0, "ARP passes");
        lab.client.ip("neigh flush all")?;
        let closed = WIRE.replace("default = \"drop\"", "default = \"drop\"\nnon-ip = \"drop\"");
        control.apply(&closed, &[])?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 2)?.received == 0, "without ARP nobody is found");
        ensure!(control.counts()?.dropped("not-ip") > 0, "ARP was let through");
        control.balanced()?;
        Ok(())
    });
}
