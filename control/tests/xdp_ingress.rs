//! `zsync_ingress`, decision by decision: BPF_PROG_TEST_RUN over packets, and the one reason that each counts under.

mod xdp_support;

use aya::{TestRun, TestRunOptions};
use xdp_support::{Xsk, counted, ethernet, in_sandbox, ipv4, ipv6, prefix, steering, tag, udp};
use zsync_control::xdp::{Ingress, PortSteering, Steer, XdpReason as R};

const ABORTED: u32 = 0;
const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// Runs the program once; it must count exactly this packet, under exactly one reason.
fn verdict(ingress: &mut Ingress, frame: &[u8]) -> (R, u32) {
    let before = ingress.counters().unwrap();
    let program = ingress.program().unwrap();
    let run = program.test_run(TestRunOptions { data_in: Some(frame), ..Default::default() }).unwrap();
    let counted = counted(&before, &ingress.counters().unwrap());
    let [(reason, 1, bytes)] = counted[..] else { panic!("{frame:02x?} counted as {counted:?}") };
    assert_eq!(bytes, frame.len() as u64);
    (reason, run.return_value)
}

#[track_caller]
fn check(ingress: &mut Ingress, what: &str, frame: &[u8], expected: (R, u32)) {
    assert_eq!(verdict(ingress, frame), expected, "{what}");
}

/// "Ours", while there is no socket and the port fails open.
const OURS: (R, u32) = (R::FallbackOpen, PASS);

fn arp() -> Vec<u8> {
    ethernet([2, 0, 0, 0, 0, 1], 0x0806, &[0; 46])
}

fn v4(destination: &str) -> Vec<u8> {
    ipv4("198.51.100.7", destination, 17, 0, &udp(4000, 53))
}

fn v6(destination: &str) -> Vec<u8> {
    ipv6("2001:db8:7::7", destination, 17, &udp(4000, 53))
}

#[test]
fn a_routing_port_leaves_the_kernel_its_share() {
    in_sandbox(|_| {
        let mut ingress = Ingress::load(&steering(Steer::All)).unwrap();
        ingress.set_local(&["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]).unwrap();
        let mut check = |what: &str, frame: &[u8], expected| check(&mut ingress, what, frame, expected);

        check("IPv4", &v4("203.0.113.9"), OURS);
        check("IPv6", &v6("2001:db8:9::9"), OURS);
        check("ARP", &arp(), (R::PassedNotIp, PASS));
        check("LLDP", &ethernet([2, 0, 0, 0, 0, 1], 0x88cc, &[0; 46]), (R::PassedNotIp, PASS));

        check("own IPv4", &v4("192.0.2.1"), (R::PassedLocal, PASS));
        check("next to own IPv4", &v4("192.0.2.2"), OURS);
        check("own IPv6", &v6("2001:db8::1"), (R::PassedLocal, PASS));
        check("next to own IPv6", &v6("2001:db8::2"), OURS);

        check("IPv4 multicast", &v4("224.0.0.5"), (R::PassedMulticast, PASS));
        check("last IPv4 multicast", &v4("239.255.255.255"), (R::PassedMulticast, PASS));
        check("DHCP broadcast", &v4("255.255.255.255"), (R::PassedMulticast, PASS));
        check("class E", &v4("240.0.0.1"), OURS);
        check("IPv6 multicast", &v6("ff02::1"), (R::PassedMulticast, PASS));
        check("link-local", &v6("fe80::1"), (R::PassedLinkLocal, PASS));
        check("last link-local", &v6("febf::1"), (R::PassedLinkLocal, PASS));
        check("beyond link-local", &v6("fec0::1"), OURS);
        for group in [[0xff; 6], [1, 0, 0x5e, 0, 0, 5], [0x33, 0x33, 0, 0, 0, 1]] {
            let mut frame = v4("203.0.113.9");
            frame[..6].copy_from_slice(&group);
            check("group MAC", &frame, (R::PassedMulticast, PASS));
        }

        for (kind, expected) in [
            (132, OURS),
            (133, (R::PassedNeighbour, PASS)),
            (135, (R::PassedNeighbour, PASS)),
            (137, (R::PassedNeighbour, PASS)),
            (138, OURS),
            (128, OURS),
        ] {
            let frame = ipv6("2001:db8:7::7", "2001:db8:9::9", 58, &[kind, 0, 0, 0, 0, 0, 0, 0]);
            check(&format!("ICMPv6 {kind}"), &frame, expected);
        }
    });
}

#[test]
fn tags_are_looked_behind_up_to_two() {
    in_sandbox(|_| {
        let mut ingress = Ingress::load(&steering(Steer::Prefixes(vec![prefix("203.0.113.0/24")]))).unwrap();
        let plain = v4("203.0.113.9");
        let one = tag(0x8100, 7, &plain);
        let two = tag(0x88a8, 8, &one);
        let three = tag(0x88a8, 9, &two);
        check(&mut ingress, "no tag", &plain, OURS);
        check(&mut ingress, "one tag", &one, OURS);
        check(&mut ingress, "two tags", &two, OURS);
        check(&mut ingress, "three tags", &three, (R::PassedNotIp, PASS));
        check(&mut ingress, "a tag, cut off", &two[..20], (R::PassedMalformed, PASS));
    });
}

#[test]
fn prefixes_steer_by_destination() {
    in_sandbox(|_| {
        let list = ["203.0.113.0/25", "10.0.0.0/8", "2001:db8:9::/48"].map(prefix).to_vec();
        let mut ingress = Ingress::load(&steering(Steer::Prefixes(list))).unwrap();
        ingress.set_local(&["10.0.0.1".parse().unwrap()]).unwrap();
        let mut check = |what: &str, frame: &[u8], expected| check(&mut ingress, what, frame, expected);
        check("first", &v4("203.0.113.0"), OURS);
        check("last", &v4("203.0.113.127"), OURS);
        check("beyond", &v4("203.0.113.128"), (R::PassedNotSteered, PASS));
        check("local inside", &v4("10.0.0.1"), (R::PassedLocal, PASS));
        check("inside", &v4("10.255.0.1"), OURS);
        check("IPv6 inside", &v6("2001:db8:9:ffff::1"), OURS);
        check("IPv6 beyond", &v6("2001:db8:a::1"), (R::PassedNotSteered, PASS));
        check("ARP", &arp(), (R::PassedNotIp, PASS));
        check("a fragment goes with its destination", &ipv4("1.1.1.1", "10.2.0.1", 17, 100, &[0; 8]), OURS);
    });
}

#[test]
fn ports_steer_by_protocol_and_port() {
    in_sandbox(|_| {
        let mut ingress =
            Ingress::load(&steering(Steer::Ports(vec![(17, 51820), (6, 443), (132, 36412)]))).unwrap();
        ingress.set_local(&["192.0.2.1".parse().unwrap()]).unwrap();
        let mut check = |what: &str, frame: &[u8], expected| check(&mut ingress, what, frame, expected);
        let not = (R::PassedNotSteered, PASS);
        let to = |protocol, port| ipv4("198.51.100.7", "192.0.2.1", protocol, 0, &udp(4000, port));
        check("WireGuard on a local address", &to(17, 51820), OURS);
        check("source port only", &ipv4("198.51.100.7", "192.0.2.1", 17, 0, &udp(51820, 4000)), not);
        check("same port, other protocol", &to(6, 51820), not);
        check("TCP", &to(6, 443), OURS);
        check("SCTP", &to(132, 36412), OURS);
        check("ICMP has none", &to(1, 443), not);

        check(
            "first fragment",
            &ipv4("1.1.1.1", "192.0.2.1", 17, 0x2000, &udp(1, 51820)),
            (R::PassedFragment, PASS),
        );
        check(
            "later fragment",
            &ipv4("1.1.1.1", "192.0.2.1", 17, 5, &udp(1, 51820)),
            (R::PassedFragment, PASS),
        );
        check("don't fragment", &ipv4("1.1.1.1", "192.0.2.1", 17, 0x4000, &udp(1, 51820)), OURS);
        let mut options = ipv4("1.1.1.1", "192.0.2.1", 17, 0, &[&[1, 1, 1, 1][..], &udp(1, 51820)].concat());
        options[14] = 0x46;
        check("behind IPv4 options", &options, OURS);

        let to = |next, payload: &[u8]| ipv6("2001:db8:7::7", "2001:db8:9::9", next, payload);
        let datagram = udp(4000, 51820);
        check("IPv6", &to(17, &datagram), OURS);
        let hop_by_hop = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &datagram].concat();
        check("behind hop-by-hop", &to(0, &hop_by_hop), OURS);
        let long = [&[17, 1][..], &[0; 14], &datagram].concat();
        check("behind 16 bytes of destination options", &to(60, &long), OURS);
        let both = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &long].concat();
        check("behind both", &to(0, &both), OURS);
        let fragment = [&[17, 0, 0, 1, 0, 0, 0, 0][..], &datagram].concat();
        check("IPv6 fragment", &to(44, &fragment), (R::PassedFragment, PASS));
        check("options, cut off", &to(0, &[17]), (R::PassedMalformed, PASS));
        check(
            "options longer than the packet",
            &to(0, &[17, 255, 0, 0, 0, 0, 0, 0]),
            (R::PassedMalformed, PASS),
        );
        let five: Vec<u8> = [[60, 0, 1, 4, 0, 0, 0, 0]; 5].concat();
        check("more options than are walked", &to(60, &[&five[..], &datagram].concat()), not);
    });
}

#[test]
fn block_lists_come_first_and_look_at_the_source() {
    in_sandbox(|_| {
        let blocked = (R::DroppedBlocked, DROP);
        let mut rules = steering(Steer::All);
        rules.block = ["198.51.100.0/24", "2001:db8:7::/48"].map(prefix).to_vec();
        for layer3 in [true, false] {
            rules.layer3 = layer3;
            let mut ingress = Ingress::load(&rules).unwrap();
            ingress.set_local(&["192.0.2.1".parse().unwrap()]).unwrap();
            check(&mut ingress, "IPv4", &v4("203.0.113.9"), blocked);
            check(&mut ingress, "to the kernel's own address", &v4("192.0.2.1"), blocked);
            check(&mut ingress, "to multicast", &v4("224.0.0.5"), blocked);
            check(&mut ingress, "tagged", &tag(0x8100, 1, &v4("203.0.113.9")), blocked);
            check(&mut ingress, "IPv6", &v6("2001:db8:9::9"), blocked);
            let other = ipv4("198.51.101.7", "203.0.113.9", 17, 0, &udp(1, 2));
            check(&mut ingress, "next to it", &other, OURS);
            let to_it = ipv4("203.0.113.9", "198.51.100.7", 17, 0, &udp(1, 2));
            check(&mut ingress, "destinations are not looked at", &to_it, OURS);
        }
    });
}

#[test]
fn a_bridging_port_takes_frames_as_they_are() {
    in_sandbox(|_| {
        let mut ingress = Ingress::load(&PortSteering { layer3: false, ..steering(Steer::All) }).unwrap();
        ingress.set_local(&["192.0.2.1".parse().unwrap()]).unwrap();
        for frame in [arp(), v4("192.0.2.1"), v4("224.0.0.5"), v6("fe80::1"), vec![0xff; 14], vec![0; 15]] {
            check(&mut ingress, "bridged", &frame, OURS);
        }
    });
}

#[test]
fn cut_off_headers_go_to_whoever_decides() {
    in_sandbox(|_| {
        let rules = [
            (steering(Steer::All), OURS),
            (
                steering(Steer::Prefixes(vec![prefix("0.0.0.0/0"), prefix("::/0")])),
                (R::PassedMalformed, PASS),
            ),
            (steering(Steer::Ports(vec![(17, 53)])), (R::PassedMalformed, PASS)),
        ];
        for (rules, expected) in rules {
            let mut ingress = Ingress::load(&rules).unwrap();
            for (frame, header) in [(v4("203.0.113.9"), 34), (v6("2001:db8:9::9"), 54)] {
                for length in 14..header {
                    check(&mut ingress, &format!("{length} bytes"), &frame[..length], expected);
                }
                check(&mut ingress, "whole", &frame, OURS);
                let mut wrong = frame.clone();
                wrong[14] = 0x55;
                check(&mut ingress, "wrong version", &wrong, expected);
            }
            let mut short = v4("203.0.113.9");
            short[14] = 0x44;
            check(&mut ingress, "a header of 16 bytes", &short, expected);
        }
    });
}

#[test]
fn without_a_socket_the_port_fails_as_it_is_told() {
    in_sandbox(|sandbox| {
        let mut ingress = Ingress::load(&steering(Steer::All)).unwrap();
        let frame = v4("203.0.113.9");
        check(&mut ingress, "open", &frame, (R::FallbackOpen, PASS));
        let closed = PortSteering { fallback_open: false, ..steering(Steer::All) };
        ingress.apply_steering(&closed).unwrap();
        check(&mut ingress, "closed", &frame, (R::FallbackClosed, DROP));
        check(&mut ingress, "what is not ours passes", &arp(), (R::PassedNotIp, PASS));

        let socket = Xsk::bind(sandbox.port, 0);
        ingress.set_socket(0, &socket).unwrap();
        ingress.set_socket(0, &socket).unwrap();
        assert_eq!(Vec::from_iter(ingress.sockets()), [&0]);
        check(&mut ingress, "socket", &frame, (R::Redirected, REDIRECT));
        check(&mut ingress, "what is not ours passes", &arp(), (R::PassedNotIp, PASS));
        ingress.clear_sockets().unwrap();
        assert!(ingress.sockets().is_empty());
        check(&mut ingress, "cleared", &frame, (R::FallbackClosed, DROP));

        ingress.set_socket(0, &socket).unwrap();
        drop(socket);
        check(&mut ingress, "the socket is gone", &frame, (R::FallbackClosed, DROP));
        assert!(ingress.set_socket(0, std::io::stdin()).is_err(), "not a socket");
        assert!(ingress.set_socket(1024, std::io::stdin()).is_err(), "no such queue");
    });
}

#[test]
fn steering_changes_leave_nothing_behind() {
    in_sandbox(|_| {
        let mut ingress = Ingress::load(&steering(Steer::All)).unwrap();
        let frame = v4("203.0.113.9");
        let mut blocking = steering(Steer::Prefixes(vec![prefix("203.0.113.0/24"), prefix("10.0.0.0/8")]));
        blocking.block = vec![prefix("198.51.100.0/24"), prefix("2001:db8:7::/48")];
        ingress.apply_steering(&blocking).unwrap();
        check(&mut ingress, "blocked", &frame, (R::DroppedBlocked, DROP));

        blocking.block = vec![prefix("198.51.0.0/24"), prefix("2001:db8:7::/48")];
        ingress.apply_steering(&blocking).unwrap();
        check(&mut ingress, "no longer blocked", &frame, OURS);
        check(&mut ingress, "still blocked", &v6("2001:db8:9::9"), (R::DroppedBlocked, DROP));
        check(&mut ingress, "steered", &ipv4("9.9.9.9", "10.1.1.1", 17, 0, &udp(1, 2)), OURS);

        blocking.steer = Steer::Prefixes(vec![prefix("203.0.113.0/24")]);
        ingress.apply_steering(&blocking).unwrap();
        let not = (R::PassedNotSteered, PASS);
        check(&mut ingress, "no longer steered", &ipv4("9.9.9.9", "10.1.1.1", 17, 0, &udp(1, 2)), not);

        ingress.apply_steering(&steering(Steer::Ports(vec![(17, 53)]))).unwrap();
        check(&mut ingress, "by port", &frame, OURS);
        ingress.apply_steering(&steering(Steer::Ports(vec![(17, 54)]))).unwrap();
        check(&mut ingress, "by another port", &frame, not);
        ingress.apply_steering(&steering(Steer::Ports(vec![]))).unwrap();
        check(&mut ingress, "by none", &frame, not);

        let refused = PortSteering { block: vec![prefix("10.0.0.0/40")], ..steering(Steer::All) };
        assert!(ingress.apply_steering(&refused).is_err());
        check(&mut ingress, "a refused steering changes nothing", &frame, not);
        assert_ne!(verdict(&mut ingress, &[0; 14]).1, ABORTED);
    });
}
