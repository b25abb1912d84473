//! The shipped router on real traffic, and what a router owes to those who use it.

use std::collections::{BTreeMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_tests::config::{self, ROUTER, by};
use zsync_tests::iperf::Iperf;
use zsync_tests::ping::ping_with;
use zsync_tests::raw::RawSocket;
use zsync_tests::{
    Control, Flow, FlowPlan, Lab, Namespace, Shape, by_each_device, by_own_device, in_lab, ping, wait_for,
};

by_each_device!(
    traffic_of_both_families_goes_through_zsync_both_ways,
    a_paced_flow_arrives_whole_and_in_order,
    several_queues_share_the_work,
    what_cannot_be_forwarded_is_answered,
    answers_are_as_the_routes_say_and_come_from_the_ports_address,
    the_routers_own_addresses_answer,
    neighbours_stay_the_kernels,
    routes_take_effect_while_it_runs,
    equal_paths_share_flows_and_keep_each_whole,
    only_what_is_steered_is_taken,
);

// Of the tests above, those that do without what such a device has not: neighbours, `steer`, and addresses that the kernel answers for
// before zsync sees the packet.
by_own_device!(
    traffic_of_both_families_goes_through_zsync_both_ways,
    a_paced_flow_arrives_whole_and_in_order,
    what_cannot_be_forwarded_is_answered,
    routes_take_effect_while_it_runs,
);

/// The shipped router by this device, with these lines added to the ports of each side, and the client and the server beyond it.
fn routing<'l>(lab: &'l Lab, device: &str, lines: [&str; 2]) -> Result<Control<'l>> {
    let mut text = by(device, ROUTER);
    if !config::is_own(device) {
        return Control::start(lab, &text);
    }
    for (netdev, lines) in ["\"eth1\"\n", "\"eth2\"\n"].into_iter().zip(lines) {
        ensure!(text.contains(netdev), "{text}");
        text = text.replace(netdev, &format!("{netdev}{lines}\n"));
    }
    lab.rename_cables()?;
    let control = Control::start(lab, &text)?;
    lab.stand_behind_devices()?;
    wait_for("the routes", Duration::from_secs(5), || {
        let reaches = |target| ping(&lab.client, target, 1).ok().filter(|outcome| outcome.all());
        lab.server_addresses.into_iter().all(|target| reaches(target).is_some()).then_some(())
    })?;
    Ok(control)
}

/// Datagrams that the router's kernel forwarded itself, of both families.
fn kernel_forwarded(router: &Namespace) -> Result<u64> {
    // Not /proc/net, which shows the namespace of the process, whatever thread looks.
    let read = |file: &str| router.run(|| std::fs::read_to_string(file).with_context(|| file.to_owned()));
    let v4 = read("/proc/thread-self/net/snmp")?;
    let mut ip = v4.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (ip.next().context("no Ip")?, ip.next().context("no Ip")?);
    let v4 = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "ForwDatagrams");
    let v6 = read("/proc/thread-self/net/snmp6")?;
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams"));
    Ok(v4.context("no ForwDatagrams")?.1.parse::<u64>()? + v6.context("no OutForw")?.trim().parse::<u64>()?)
}

fn traffic_of_both_families_goes_through_zsync_both_ways(device: &str) {
    in_lab(Shape::router(), |lab| {
        let control = routing(lab, device, ["", ""])?;
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            for outcome in [ping(&lab.client, server, 20)?, ping(&lab.server, client, 20)?] {
                ensure!(outcome.all(), "{outcome:?}");
            }
        }
        let (before, kernel_before) = (control.counts()?, kernel_forwarded(&lab.router)?);
        let iperf = Iperf::serve(lab)?;
        for target in lab.server_addresses {
            for direction in [&[][..], &["-R"]] {
                let tcp = iperf.run(target, &[&["-t", "1"], direction].concat())?;
                let udp = iperf
                    .run(target, &[&["-t", "1", "-u", "-b", "50M", "-l", "1200"], direction].concat())?;
                println!("{target} {direction:?}: TCP {tcp:?}, UDP {udp:?}");
                ensure!(tcp.bits_per_second > 50e6, "TCP {tcp:?}");
                ensure!(udp.bytes > 1 << 20 && udp.lost_percent < 1.0, "UDP {udp:?}");
            }
        }
        let (after, kernel_after) = (control.balanced()?.counts, kernel_forwarded(&lab.router)?);
        let (rx, tx) = (after.rx() - before.rx(), after.tx() - before.tx());
        let kernel = kernel_after - kernel_before;
        println!("zsync received {rx} and sent {tx}; the kernel forwarded {kernel}");
        ensure!(tx > 50_000 && tx * 100 > rx * 99, "{rx} received, {tx} sent: {after:?}");
        // To a device of the host's own and from it the kernel carries packets, which may stand for several, and zsync routes them.
        let carries = if config::is_own(device) { 2 * tx } else { 0 };
        ensure!(kernel < carries + tx / 100, "the kernel forwarded {kernel} packets itself, zsync {tx}");
        Ok(())
    });
}

fn a_paced_flow_arrives_whole_and_in_order(device: &str) {
    in_lab(Shape::router(), |lab| {
        let control = routing(lab, device, ["", ""])?;
        for (source, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            ensure!(ping(&lab.client, server, 3)?.all(), "no way to {server}");
            let plan = FlowPlan {
                rate: 20_000,
                source: SocketAddr::new(source, 0),
                target: SocketAddr::new(server, 7000),
                payload: 64,
            };
            let before = control.counts()?;
            let flow = Flow::start(&lab.client, &lab.server, plan)?;
            std::thread::sleep(Duration::from_secs(2));
            let report = flow.finish()?;
            println!("{report}");
            ensure!((report.lost(), report.duplicated(), report.reordered()) == (0, 0, 0), "{report}");
            let after = control.balanced()?.counts;
            ensure!(after.tx() - before.tx() >= report.sent(), "{report}: {before:?} {after:?}");
        }
        Ok(())
    });
}

fn several_queues_share_the_work(device: &str) {
    in_lab(Shape::router().queues(2), |lab| {
        let control = Control::start(lab, &by(device, ROUTER))?;
        for target in lab.server_addresses {
            ensure!(ping(&lab.client, target, 20)?.all(), "no way to {target}");
        }
        // What the host itself sends is received by none of the queues. (The answers may be, and their neighbours' questions.)
        let before = control.balanced()?.counts.rx();
        for target in lab.client_addresses {
            let outcome = ping(&lab.router, target, 40)?;
            ensure!(outcome.all(), "{outcome:?}");
        }
        let received = control.balanced()?.counts.rx() - before;
        println!("{received} packets received, of 80 that the host has sent and 80 answers");
        ensure!(received < 60, "{received} packets received");
        let iperf = Iperf::serve(lab)?;
        let tcp = iperf.run(lab.server_addresses[0], &["-t", "1", "-P", "16"])?;
        ensure!(tcp.bits_per_second > 50e6, "{tcp:?}");
        control.balanced()?;
        let workers = control.ctl(&["show", "workers"])?;
        let rows = || workers.as_array().into_iter().flatten();
        let queues = |worker: &serde_json::Value| worker["queues"].as_array().map_or(0, Vec::len);
        ensure!(rows().map(queues).sum::<usize>() == 4, "{workers}");
        ensure!(rows().all(|worker| worker["rx"].as_u64() > Some(100)), "one has all: {workers}");
        Ok(())
    });
}

fn what_cannot_be_forwarded_is_answered(device: &str) {
    in_lab(Shape::router().server_mtu(1300), |lab| {
        let control = routing(lab, device, ["mtu = 1500", "mtu = 1300"])?;
        // The kernel that carries packets to a device of the host's own is a router too.
        let hops = if config::is_own(device) { "2" } else { "1" };
        let [v4, v6] = lab.server_addresses;
        let says = |target, options: &[&str], wanted: &str| -> Result<()> {
            let outcome = ping_with(&lab.client, target, 2, options)?;
            ensure!(
                outcome.received == 0 && outcome.text.contains(wanted),
                "wanted {wanted:?} from {outcome:?}"
            );
            Ok(())
        };
        // So that both next hops are known.
        ensure!(ping(&lab.client, v4, 2)?.all() && ping(&lab.client, v6, 2)?.all(), "no way");

        says(v4, &["-t", hops], "From 10.1.0.1 icmp_seq=1 Time to live exceeded")?;
        says(v6, &["-t", hops], "From fd01::1 icmp_seq=1 Time exceeded: Hop limit")?;

        says(v4, &["-M", "do", "-s", "1400"], "Frag needed and DF set (mtu = 1300)")?;
        says(v6, &["-M", "do", "-s", "1400"], "Packet too big: mtu=1300")?;
        // Without DF the router cuts it to pieces.
        let pieces = ping_with(&lab.client, v4, 3, &["-M", "dont", "-s", "1400"])?;
        ensure!(pieces.all(), "{pieces:?}");

        says("10.77.0.1".parse()?, &[], "From 10.1.0.1 icmp_seq=1 Destination Net Unreachable")?;
        says("fd77::1".parse()?, &[], "From fd01::1 icmp_seq=1 Destination unreachable")?;
        control.balanced()?;
        Ok(())
    });
}

/// ICMP errors that the router's kernel sent itself, of both families.
fn kernel_answered(router: &Namespace) -> Result<BTreeMap<String, u64>> {
    let read = |file: &str| router.run(|| std::fs::read_to_string(file).with_context(|| file.to_owned()));
    let v4 = read("/proc/thread-self/net/snmp")?;
    let mut icmp = v4.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, values) = (icmp.next().context("no Icmp")?, icmp.next().context("no Icmp")?);
    let v4 = names.split(' ').zip(values.split(' '));
    let v6 = read("/proc/thread-self/net/snmp6")?;
    let v6 = v6.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let errors = ["OutDestUnreachs", "OutTimeExcds", "OutPktTooBigs"];
    let sent = |(name, value): (&str, &str)| {
        let error = errors.iter().any(|error| name.strip_prefix("Icmp6").unwrap_or(name) == *error);
        error.then(|| Some((name.to_owned(), value.trim().parse().ok()?))).flatten()
    };
    Ok(v4.chain(v6).filter_map(sent).collect())
}

fn answers_are_as_the_routes_say_and_come_from_the_ports_address(device: &str) {
    in_lab(Shape::router().server_mtu(1300), |lab| {
        for route in ["unreachable 10.71.0.0/16", "prohibit 10.72.0.0/16", "blackhole 10.73.0.0/16"] {
            lab.router.ip(&format!("route add {route}"))?;
        }
        for route in ["unreachable fd71::/16", "prohibit fd72::/16", "blackhole fd73::/16"] {
            lab.router.ip(&format!("-6 route add {route}"))?;
        }
        let control = Control::start(lab, &by(device, ROUTER))?;
        let [v4, v6] = lab.server_addresses;
        ensure!(ping(&lab.client, v4, 2)?.all() && ping(&lab.client, v6, 2)?.all(), "no way");
        let (answered, forwarded) = (kernel_answered(&lab.router)?, kernel_forwarded(&lab.router)?);
        for (target, wanted) in [
            ("10.71.0.1", "From 10.1.0.1 icmp_seq=1 Destination Host Unreachable"),
            ("10.72.0.1", "From 10.1.0.1 icmp_seq=1 Packet filtered"),
            ("fd71::1", "From fd01::1 icmp_seq=1 Destination unreachable: No route"),
            ("fd72::1", "From fd01::1 icmp_seq=1 Destination unreachable: Administratively prohibited"),
        ] {
            let outcome = ping_with(&lab.client, target.parse()?, 1, &[])?;
            ensure!(outcome.received == 0 && outcome.text.contains(wanted), "{target}: {outcome:?}");
        }
        for target in ["10.73.0.1", "fd73::1"] {
            let outcome = ping_with(&lab.client, target.parse()?, 1, &[])?;
            ensure!(outcome.received == 0 && !outcome.text.contains("From"), "{target}: {outcome:?}");
        }
        let pieces = ping_with(&lab.client, v4, 3, &["-M", "dont", "-s", "1400"])?;
        ensure!(pieces.all(), "{pieces:?}");
        let now = kernel_answered(&lab.router)?;
        ensure!(now == answered, "the kernel answered: {answered:?}, {now:?}");
        ensure!(kernel_forwarded(&lab.router)? == forwarded, "the kernel forwarded");

        // The port gets other addresses while it runs; the client goes on sending to its MAC address. (Of the same prefix length,
        // the new one would go with the old one.)
        let link = lab.router.ip("link show dev eth1")?;
        let mac =
            link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).context("no MAC")?;
        for (old, new, family, server) in
            [("10.1.0.1", "10.1.0.9/25", "-4", v4), ("fd01::1", "fd01::9/64 nodad", "-6", v6)]
        {
            let device = "dev eth0";
            lab.client.ip(&format!("{family} neigh replace {old} lladdr {} {device} nud permanent", mac))?;
            lab.router.ip(&format!("{family} addr add {new} dev eth1"))?;
            let len = if family == "-4" { 24 } else { 64 };
            lab.router.ip(&format!("{family} addr del {old}/{len} dev eth1"))?;
            let wanted = format!("From {} icmp_seq=1 Time", new.split('/').next().unwrap_or(""));
            let told = || {
                let before = kernel_answered(&lab.router).ok()?;
                let outcome = ping_with(&lab.client, server, 1, &["-t", "1"]).ok()?;
                let by_zsync = kernel_answered(&lab.router).ok()? == before;
                (by_zsync && outcome.text.contains(&wanted)).then_some(())
            };
            wait_for("an answer of zsync's from the new address", Duration::from_secs(10), told)?;
        }
        control.balanced()?;
        Ok(())
    });
}

fn the_routers_own_addresses_answer(device: &str) {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &by(device, ROUTER))?;
        for own in ["10.1.0.1", "10.2.0.1", "fd01::1", "fd02::1"] {
            let outcome = ping(&lab.client, own.parse()?, 3)?;
            ensure!(outcome.all(), "{own}: {outcome:?}");
        }
        // An address that comes later is the kernel's, too.
        lab.router.ip("addr add 10.50.0.1/32 dev lo")?;
        let answered =
            || ping(&lab.client, "10.50.0.1".parse().ok()?, 1).ok().filter(|outcome| outcome.all());
        wait_for("the new address to answer", Duration::from_secs(3), answered)?;
        control.balanced()?;
        Ok(())
    });
}

fn neighbours_stay_the_kernels(device: &str) {
    in_lab(Shape::router(), |lab| {
        let _control = Control::start(lab, &by(device, ROUTER))?;
        for target in lab.server_addresses {
            let first = ping(&lab.client, target, 1)?;
            ensure!(first.all(), "the first packet to an unresolved neighbour: {first:?}");
        }
        for namespace in [&lab.client, &lab.router, &lab.server] {
            namespace.ip("neigh flush all")?;
        }
        for target in lab.server_addresses {
            let first = ping(&lab.client, target, 1)?;
            ensure!(first.all(), "the first packet after all neighbours were forgotten: {first:?}");
        }
        // The server gets another address on the link: what the kernel learns, zsync follows.
        lab.server.ip("link set eth0 address 02:00:00:00:77:01")?;
        let answered = || ping(&lab.client, lab.server_addresses[0], 1).ok().filter(|outcome| outcome.all());
        lab.router.ip("neigh flush dev eth2")?;
        wait_for("the server at its new address", Duration::from_secs(5), answered)?;
        Ok(())
    });
}

fn routes_take_effect_while_it_runs(device: &str) {
    in_lab(Shape::router(), |lab| {
        let control = routing(lab, device, ["", ""])?;
        lab.server.ip("addr add 10.9.0.1/32 dev lo")?;
        lab.server.ip("addr add fd09::1/128 dev lo")?;
        let targets = ["10.9.0.1".parse()?, "fd09::1".parse()?];
        for target in targets {
            ensure!(ping(&lab.client, target, 1)?.received == 0, "{target} answers without a route");
        }
        lab.router.ip("route add 10.9.0.0/24 via 10.2.0.2")?;
        lab.router.ip("-6 route add fd09::/64 via fd02::2")?;
        for target in targets {
            let reached = || ping(&lab.client, target, 1).ok().filter(|outcome| outcome.all());
            wait_for("the new route", Duration::from_secs(3), reached)?;
            let before = control.counts()?.tx();
            ensure!(ping(&lab.client, target, 10)?.all(), "{target}");
            let sent = control.counts()?.tx() - before;
            ensure!(sent >= 20, "zsync sent {sent} of 20 packets: the kernel forwards {target}");
        }
        lab.router.ip("route replace blackhole 10.9.0.0/24")?;
        lab.router.ip("-6 route del fd09::/64")?;
        for target in targets {
            let silent = || ping(&lab.client, target, 1).ok().filter(|outcome| outcome.received == 0);
            wait_for("the route to go", Duration::from_secs(5), silent)?;
        }
        ensure!(control.counts()?.dropped("blackhole") > 0, "the blackhole was not zsync's");
        control.balanced()?;
        Ok(())
    });
}

fn equal_paths_share_flows_and_keep_each_whole(device: &str) {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &by(device, ROUTER))?;
        let macs = [[0x02, 0, 0, 0, 0x88, 1], [0x02, 0, 0, 0, 0x88, 2]];
        for (host, mac) in [(101, "02:00:00:00:88:01"), (102, "02:00:00:00:88:02")] {
            lab.router.ip(&format!("neigh replace 10.2.0.{host} lladdr {mac} dev eth2 nud permanent"))?;
        }
        let hops = "nexthop via 10.2.0.101 dev eth2 nexthop via 10.2.0.102 dev eth2";
        lab.router.ip(&format!("route add 10.9.0.0/24 {hops}"))?;
        lab.server.ip("link set eth0 promisc on")?;
        let tap = RawSocket::open(&lab.server, "eth0")?;
        let started = control.counts()?.tx();
        wait_for("the route", Duration::from_secs(3), || {
            send_to_each(lab, 1, 1).ok()?;
            (control.counts().ok()?.tx() > started).then_some(())
        })?;
        while tap.receive(Duration::from_millis(100))?.is_some() {}

        const FLOWS: u16 = 64;
        send_to_each(lab, FLOWS, 4)?;
        let mut seen: Vec<HashSet<u16>> = vec![HashSet::new(); 2];
        while let Some(frame) = tap.receive(Duration::from_millis(300))? {
            // UDP without IP options: the source port is at 14 + 20.
            let (Some(hop), Some(port)) =
                (macs.iter().position(|mac| frame.starts_with(mac)), frame.get(34..36))
            else {
                continue;
            };
            seen[hop].insert(u16::from_be_bytes([port[0], port[1]]));
        }
        let (first, second) = (seen[0].len(), seen[1].len());
        println!("{first} flows over the first path, {second} over the second");
        ensure!(
            first + second == usize::from(FLOWS),
            "{first} + {second} flows of {FLOWS}: one is torn, or lost"
        );
        ensure!(seen[0].is_disjoint(&seen[1]), "a flow took both paths");
        ensure!(first >= 10 && second >= 10, "{first} and {second}");
        Ok(())
    });
}

/// `count` packets of each of `flows` flows to 10.9.0.7, from ports 20,000 on.
fn send_to_each(lab: &Lab, flows: u16, count: usize) -> Result<()> {
    lab.client.run(|| {
        for port in 20_000..20_000 + flows {
            let socket = UdpSocket::bind((lab.client_addresses[0], port))?;
            for _ in 0..count {
                socket.send_to(b"ecmp", "10.9.0.7:9")?;
            }
        }
        Ok(())
    })
}

fn only_what_is_steered_is_taken(device: &str) {
    in_lab(Shape::router(), |lab| {
        let steer = "steer = { prefixes = [\"10.2.0.0/24\", \"fd02::/64\"] }";
        let control = Control::start(lab, &by(device, &config::router(steer)))?;
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            ensure!(ping(&lab.client, server, 3)?.all(), "{client} to {server}");
            let (before, kernel) = (control.counts()?.rx(), kernel_forwarded(&lab.router)?);
            ensure!(ping(&lab.client, server, 10)?.all(), "{client} to {server}");
            let (taken, left) = (control.counts()?.rx() - before, kernel_forwarded(&lab.router)? - kernel);
            ensure!(taken == 10, "zsync took {taken} of 10 requests, and is to take no reply");
            ensure!(left == 10, "the kernel forwarded {left} packets: the 10 replies are its");
        }
        control.balanced()?;
        Ok(())
    });
}
