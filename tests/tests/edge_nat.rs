//! The shipped edge on real traffic: who is inside reaches out, and outside gets in only where the configuration says so.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_tests::http::{Web, get};
use zsync_tests::iperf::Iperf;
use zsync_tests::ping::ping_with;
use zsync_tests::{Control, Lab, Namespace, Shape, in_lab, ping, wait_for};

/// The example, as it is shipped.
const EDGE: &str = include_str!("../../pipelines/examples/edge-nat.toml");

/// The web server inside.
const WEB: [&str; 2] = ["10.1.0.80:80", "[fd01::80]:80"];
/// The address of "wan".
const WAN: &str = "10.2.0.1";
/// What a stranger tries has not come by then.
const SILENCE: Duration = Duration::from_millis(300);

/// The example for the lab: the client is inside, the server outside, and knows no way to what is inside by IPv4.
fn edge(lab: &Lab) -> Result<String> {
    lab.server.ip("route del default")?;
    lab.client.ip("addr add 10.1.0.80/24 dev eth0")?;
    lab.client.ip("addr add fd01::80/64 dev eth0 nodad preferred_lft 0")?;
    Ok(EDGE
        .replace("\"eth2\"", "\"swap\"")
        .replace("\"eth1\"", "\"eth2\"")
        .replace("\"swap\"", "\"eth1\"")
        .replace("192.168.1.", "10.1.0.")
        .replace("2001:db8:1::", "fd01::"))
}

fn listen(at: &Namespace, address: impl Into<SocketAddr>) -> Result<TcpListener> {
    let address = address.into();
    let listener = at.run(|| TcpListener::bind(address).context("listening"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accepted(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    wait_for("a connection", Duration::from_secs(3), || listener.accept().ok())
}

fn connect(from: &Namespace, to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
    let to = to.into();
    let tried = from.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(1))));
    tried.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

fn bound(at: &Namespace, address: impl Into<SocketAddr>) -> Result<UdpSocket> {
    let address = address.into();
    at.run(|| UdpSocket::bind(address).context("binding"))
}

#[test]
fn who_is_inside_reaches_out_and_is_seen_with_the_routers_address() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &edge(lab)?)?;
        let [v4, v6] = lab.server_addresses;
        for target in [v4, v6] {
            let outcome = ping(&lab.client, target, 10)?;
            ensure!(outcome.all(), "{outcome:?}");
        }
        let seen: [IpAddr; 2] = [WAN.parse()?, lab.client_addresses[1]];
        for (target, seen) in [v4, v6].into_iter().zip(seen) {
            let listener = listen(&lab.server, (target, 7000))?;
            let mut client = connect(&lab.client, (target, 7000))?;
            let (mut server, peer) = accepted(&listener)?;
            ensure!(peer.ip() == seen, "{target} sees {peer}");
            let mut word = [0; 4];
            server.set_nonblocking(false)?;
            client.write_all(b"ping")?;
            server.read_exact(&mut word)?;
            server.write_all(b"pong")?;
            client.read_exact(&mut word)?;
            ensure!(&word == b"pong");

            let (socket, stranger) =
                (bound(&lab.server, (target, 7001))?, bound(&lab.server, (target, 7002))?);
            let client = bound(&lab.client, (lab.client_addresses[usize::from(target.is_ipv6())], 5000))?;
            for socket in [&socket, &stranger, &client] {
                socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            }
            client.send_to(b"ask", (target, 7001))?;
            let (_, peer) = socket.recv_from(&mut word)?;
            ensure!(peer.ip() == seen, "{target} sees {peer}");
            socket.send_to(b"told", peer)?;
            let (_, from) = client.recv_from(&mut word)?;
            ensure!(&word == b"told" && from == (target, 7001).into(), "{from}");

            // Another end than the one that was asked is nobody's business.
            let filtered = control.counts()?.dropped("filtered");
            stranger.send_to(b"spam", peer)?;
            client.set_read_timeout(Some(SILENCE))?;
            let got = client.recv_from(&mut word).map_err(|error| error.kind());
            ensure!(got == Err(ErrorKind::WouldBlock), "{got:?}");
            ensure!(control.counts()?.dropped("filtered") == filtered + 1, "{:?}", control.counts()?);
        }
        let iperf = Iperf::serve(lab)?;
        for target in [v4, v6] {
            for direction in [&[][..], &["-R"]] {
                let tcp = iperf.run(target, &[&["-t", "1"], direction].concat())?;
                let udp = iperf
                    .run(target, &[&["-t", "1", "-u", "-b", "30M", "-l", "1200"], direction].concat())?;
                println!("{target} {direction:?}: TCP {tcp:?}, UDP {udp:?}");
                ensure!(tcp.bits_per_second > 30e6, "{tcp:?}");
                ensure!(udp.bytes > 1 << 20 && udp.lost_percent < 1.0, "{udp:?}");
            }
        }
        for (packet, verdict) in [
            ("tcp 10.1.0.2:40000 -> 10.2.0.2:5201", "transmit by wan"),
            ("udp [fd01::2]:40000 -> [fd02::2]:53", "transmit by wan"),
            // A source that is not inside.
            ("tcp 10.7.0.2:40000 -> 10.2.0.2:5201", "drop: filtered"),
        ] {
            let explained = control.verdict("lan", packet)?;
            ensure!(explained == verdict, "{packet}: {explained}");
        }
        let books = control.balanced()?;
        ensure!(books.counts.tx() > 20_000, "{books:?}");
        Ok(())
    });
}

#[test]
fn icmp_errors_find_who_caused_them() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &edge(lab)?)?;
        // One hop further on, there is nobody.
        lab.server.sysctl("net/ipv4/ip_forward", "1")?;
        lab.server.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        for (family, behind, router, beyond) in
            [("-4", "10.9.0.0/24", "10.2.0.2", "10.2.0.99"), ("-6", "fd09::/64", "fd02::2", "fd02::99")]
        {
            lab.router.ip(&format!("{family} route add {behind} via {router}"))?;
            lab.server.ip(&format!("{family} route add {behind} via {beyond}"))?;
        }
        ensure!(ping(&lab.client, lab.server_addresses[0], 2)?.all(), "no way");
        for (target, hops) in [
            (
                "10.9.0.1",
                [
                    ("1", "From 10.1.0.1 icmp_seq=1 Time to live"),
                    ("2", "From 10.2.0.2 icmp_seq=1 Time to live"),
                ],
            ),
            (
                "fd09::1",
                [
                    ("1", "From fd01::1 icmp_seq=1 Time exceeded"),
                    ("2", "From fd02::2 icmp_seq=1 Time exceeded"),
                ],
            ),
        ] {
            for (ttl, wanted) in hops {
                let outcome = wait_for(wanted, Duration::from_secs(3), || {
                    let outcome = ping_with(&lab.client, target.parse().ok()?, 1, &["-t", ttl]).ok()?;
                    outcome.text.contains(wanted).then_some(outcome)
                });
                ensure!(
                    outcome.is_ok(),
                    "{target} in {ttl}: {:?}",
                    ping_with(&lab.client, target.parse()?, 1, &["-t", ttl])
                );
            }
        }
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            let socket = bound(&lab.client, (client, 0))?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            socket.connect((server, 4444))?;
            socket.send(b"is anybody there?")?;
            let told = socket.recv(&mut [0; 4]).map_err(|error| error.kind());
            ensure!(told == Err(ErrorKind::ConnectionRefused), "port unreachable from {server}: {told:?}");
            let told = connect(&lab.client, (server, 4444)).map_err(|error| error.kind());
            ensure!(told.is_err_and(|kind| kind == ErrorKind::ConnectionRefused), "a reset from {server}");
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn outside_gets_in_where_a_rule_says_so_and_nowhere_else() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &edge(lab)?)?;
        let [web4, web6] = WEB.map(|address| address.parse::<SocketAddr>());
        let (web4, web6) = (web4?, web6?);
        let servers =
            [Web::serve(lab, &lab.client, web4, "inside")?, Web::serve(lab, &lab.client, web6, "inside")?];
        let outside = SocketAddr::new(WAN.parse()?, 8080);
        // By the forward, from outside and from inside; by IPv6 at its own address.
        for (from, at) in [(&lab.server, outside), (&lab.client, outside), (&lab.server, web6)] {
            let page = get(from, at)?;
            ensure!(page == "inside", "{at}: {page}");
        }
        ensure!(servers[0].clients() == ["10.2.0.2", WAN], "{:?}", servers[0].clients());
        ensure!(servers[1].clients() == ["fd02::2"], "{:?}", servers[1].clients());
        for (client, server) in [(WAN.parse()?, &lab.server), (lab.client_addresses[1], &lab.server)] {
            let outcome = ping(server, client, 5)?;
            ensure!(outcome.all(), "{outcome:?}");
        }

        let before = control.counts()?;
        let targets: [SocketAddr; 2] =
            [SocketAddr::new(WAN.parse()?, 9), SocketAddr::new(lab.client_addresses[1], 9)];
        for target in targets {
            let stranger =
                bound(&lab.server, (if target.is_ipv4() { "0.0.0.0" } else { "::" }.parse::<IpAddr>()?, 0))?;
            for _ in 0..50 {
                stranger.send_to(b"let me in", target)?;
            }
            let told = connect(&lab.server, target).map_err(|error| error.kind());
            ensure!(told.is_err_and(|kind| kind == ErrorKind::TimedOut), "{target} is not silent");
        }
        let after = control.counts()?;
        let filtered = after.dropped("filtered") - before.dropped("filtered");
        // And at least one SYN each.
        ensure!((102..=106).contains(&filtered), "{filtered} filtered: {after:?}");
        ensure!(after.dropped_in_all() - before.dropped_in_all() == filtered, "{before:?} {after:?}");
        ensure!(after.punted() == before.punted(), "the host saw something of it: {before:?} {after:?}");

        for (packet, verdict) in [
            ("tcp 10.2.0.2:40000 -> 10.2.0.1:8080", "transmit by lan"),
            ("tcp [fd02::2]:40000 -> [fd01::80]:80", "transmit by lan"),
            ("tcp 10.2.0.2:40000 -> 10.2.0.1:9", "drop: filtered"),
            ("udp [fd02::2]:40000 -> [fd01::2]:9", "drop: filtered"),
            ("icmp 10.2.0.2 -> 10.2.0.1", "to the kernel"),
        ] {
            let explained = control.verdict("wan", packet)?;
            ensure!(explained == verdict, "{packet}: {explained}");
        }
        let hairpin = control.verdict("lan", "tcp 10.1.0.2:40000 -> 10.2.0.1:8080")?;
        ensure!(hairpin == "transmit by lan", "{hairpin}");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn the_host_itself_reaches_out_too() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &edge(lab)?)?;
        for target in lab.server_addresses {
            let outcome = ping(&lab.router, target, 5)?;
            ensure!(outcome.all(), "{outcome:?}");
            let listener = listen(&lab.server, (target, 7000))?;
            let mut client = connect(&lab.router, (target, 7000))?;
            let (mut server, _) = accepted(&listener)?;
            server.set_nonblocking(false)?;
            for socket in [&client, &server] {
                socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            }
            let mut word = [0; 4];
            for _ in 0..3 {
                client.write_all(b"ping")?;
                server.read_exact(&mut word)?;
                server.write_all(b"pong")?;
                client.read_exact(&mut word)?;
                ensure!(&word == b"pong");
            }
        }
        // Nothing of it is kept where its other half is never seen.
        let counts = control.balanced()?.counts;
        ensure!(counts.punted() >= 20 && counts.dropped_in_all() == 0, "{counts:?}");
        Ok(())
    });
}
