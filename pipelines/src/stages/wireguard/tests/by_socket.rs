//! A tunnel that speaks by a UDP socket: all that it says leaves there at once, without a route, and from an address that the kernel
//! may choose.

use super::*;
use zsync_packet::header::build::{ethernet, udp_packet};
use zsync_packet::header::{Ethernet, Ipv6, Udp, ether_type};

/// An end without addresses of its own, whose port `IN` is a socket.
fn by_socket(seed: u8, peer: u8, v6: bool, knows: bool) -> End {
    let mut end = End::new(seed, &[peer], v6, knows);
    let settings = Settings { local: Vec::new(), to: Some(IN), ..settings(seed, &[peer], v6, knows) };
    // Whether an address is the host's own, the ports say here.
    let (v4, v6) = (format!("192.0.2.{seed}").parse().ok(), format!("2001:db8::{seed}").parse().ok());
    let with = With {
        memory: end.memory.clone(),
        workers: 1,
        hash_key: HashKey::from_seed(u64::from(seed)),
        ports: ports().into_iter().map(|port| PortFacts { v4, v6, ..port }).collect(),
        fib: None,
    };
    let tunnel = Tunnel::new(settings, with, None).unwrap();
    let tunnel = tunnel.repeatable(Wall::Since(EPOCH), |_| entropy(u64::from(seed)));
    end.open = Open::new(tunnel.clone(), ports(), 0, None);
    end.seal = Seal::new(tunnel, ports(), 0, Some(OUT));
    end.open.assign(0);
    end.seal.assign(0);
    end
}

/// What comes of a packet that the socket of the end `from` is given: the kernel's headers, and the packet's own source.
fn carried(frame: &[u8], from: u8) -> (IpAddr, Vec<u8>) {
    let packet = Ethernet::parse(frame).unwrap();
    let (source, to, transport): (IpAddr, IpAddr, _) = match packet.ether_type() {
        ether_type::IPV4 => {
            let ip = Ipv4::parse(packet.payload()).unwrap();
            (ip.source().into(), ip.destination().into(), ip.payload())
        }
        _ => {
            let ip = Ipv6::parse(packet.payload()).unwrap();
            (ip.source().into(), ip.destination().into(), ip.payload())
        }
    };
    let udp = Udp::parse(transport).unwrap();
    assert_eq!(udp.source_port(), PORT);
    let to = SocketAddr::new(to, udp.destination_port());
    let ip = udp_packet(outside(from, to.is_ipv6()), to, udp.payload()).unwrap();
    (source, ethernet([0; 6], [4; 6], &[], packet.ether_type(), &ip))
}

#[test]
fn handshakes_packets_and_answers_leave_by_the_socket() {
    for v6 in [false, true] {
        let (mut a, mut b) = (by_socket(1, 2, v6, true), by_socket(2, 1, v6, false));
        let (mut sources, mut came, mut back) = (BTreeMap::<u8, Vec<IpAddr>>::new(), Vec::new(), Vec::new());
        let mut now = SECOND;
        let mut cross = |from: u8, frames: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
            let carried = frames.iter().map(|frame| carried(frame, from));
            let (own, frames): (Vec<IpAddr>, Vec<Vec<u8>>) = carried.unzip();
            sources.entry(from).or_default().extend(own);
            frames
        };
        let mut to_b = a.inside(&[inner(1, 2, false, b"one"), inner(1, 2, true, b"two")], now);
        let mut to_a = Vec::new();
        for round in 0..40 {
            now += PACE;
            came.extend(b.outside(&cross(1, std::mem::take(&mut to_b)), now));
            back.extend(a.outside(&cross(2, std::mem::take(&mut to_a)), now));
            (to_b, to_a) = (a.tick(now), b.tick(now));
            if round == 30 {
                to_a.extend(b.inside(&[inner(2, 1, v6, b"three")], now));
            }
        }
        assert!(came.len() == 2 && came[0].ends_with(b"one") && came[1].ends_with(b"two"), "{came:?}");
        assert!(back.len() == 1 && back[0].ends_with(b"three"), "{back:?}");
        // Nobody has said yet which address is A's; B sends from where A has reached it.
        assert!(sources[&1][0].is_unspecified() && sources[&1].len() >= 3, "{sources:?}");
        assert!(sources[&2].iter().all(|source| *source == outside(2, v6).ip()), "{sources:?}");
        assert!(a.drops.is_empty() && b.drops.is_empty(), "{:?} {:?}", a.drops, b.drops);
    }
}
