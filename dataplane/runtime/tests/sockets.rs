//! What sockets of datagrams and streams can be told to do, on every Io.

mod every;

use every::on_every_io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use zsync_runtime::{
    Details, Driver, ErrorKind, Half, Io, SocketOption, TcpListener, TcpStream, UdpSocket, all,
};

const FAMILIES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// Loopback's number, on every Linux.
const LOOPBACK: u32 = 1;

fn any_port(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 0)
}

fn unspecified(ip: IpAddr) -> IpAddr {
    if ip.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

fn errno(kind: ErrorKind) -> Option<i32> {
    if let ErrorKind::System(error) = kind { Some(error.raw_os_error()) } else { None }
}

async fn receive<D: Driver>(io: &Io<D>, socket: &UdpSocket<D>) -> (SocketAddr, Details, Vec<u8>) {
    let received = socket.receive_with(Vec::with_capacity(65_536));
    io.timeout(Duration::from_secs(5), received).await.expect("it came").unwrap()
}

async fn an_address_is_shared_by_those_who_agree<D: Driver>(io: Io<D>) {
    for ip in FAMILIES {
        let sharing = [SocketOption::ReuseAddress(true)];
        let first = UdpSocket::bind_with(&io, any_port(ip), &sharing).unwrap();
        let address = first.address().unwrap();
        let alone = UdpSocket::bind(&io, address).unwrap_err();
        assert_eq!(errno(alone.kind()), Some(libc::EADDRINUSE), "{alone}");
        let second = UdpSocket::bind_with(&io, address, &sharing).unwrap();
        assert_eq!(second.address().unwrap(), address);
    }
}

/// Where there are groups: loopback; for the kernel's IPv6 an interface with a link-local address.
fn multicast_interface(ip: IpAddr, simulated: bool) -> Option<u32> {
    if simulated || ip.is_ipv4() {
        return Some(LOOPBACK);
    }
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let local = addresses.lines().find(|line| line.starts_with("fe80"))?;
    u32::from_str_radix(local.split_whitespace().nth(1)?, 16).ok()
}

async fn a_group_is_heard_from_join_to_leave<D: Driver>(io: Io<D>) {
    let groups: [IpAddr; 2] = ["239.3.2.1".parse().unwrap(), "ff02::3:201".parse().unwrap()];
    for (ip, group) in FAMILIES.into_iter().zip(groups) {
        let Some(interface) = multicast_interface(ip, D::SIMULATED) else {
            assert!(std::env::var("CI").is_err(), "no interface has multicast of IPv6");
            println!("SKIPPED: no interface has multicast of IPv6");
            continue;
        };
        let sharing = [SocketOption::ReuseAddress(true), SocketOption::Join(group, interface)];
        let first = UdpSocket::bind_with(&io, any_port(unspecified(ip)), &sharing).unwrap();
        let port = first.address().unwrap().port();
        let second = UdpSocket::bind_with(&io, SocketAddr::new(unspecified(ip), port), &sharing).unwrap();
        let options = [SocketOption::MulticastInterface(interface), SocketOption::MulticastHops(2)];
        let sender = UdpSocket::bind_with(&io, any_port(unspecified(ip)), &options).unwrap();
        sender.send(vec![1], SocketAddr::new(group, port)).await.unwrap();
        for socket in [&first, &second] {
            assert_eq!(receive(&io, socket).await.2, [1], "each that joined gets one");
        }
        first.set(SocketOption::Leave(group, interface)).unwrap();
        let again = first.set(SocketOption::Leave(group, interface)).unwrap_err();
        assert_eq!(errno(again.kind()), Some(libc::EADDRNOTAVAIL), "{again}");
        second.set(SocketOption::Join(group, interface)).unwrap_err();
        second.set(SocketOption::Leave(ip, interface)).unwrap_err();

        // What is not to loop back is heard by nobody here; but loopback's own device brings back all that it sends.
        sender.set(SocketOption::MulticastLoop(false)).unwrap();
        if D::SIMULATED || interface != LOOPBACK {
            sender.send(vec![2], SocketAddr::new(group, port)).await.unwrap();
        }
        sender.set(SocketOption::MulticastLoop(true)).unwrap();
        sender.send(vec![3], SocketAddr::new(group, port)).await.unwrap();
        assert_eq!(receive(&io, &second).await.2, [3]);
    }
}

async fn broadcast_has_to_be_allowed<D: Driver>(io: Io<D>) {
    let all = [0, 1].map(|_| any_port(Ipv4Addr::UNSPECIFIED.into()));
    let [sender, receiver] = all.map(|address| UdpSocket::bind(&io, address).unwrap());
    let to = SocketAddr::new([127, 255, 255, 255].into(), receiver.address().unwrap().port());
    let error = sender.send(vec![1], to).await.unwrap_err();
    assert_eq!(errno(error.kind()), Some(libc::EACCES), "{error}");
    sender.set(SocketOption::Broadcast(true)).unwrap();
    sender.send(vec![2], to).await.unwrap();
    assert_eq!(receive(&io, &receiver).await.2, [2]);
}

async fn the_traffic_class_is_set_and_told<D: Driver>(io: Io<D>) {
    for ip in FAMILIES {
        let tells = [SocketOption::ReceiveTrafficClass(true)];
        let receiver = UdpSocket::bind_with(&io, any_port(ip), &tells).unwrap();
        let sender = UdpSocket::bind(&io, any_port(ip)).unwrap();
        let to = receiver.address().unwrap();
        sender.send(vec![0], to).await.unwrap();
        assert_eq!(receive(&io, &receiver).await.1.traffic_class, Some(0));
        sender.set(SocketOption::TrafficClass(0xb8)).unwrap();
        sender.send(vec![0], to).await.unwrap();
        assert_eq!(receive(&io, &receiver).await.1.traffic_class, Some(0xb8));
        let details = Details { traffic_class: Some(0x28), ..Details::default() };
        sender.send_with(vec![0], to, details).await.unwrap();
        assert_eq!(receive(&io, &receiver).await.1, details, "and nothing else");
        receiver.set(SocketOption::ReceiveTrafficClass(false)).unwrap();
        sender.send(vec![0], to).await.unwrap();
        assert_eq!(receive(&io, &receiver).await.1, Details::default());
    }
}

async fn the_local_address_is_told_and_chosen<D: Driver>(io: Io<D>) {
    for (ip, other) in FAMILIES.into_iter().zip([IpAddr::V4([127, 0, 0, 2].into()), FAMILIES[1]]) {
        let tells = [SocketOption::ReceivePacketInfo(true)];
        let receiver = UdpSocket::bind_with(&io, any_port(unspecified(ip)), &tells).unwrap();
        let sender = UdpSocket::bind(&io, any_port(ip)).unwrap();
        let port = receiver.address().unwrap().port();
        sender.send(vec![1], SocketAddr::new(other, port)).await.unwrap();
        let (from, details, _) = receive(&io, &receiver).await;
        assert_eq!((details.local, details.interface), (Some(other), LOOPBACK));
        // The answer comes from where the question went.
        receiver.send_with(vec![2], from, details).await.unwrap();
        let (from, nothing, _) = receive(&io, &sender).await;
        assert_eq!((from, nothing), (SocketAddr::new(other, port), Details::default()));

        let wrong = Details { local: Some(FAMILIES[usize::from(ip.is_ipv4())]), ..details };
        let to = sender.address().unwrap();
        // (A socket of IPv6 takes one of IPv4 for a mapped one, which it does not have either.)
        receiver.send_with(vec![3], to, wrong).await.unwrap_err();
    }
}

async fn a_buffer_is_sent_as_its_segments<D: Driver>(io: Io<D>) {
    for ip in FAMILIES {
        let [sender, receiver] = [0, 1].map(|_| UdpSocket::bind(&io, any_port(ip)).unwrap());
        let to = receiver.address().unwrap();
        let bytes: Vec<u8> = (0..950_u32).map(|at| (at / 100) as u8).collect();
        let segments = Details { segment: Some(100), ..Details::default() };
        assert_eq!(sender.send_with(bytes.clone(), to, segments).await.unwrap(), bytes);
        for part in bytes.chunks(100) {
            assert_eq!(receive(&io, &receiver).await.2, part);
        }
        // A buffer shorter than a segment is one datagram; and so is none.
        for length in [99, 0] {
            sender.send_with(vec![9; length], to, segments).await.unwrap();
            assert_eq!(receive(&io, &receiver).await.2, vec![9; length]);
        }
        let single = Details { segment: Some(1), ..segments };
        let error = sender.send_with(vec![0; 200], to, single).await.unwrap_err();
        assert_eq!((error.operation(), errno(error.kind())), ("send", Some(libc::EINVAL)), "{error}");
        // Nor are segments a way to send more bytes than one datagram may have.
        for whole in [Details { segment: Some(2000), ..segments }, Details::default()] {
            let error = sender.send_with(vec![0; 65_536], to, whole).await.unwrap_err();
            assert_eq!(errno(error.kind()), Some(libc::EMSGSIZE), "{error}");
        }
        let error = sender.send(vec![0; 65_536], to).await.unwrap_err();
        assert_eq!(errno(error.kind()), Some(libc::EMSGSIZE), "{error}");
    }
}

async fn joined_datagrams_say_where_they_part<D: Driver>(io: Io<D>) {
    for ip in FAMILIES {
        let joins = [SocketOption::ReceiveSegments(true)];
        let receiver = UdpSocket::bind_with(&io, any_port(ip), &joins).unwrap();
        let sender = UdpSocket::bind(&io, any_port(ip)).unwrap();
        let bytes: Vec<u8> = (0..4_250_u32).map(|at| (at / 1000) as u8).collect();
        let segments = Details { segment: Some(1000), ..Details::default() };
        sender.send_with(bytes.clone(), receiver.address().unwrap(), segments).await.unwrap();
        let mut parts = Vec::new();
        while parts.len() < 5 {
            let (_, details, joined) = receive(&io, &receiver).await;
            // A simulation's network may have them come one by one.
            assert!(details.segment.is_some() || D::SIMULATED);
            let segment = details.segment.map_or(joined.len(), usize::from);
            parts.extend(joined.chunks(segment).map(<[u8]>::to_vec));
        }
        assert_eq!(parts, bytes.chunks(1000).map(<[u8]>::to_vec).collect::<Vec<_>>());
        // What came joined goes back as it came, by one call.
        let echo = receiver.address().unwrap();
        sender.set(SocketOption::ReceiveSegments(true)).unwrap();
        sender.send_with(vec![7; 300], echo, Details { segment: Some(100), ..segments }).await.unwrap();
        let (mut there, mut back) = (0, 0);
        while there < 300 {
            let (from, details, joined) = receive(&io, &receiver).await;
            there += joined.len();
            let details = Details { segment: details.segment, ..Details::default() };
            receiver.send_with(joined, from, details).await.unwrap();
        }
        while back < 300 {
            back += receive(&io, &sender).await.2.len();
        }
        assert_eq!(back, 300);
    }
}

async fn streams_take_their_options<D: Driver>(io: Io<D>) {
    for ip in FAMILIES {
        let options = [SocketOption::ReuseAddress(true), SocketOption::FastOpen(16)];
        let listener = TcpListener::bind_with(&io, any_port(ip), 2, &options).unwrap();
        let keep_alive = SocketOption::KeepAliveAfter {
            idle: Duration::from_secs(5),
            interval: Duration::from_secs(1),
            probes: 3,
        };
        let options = [SocketOption::FastOpenConnect(true), SocketOption::NoDelay(true), keep_alive];
        let client = TcpStream::connect_with(&io, listener.address().unwrap(), &options).await.unwrap();
        client.write(b"at once".to_vec()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert_eq!(server.read(Vec::with_capacity(100)).await.unwrap(), b"at once");
        server.set(SocketOption::KeepAlive(true)).unwrap();
        if !D::SIMULATED {
            let never =
                SocketOption::KeepAliveAfter { idle: Duration::ZERO, interval: Duration::ZERO, probes: 0 };
            let error = server.set(never).unwrap_err();
            assert!(error.to_string().contains("KeepAliveAfter"), "{error}");
        }
    }
}

async fn one_half_ends_and_the_other_goes_on<D: Driver>(io: Io<D>) {
    for ip in FAMILIES {
        let listener = TcpListener::bind(&io, any_port(ip)).unwrap();
        let client = TcpStream::connect(&io, listener.address().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        server.write(b"before".to_vec()).await.unwrap();
        io.sleep(Duration::from_millis(1)).await.unwrap();
        client.shut(Half::Read).unwrap();
        assert_eq!(client.read(Vec::with_capacity(100)).await.unwrap(), b"before");
        assert!(client.read(Vec::with_capacity(100)).await.unwrap().is_empty());
        client.write(b"still".to_vec()).await.unwrap();
        assert_eq!(server.read(Vec::with_capacity(100)).await.unwrap(), b"still");
        client.shut(Half::Write).unwrap();
        assert!(server.read(Vec::with_capacity(100)).await.unwrap().is_empty());
        let error = client.write(vec![1]).await.unwrap_err();
        assert_eq!((error.operation(), errno(error.kind())), ("send", Some(libc::EPIPE)), "{error}");
    }
}

async fn groups_run_out_and_come_back<D: Driver>(io: Io<D>) {
    let socket = UdpSocket::bind(&io, any_port(FAMILIES[0])).unwrap();
    let group = |number: u8| IpAddr::from([239, 9, 9, number]);
    let joined = (0..=255).map(|number| socket.set(SocketOption::Join(group(number), 1)));
    let (full, error) =
        joined.enumerate().find_map(|(number, joined)| Some((number as u8, joined.err()?))).unwrap();
    // net.ipv4.igmp_max_memberships
    assert!(full >= 20, "{full}: {error}");
    assert!(
        matches!(error.kind(), ErrorKind::System(errno) if errno.raw_os_error() == libc::ENOBUFS),
        "{error}"
    );
    assert!(error.is_exhaustion() && error.to_string().contains("Join"), "{error}");
    socket.set(SocketOption::Leave(group(0), 1)).unwrap();
    socket.set(SocketOption::Join(group(full), 1)).unwrap();
}

/// More than either ring of io_uring has room for, within one poll.
async fn operations_beyond_the_rings_room_all_land<D: Driver>(io: Io<D>) {
    const COUNT: usize = 3000;
    let [here, there] = [0, 1].map(|_| UdpSocket::bind(&io, any_port(FAMILIES[0])).unwrap());
    let to = there.address().unwrap();
    // Most find no room in the other's socket; all are sent.
    let sent = all((0..COUNT).map(|number| here.send(vec![1; number % 9], to))).await;
    assert_eq!(sent.len(), COUNT);
    for (number, sent) in sent.into_iter().enumerate() {
        assert_eq!(sent.unwrap(), vec![1; number % 9]);
    }
    assert_eq!(there.receive(Vec::with_capacity(9)).await.unwrap().0, here.address().unwrap());
}

async fn a_dump_says_which_operation_is_waited_for_and_where<D: Driver>(io: Io<D>) {
    if !D::SUSPENDS {
        return;
    }
    let socket = UdpSocket::bind(&io, any_port(FAMILIES[0])).unwrap();
    let line = line!() + 1;
    let waits = io.spawn(async move { socket.receive(Vec::with_capacity(9)).await.map(|_| ()) });
    io.sleep(Duration::from_millis(1)).await.unwrap();
    let dump = io.tasks().dump().to_string();
    assert!(dump.contains(&format!("receive ({}:{line})", file!())), "{dump}");
    waits.cancel();
    assert!(waits.await.unwrap().unwrap_err().is_cancelled(), "it waited on");
}

on_every_io!(
    an_address_is_shared_by_those_who_agree,
    a_group_is_heard_from_join_to_leave,
    broadcast_has_to_be_allowed,
    the_traffic_class_is_set_and_told,
    the_local_address_is_told_and_chosen,
    a_buffer_is_sent_as_its_segments,
    joined_datagrams_say_where_they_part,
    streams_take_their_options,
    one_half_ends_and_the_other_goes_on,
    groups_run_out_and_come_back,
    operations_beyond_the_rings_room_all_land,
    a_dump_says_which_operation_is_waited_for_and_where,
);
