//! The mirror beside a real kernel: links, routes, next-hop objects and neighbours made with `ip` in namespaces of the test's
//! own, and the FIB that follows compared with the kernel's own lookups (`ip route get`).

#![forbid(unsafe_code)]

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use zsync_control::netlink::{
    Adjacency, MemoryFib, MirroredFib, Netlink, Options, PortError, Prefix, Target, check_peer, check_port,
    links_now,
};
use zsync_packet::region::Region;
use zsync_pipelines::tables::fib::{self, FibLayout, FibWriter};

/// Two namespaces joined by two veths: p1 and p2 here (ports 1 and 2), q1 and q2 at the far end. The thread that makes it
/// is in the near one from then on.
struct Lab {
    names: [String; 2],
}

impl Lab {
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "network namespaces need root");
            println!("SKIPPED: network namespaces need root");
            return None;
        }
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { names: [format!("zsync-nl-a-{id}"), format!("zsync-nl-b-{id}")] };
        lab.names.iter().for_each(|name| ip(&format!("netns add {name}")));
        let here = File::open(format!("/run/netns/{}", lab.names[0])).unwrap();
        move_into_link_name_space(here.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        for line in [
            "link set lo up",
            "link add p1 address 02:00:00:00:01:01 type veth peer name q1 address 02:00:00:00:01:02",
            "link add p2 address 02:00:00:00:02:01 type veth peer name q2 address 02:00:00:00:02:02",
            "link add d0 type veth peer name d1",
        ] {
            ip(line);
        }
        for q in ["q1", "q2"] {
            ip(&format!("link set {q} netns {}", lab.names[1]));
        }
        for (n, link) in [(0, "p1"), (1, "p2"), (5, "d0")] {
            ip(&format!("link set {link} up"));
            ip(&format!("address add 10.0.{n}.1/24 dev {link}"));
            ip(&format!("address add 2001:db8:{n}::1/64 dev {link} nodad"));
        }
        for (n, link) in [(0, "q1"), (1, "q2")] {
            lab.far(&format!("link set {link} up"));
            lab.far(&format!("address add 10.0.{n}.2/24 dev {link}"));
            lab.far(&format!("address add 2001:db8:{n}::2/64 dev {link} nodad"));
        }
        Some(lab)
    }

    fn far(&self, line: &str) {
        ip(&format!("-n {} {line}", self.names[1]));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn run(line: &str) -> Output {
    Command::new("ip").args(line.split_whitespace()).output().unwrap()
}

fn ip(line: &str) {
    let output = run(line);
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn batch(lines: impl Iterator<Item = String>) {
    let path = std::env::temp_dir().join(format!(
        "zsync-nl-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&path, lines.map(|line| line + "\n").collect::<String>()).unwrap();
    let output = Command::new("ip").arg("-batch").arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn adjacency(port: u16, gateway: &str) -> Adjacency {
    Adjacency { port, gateway: addr(gateway) }
}

fn ports() -> HashMap<u32, u16> {
    let number = |name: &str| HashMap::from([("p1", 1), ("p2", 2)]).get(name).copied();
    links_now().unwrap().iter().filter_map(|link| Some((link.ifindex, number(&link.name)?))).collect()
}

/// What the kernel would do with a packet to `to`, against what the FIB says; an explanation where they differ.
fn differs(fib: &MemoryFib, to: &str) -> Option<String> {
    let found = fib.lookup(addr(to));
    let output = run(&format!("-j route get {to}"));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let answer = &answer[0];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let agree = match found.map(|(_, target)| target) {
        None => error.contains("Network is unreachable"),
        Some(Target::Kernel) => true,
        Some(Target::OnLink(port)) => {
            let on_link = text(&answer["gateway"]).is_none() && answer["via"].is_null();
            on_link && answer["dev"].as_str() == Some(if *port == 1 { "p1" } else { "p2" })
        }
        // All links of this test have neighbours.
        Some(Target::Deliver(_)) => false,
        Some(Target::Local) => answer["type"] == "local",
        Some(Target::Blackhole) => error.contains("Invalid argument"),
        Some(Target::Unreachable) => error.contains("No route to host"),
        Some(Target::Prohibit) => error.contains("Permission denied"),
        Some(Target::Hops(hops)) => {
            let gateway = text(&answer["gateway"]).or_else(|| text(&answer["via"]["host"]));
            let gateway = addr(&gateway.unwrap_or_else(|| to.to_owned()));
            let port = match answer["dev"].as_str() {
                Some("p1") => 1,
                Some("p2") => 2,
                _ => 0,
            };
            answer["type"].is_null() && hops.iter().any(|(hop, _)| *hop == Adjacency { port, gateway })
        }
    };
    (!agree).then(|| format!("{to}: the FIB says {found:?}, the kernel {answer} {error}"))
}

struct Follower {
    netlink: Netlink,
    fib: MemoryFib,
}

impl Follower {
    fn start(options: Options) -> Self {
        Self { netlink: Netlink::start(ports(), options).unwrap(), fib: MemoryFib::default() }
    }

    /// Follows until `wrong` has nothing to say any more, or fails with what it says.
    async fn until(&mut self, wrong: impl Fn(&Self) -> Option<String>) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            // Cut short on purpose, again and again: dropping the future must lose nothing.
            if let Ok(changes) =
                tokio::time::timeout(Duration::from_millis(30), self.netlink.next_changes()).await
            {
                changes.unwrap();
                self.netlink.apply(&mut self.fib);
            }
            let Some(words) = wrong(self) else { return };
            assert!(Instant::now() < end, "{words}\n{:#?}", self.fib);
        }
    }

    async fn agrees(&mut self) {
        const PROBES: [&str; 22] = [
            "10.0.0.1",
            "10.0.0.2",
            "10.0.0.77",
            "10.0.0.255",
            "10.0.1.2",
            "10.0.5.9",
            "127.0.0.1",
            "10.9.0.1",
            "10.9.1.1",
            "10.10.0.1",
            "10.11.0.1",
            "10.12.0.1",
            "10.13.0.1",
            "10.14.0.1",
            "10.15.0.1",
            "10.99.0.1",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:9::1",
            "2001:db8:a::1",
            "2001:db8:b::1",
            "2001:db8:c::1",
        ];
        self.until(|me| PROBES.iter().find_map(|to| differs(&me.fib, to))).await;
    }

    async fn says(&mut self, prefix: &str, target: Option<Target>) {
        let prefix: Prefix = prefix.parse().unwrap();
        let wrong = |me: &Self| {
            let said = me.fib.entries.get(&prefix);
            (said != target.as_ref()).then(|| format!("{prefix}: {said:?}, not {target:?}"))
        };
        self.until(wrong).await;
    }
}

fn hops<const N: usize>(list: [(u16, &str, u8); N]) -> Option<Target> {
    Some(Target::Hops(list.map(|(port, gateway, weight)| (adjacency(port, gateway), weight)).into()))
}

fn follow(body: impl AsyncFnOnce(&Lab)) {
    let Some(lab) = Lab::new() else { return };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body(&lab));
}

const MAC: &str = "lladdr 02:00:00:00:00:77 nud permanent";

#[test]
fn the_fib_follows_the_kernel() {
    follow(async |_| {
        for line in [
            "route add 10.9.0.0/16 via 10.0.0.2 metric 20",
            "route add 10.9.1.0/24 via 10.0.1.2",
            "route add 10.10.0.0/16 nexthop via 10.0.0.2 weight 1 nexthop via 10.0.1.2 weight 3",
            "route add blackhole 10.11.0.0/16",
            "route add 10.12.0.0/16 via inet6 2001:db8:1::2 dev p2",
            "nexthop add id 1 via 10.0.0.2 dev p1",
            "nexthop add id 2 via 10.0.1.2 dev p2",
            "nexthop add id 10 group 1/2,5",
            "route add 10.13.0.0/16 nhid 10",
            "-6 route add 2001:db8:9::/48 via 2001:db8::2",
            "-6 route add 2001:db8:a::/48 nexthop via 2001:db8::2 nexthop via 2001:db8:1::2",
        ] {
            ip(line);
        }
        ip(&format!("neighbour add 10.0.0.77 dev p1 {MAC}"));
        let mut me = Follower::start(Options::default());
        me.agrees().await;
        me.says("10.9.0.0/16", hops([(1, "10.0.0.2", 1)])).await;
        me.says("10.10.0.0/16", hops([(1, "10.0.0.2", 1), (2, "10.0.1.2", 3)])).await;
        me.says("10.12.0.0/16", hops([(2, "2001:db8:1::2", 1)])).await;
        me.says("10.13.0.0/16", hops([(1, "10.0.0.2", 1), (2, "10.0.1.2", 5)])).await;
        me.says("10.0.0.77/32", hops([(1, "10.0.0.77", 1)])).await;
        me.says("10.0.0.0/24", Some(Target::OnLink(1))).await;
        me.says("10.0.0.1/32", Some(Target::Local)).await;
        me.says("2001:db8:a::/48", hops([(1, "2001:db8::2", 1), (2, "2001:db8:1::2", 1)])).await;

        // While it is followed.
        for (line, prefix, target) in [
            ("route add 10.9.0.0/16 via 10.0.1.2 metric 10", "10.9.0.0/16", hops([(2, "10.0.1.2", 1)])),
            ("route del 10.9.0.0/16 via 10.0.1.2 metric 10", "10.9.0.0/16", hops([(1, "10.0.0.2", 1)])),
            ("route replace 10.9.1.0/24 via 10.0.0.2", "10.9.1.0/24", hops([(1, "10.0.0.2", 1)])),
            ("route append 10.9.1.0/24 via 10.0.1.2", "10.9.1.0/24", hops([(1, "10.0.0.2", 1)])),
            ("route del 10.9.1.0/24 via 10.0.0.2", "10.9.1.0/24", hops([(2, "10.0.1.2", 1)])),
            ("route add unreachable 10.14.0.0/16", "10.14.0.0/16", Some(Target::Unreachable)),
            ("route add prohibit 10.15.0.0/16", "10.15.0.0/16", Some(Target::Prohibit)),
            ("route replace 10.11.0.0/16 via 10.0.5.2", "10.11.0.0/16", Some(Target::Kernel)),
            (
                "nexthop replace id 2 via 2001:db8:1::2 dev p2",
                "10.13.0.0/16",
                hops([(1, "10.0.0.2", 1), (2, "2001:db8:1::2", 5)]),
            ),
            (
                "-6 route append 2001:db8:9::/48 via 2001:db8:1::2",
                "2001:db8:9::/48",
                hops([(1, "2001:db8::2", 1), (2, "2001:db8:1::2", 1)]),
            ),
            (
                "-6 route del 2001:db8:9::/48 via 2001:db8::2",
                "2001:db8:9::/48",
                hops([(2, "2001:db8:1::2", 1)]),
            ),
            (
                "-6 route replace 2001:db8:a::/48 via 2001:db8::2",
                "2001:db8:a::/48",
                hops([(1, "2001:db8::2", 1)]),
            ),
            ("-6 route del 2001:db8:a::/48", "2001:db8:a::/48", None),
            ("-6 route add blackhole 2001:db8:b::/48", "2001:db8:b::/48", Some(Target::Blackhole)),
            ("neighbour del 10.0.0.77 dev p1", "10.0.0.77/32", None),
            ("route add table 100 10.99.0.0/16 via 10.0.0.2", "10.99.0.0/16", None),
            // Said by nobody: the object takes its routes along, and a link that goes down takes them and hops.
            ("nexthop del id 10", "10.13.0.0/16", None),
            ("link set p1 down", "10.9.0.0/16", None),
            ("link set p1 up", "10.0.0.0/24", Some(Target::OnLink(1))),
            ("address del 10.0.1.1/24 dev p2", "10.9.1.0/24", None),
        ] {
            ip(line);
            me.says(prefix, target).await;
            me.agrees().await;
        }
        me.until(|me| {
            me.netlink
                .mirror()
                .local_addresses()
                .contains(&addr("10.0.1.1"))
                .then(|| "an address stays".into())
        })
        .await;
        ip("link del p1");
        me.says("10.0.0.0/24", None).await;
        me.says("10.0.0.1/32", None).await;
        me.agrees().await;
        assert_eq!(me.netlink.statistics().overruns, 0);
    });
}

/// Groups of the kernel, resilient or not, in the data plane's FIB: when a member goes, the flows over the others stay.
#[test]
fn flows_stay_where_they_are_when_a_member_of_their_group_goes() {
    follow(async |_| {
        for (n, dev, v4, v6) in [
            (1, "p1", "10.0.0.71", "2001:db8::71"),
            (2, "p1", "10.0.0.72", "2001:db8::72"),
            (3, "p2", "10.0.1.73", "2001:db8:1::73"),
        ] {
            ip(&format!("nexthop add id {n} via {v4} dev {dev}"));
            ip(&format!("nexthop add id 1{n} via {v6} dev {dev}"));
            for address in [v4, v6] {
                ip(&format!("neighbour add {address} dev {dev} lladdr 02:00:00:00:00:7{n} nud permanent"));
            }
        }
        for line in [
            "nexthop add id 20 group 1/2/3 type resilient buckets 64",
            "nexthop add id 21 group 11,2/12,2/13,4",
            "route add 10.9.0.0/16 nhid 20",
            "route add 10.10.0.0/16 nhid 20",
            "-6 route add 2001:db8:9::/48 nhid 21",
        ] {
            ip(line);
        }
        let layout = FibLayout::SMALL;
        let mut fib = MirroredFib::new(FibWriter::create(Region::heap(layout.bytes()), layout).unwrap());
        let mut netlink = Netlink::start(ports(), Options::default()).unwrap();
        let (v4, v6) = (addr("10.9.0.0"), addr("2001:db8:9::"));
        let flows = |fib: &MirroredFib| {
            let reader = fib.writer().reader();
            let [four, five] = [0x0a09_0001, 0x0a0a_0001].map(|address| reader.route4(address));
            assert_eq!(four, five, "routes over one group share its hops");
            let six = reader.route6(&"2001:db8:9::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
            [four, six].map(|route| -> Vec<u8> {
                let last = |n: u32| match reader.adjacency(route, n << 20) {
                    fib::Adjacency::Forward { mac, .. } => mac[5] & 0xf,
                    other => panic!("{other:?}"),
                };
                (0..4096).map(last).collect()
            })
        };
        let members = |fib: &MirroredFib| {
            [(v4, 16), (v6, 48)].map(|(prefix, len)| match fib.writer().get(prefix, len) {
                Some(fib::Target::Hops(hops)) => hops.len(),
                _ => 0,
            })
        };
        let mut before: Option<[Vec<u8>; 2]> = None;
        for (lines, left) in [
            (&[][..], &[1, 2, 3][..]),
            (&["nexthop del id 2", "nexthop del id 12"], &[1, 3]),
            (
                &[
                    "nexthop add id 2 via 10.0.0.72 dev p1",
                    "nexthop add id 12 via 2001:db8::72 dev p1",
                    "nexthop replace id 20 group 1/2/3 type resilient buckets 64",
                    "nexthop replace id 21 group 11,2/12,2/13,4",
                ],
                &[1, 2, 3],
            ),
            (&["link set p2 down"], &[1, 2]),
        ] {
            lines.iter().for_each(|line| ip(line));
            let end = Instant::now() + Duration::from_secs(10);
            while members(&fib) != [left.len(); 2] {
                assert!(Instant::now() < end, "{lines:?}: {:?}", members(&fib));
                let changes = tokio::time::timeout(Duration::from_millis(30), netlink.next_changes()).await;
                if let Ok(changes) = changes {
                    changes.unwrap();
                    netlink.apply(&mut fib);
                }
            }
            let now = flows(&fib);
            for (was, is) in before.iter().flatten().zip(&now) {
                let there = |hop: &u8| left.contains(hop);
                assert!(is.iter().all(there));
                let moved = || was.iter().zip(is).filter(|(was, is)| was != is);
                if left.len() == 2 {
                    assert!(moved().all(|(was, _)| !there(was)), "only the flows over the lost hop move");
                } else {
                    assert!(moved().all(|(_, is)| *is == 2), "only to the hop that is back");
                }
            }
            before = Some(now);
        }
    });
}

#[test]
fn a_port_speaks_from_the_address_that_the_kernel_has_given_it() {
    follow(async |_| {
        let mut me = Follower::start(Options::default());
        let p1 = links_now().unwrap().iter().find(|link| link.name == "p1").unwrap().ifindex;
        for (line, v4, v6) in [
            ("address show", Some("10.0.0.1"), Some("2001:db8::1")),
            // Second to the first, and others of equal standing: nothing changes.
            ("address add 10.0.0.200/24 dev p1", Some("10.0.0.1"), Some("2001:db8::1")),
            ("address add 10.0.0.0/32 dev p1", Some("10.0.0.1"), Some("2001:db8::1")),
            ("address add 2001:db8::/128 dev p1 nodad", Some("10.0.0.1"), Some("2001:db8::1")),
            ("address add fd00::1/64 dev p1 nodad", Some("10.0.0.1"), Some("2001:db8::1")),
            ("address change 2001:db8::1/64 dev p1 preferred_lft 0", Some("10.0.0.1"), Some("2001:db8::")),
            ("address del 2001:db8::/128 dev p1", Some("10.0.0.1"), Some("fd00::1")),
            ("address del fd00::1/64 dev p1", Some("10.0.0.1"), Some("2001:db8::1")),
            ("address del 2001:db8::1/64 dev p1", Some("10.0.0.1"), None),
            ("address del 10.0.0.1/24 dev p1", Some("10.0.0.0"), None),
            ("address flush dev p1", None, None),
            ("address add 169.254.7.7/16 scope link dev p1", None, None),
            ("address add 10.0.0.3/24 dev p1", Some("10.0.0.3"), None),
        ] {
            ip(line);
            let wanted = (v4.map(addr), v6.map(addr));
            me.until(|me| {
                let (v4, v6) = me.netlink.mirror().sources(p1);
                let said = (v4.map(IpAddr::V4), v6.map(IpAddr::V6));
                (said != wanted).then(|| format!("{line}: {said:?}, not {wanted:?}"))
            })
            .await;
        }
    });
}

#[test]
fn an_overrun_is_made_good_by_reading_everything_again() {
    const ROUTES: usize = 3000;
    follow(async |_| {
        let prefix = |n: usize| format!("172.{}.{}.0/24", 16 + n / 256, n % 256);
        let mut me = Follower::start(Options { receive_buffer: 4096, ..Options::default() });
        me.agrees().await;
        let held = |me: &Follower| {
            let ours = |p: &&Prefix| p.to_string().starts_with("172.");
            me.fib.entries.keys().filter(ours).map(ToString::to_string).collect::<Vec<_>>()
        };
        // Nobody reads while these are told: most of it is lost.
        batch((0..ROUTES).map(|n| format!("route add {} via 10.0.0.2", prefix(n))));
        me.until(|me| (held(me).len() != ROUTES).then(|| format!("{} of {ROUTES}", held(me).len()))).await;
        let first = me.netlink.statistics();
        assert!(first.overruns >= 1, "{first:?}");
        batch((0..ROUTES).filter(|n| n % 3 != 0).map(|n| format!("route del {}", prefix(n))));
        let left: Vec<_> = (0..ROUTES).filter(|n| n % 3 == 0).map(prefix).collect();
        me.until(|me| (held(me) != left).then(|| format!("{} are left of {}", held(me).len(), left.len())))
            .await;
        let second = me.netlink.statistics();
        assert!(second.overruns > first.overruns && second.dropped > 0, "{second:?}");
        me.agrees().await;
        // And once more by hand: nothing is wrong, so nothing is said.
        let calls = me.fib.calls;
        me.netlink.resync();
        let before = me.netlink.statistics().resyncs;
        me.until(|me| (me.netlink.statistics().resyncs == before).then(|| "no resync".into())).await;
        assert_eq!(me.fib.calls, calls);
    });
}

#[test]
fn the_kernel_resolves_what_the_fib_needs_and_probes_what_is_stale() {
    follow(async |_| {
        for line in [
            "route add 10.9.0.0/16 via 10.0.0.2",
            "route add 10.10.0.0/16 via 10.0.1.200",
            "route add 10.12.0.0/16 via inet6 2001:db8::2 dev p1",
            "-6 route add 2001:db8:9::/48 via 2001:db8:1::2",
        ] {
            ip(line);
        }
        let mut me = Follower::start(Options::default());
        let resolved = [
            (adjacency(1, "10.0.0.2"), Some([2, 0, 0, 0, 1, 2])),
            (adjacency(1, "2001:db8::2"), Some([2, 0, 0, 0, 1, 2])),
            (adjacency(2, "2001:db8:1::2"), Some([2, 0, 0, 0, 2, 2])),
            // Nobody is there.
            (adjacency(2, "10.0.1.200"), None),
        ];
        me.until(|me| {
            let wrong =
                resolved.iter().find(|(adjacency, mac)| me.fib.adjacencies.get(adjacency) != Some(mac));
            wrong.map(|wrong| format!("{wrong:?}"))
        })
        .await;
        assert!(me.netlink.statistics().probes >= 4);
        drop(me);

        // A stale one is used by a mirror that meets it, and so found to be there.
        std::fs::write("/proc/sys/net/ipv4/neigh/p1/delay_first_probe_time", "1").unwrap();
        ip("neighbour change 10.0.0.2 dev p1 nud stale");
        let mut me = Follower::start(Options::default());
        me.until(|_| {
            let answer: Value =
                serde_json::from_slice(&run("-j neighbour show 10.0.0.2 dev p1").stdout).unwrap();
            (answer[0]["state"][0] != "REACHABLE").then(|| answer.to_string())
        })
        .await;
    });
}

#[test]
fn ports_are_checked_against_what_the_kernel_has() {
    follow(async |lab| {
        for line in
            ["link add br7 type bridge", "link set p2 master br7", "link add v1 type veth peer name v2"]
        {
            ip(line);
        }
        let refused = |name, limit| check_port(name, limit, |_| false).unwrap_err();
        assert!(
            matches!(refused("p3", None), PortError::Missing { nearest, .. } if nearest.contains(&"p1".to_owned()))
        );
        assert!(matches!(refused("p1", Some(1400)), PortError::Mtu { mtu: 1500, limit: 1400, .. }));
        assert!(matches!(refused("lo", None), PortError::NotEthernet { .. }));
        let port = check_port("p1", Some(1500), |_| false).unwrap();
        assert!(port.warnings.is_empty() && port.link.mac == Some([2, 0, 0, 0, 1, 1]));
        assert!(check_port("p2", None, |_| false).unwrap().warnings[0].to_string().contains("`br7`"));
        assert_eq!(check_port("v1", None, |_| false).unwrap().warnings.len(), 1);

        let ethtool = |namespace: &str, line: &str| {
            let all = format!("netns exec {namespace} ethtool -K {line}");
            ip(&all);
        };
        let far = &lab.names[1];
        ethtool(far, "q1 gro off");
        let warning = check_peer(&port.link).unwrap().unwrap();
        assert_eq!(warning.peer, "q1");
        assert!(warning.to_string().ends_with("ethtool -K q1 gro on`"), "{warning}");
        ethtool(far, "q1 gro on");
        assert_eq!(check_peer(&port.link).unwrap(), None);
        let v1 = check_port("v1", None, |_| false).unwrap().link;
        ethtool(&lab.names[0], "v2 gro off");
        assert_eq!(check_peer(&v1).unwrap().unwrap().namespace, None);
        ethtool(&lab.names[0], "v2 gro on");
        assert_eq!(check_peer(&v1).unwrap(), None);
    });
}
