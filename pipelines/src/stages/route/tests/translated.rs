//! Packets that were translated on their way here.

use super::*;

/// Translates every flow's first packet's source to this address and port, and what follows accordingly.
struct Masquerade(Flows, IpAddr, IpAddr);

impl Stage for Masquerade {
    fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
        for i in burst.undecided() {
            let (facts, key) = (*burst.facts(i), *burst.key(i));
            let id = FlowId::from_fact(facts.flow).unwrap();
            if self.0.translation(id).is_none() {
                let outside = match (key.destination(), self.1, self.2) {
                    (IpAddr::V4(to), IpAddr::V4(outside), _) => {
                        FlowKey::v4((to, key.destination_port()), (outside, 5000), key.protocol())
                    }
                    (IpAddr::V6(to), _, IpAddr::V6(outside)) => {
                        FlowKey::v6((to, key.destination_port()), (outside, 5000), key.protocol())
                    }
                    other => panic!("{other:?}"),
                };
                self.0.translate(id, &outside).unwrap();
            }
            let reply = self.0.translation(id).unwrap();
            let to = if facts.reply { self.0.original(id).reversed() } else { reply.reversed() };
            rewrite::translate(burst.bytes_mut(i), &facts, &to).unwrap();
            burst.set_key(i, to);
        }
    }
}

#[test]
fn who_sent_a_packet_that_was_translated_is_told_of_the_one_that_he_sent() {
    let space = FlowSpace { flows: 100, translations: 100 };
    let state = State::heap(StateSize { shared: 0, each: space.bytes() }, 1);
    let shards = Shards::new(state, space, HashKey::from_seed(3)).unwrap();
    let flows = shards.worker(0).unwrap();
    let mut track = Track::alone(flows.clone(), Rules::default());
    let own: [IpAddr; 2] = [[10, 1, 0, 1].into(), "2001:db8:1::1".parse().unwrap()];
    let mut masquerade = Masquerade(flows, own[0], own[1]);
    let mut router = Router::new();
    let mut ports = ports();
    (ports[0].v4, ports[0].v6) = (Some([10, 1, 0, 1].into()), Some("2001:db8:1::1".parse().unwrap()));
    router.parse = Parse::new(ports.clone(), true);
    router.route.ports = ports;
    router.route = router.route.behind(shards);
    router.route.assign(0);
    let mut through = |packet: &[u8]| {
        let Router { parse, route, .. } = &mut router;
        run_and_make(&mut [parse, &mut track, &mut masquerade, route], IN, &[packet], 1 << 30).0.remove(0)
    };
    let udp4 = |ip: &Ipv4Spec, from, to| on_v4(ip, &build::udp(ip.address_sum(), from, to, b"data"));
    let udp6 = |ip: &Ipv6Spec, from, to| on_v6(ip, &build::udp(ip.address_sum(), from, to, b"data"));
    // Out they go as the router's own; what cannot go is told of as it came.
    for net in [2, 12] {
        let there = [10, net, 0, 9];
        let ip = Ipv4Spec { protocol: 17, ttl: if net == 2 { 1 } else { 64 }, ..v4(there) };
        let packet = udp4(&ip, 4000, 53);
        let seen = through(&packet);
        assert_eq!((seen.verdict, seen.facts.answered), (Verdict::Transmit(IN), true));
        assert_eq!((&seen.bytes[30..34], &seen.bytes[42..]), (&HERE[..], &packet[14..]), "net {net}");
        let ip = Ipv6Spec { next_header: 17, hop_limit: ip.ttl, ..v6(&format!("2001:db8:{net}::9")) };
        let packet = udp6(&ip, 4000, 53);
        let seen = through(&packet);
        assert_eq!((seen.verdict, seen.facts.answered), (Verdict::Transmit(IN), true));
        assert_eq!((&seen.bytes[38..54], &seen.bytes[62..]), (&packet[22..38], &packet[14..]), "net {net}");
    }
    // So are answers, which were sent to the router, and hop no further.
    let ip = Ipv4Spec { protocol: 17, ..v4([10, 2, 0, 9]) };
    assert_eq!(through(&udp4(&ip, 4000, 53)).verdict, Verdict::Transmit(OUT));
    let ip = Ipv4Spec { ttl: 1, ..Ipv4Spec::new([10, 2, 0, 9].into(), [10, 1, 0, 1].into(), 17) };
    let packet = udp4(&ip, 53, 5000);
    let seen = through(&packet);
    assert_eq!((&seen.bytes[30..34], &seen.bytes[42..]), (&[10, 2, 0, 9][..], &packet[14..]));
}
