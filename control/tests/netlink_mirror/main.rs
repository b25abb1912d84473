//! The mirror beside a real kernel: links, routes, next-hop objects and neighbours made with `ip` in namespaces of the test's
//! own, and the FIB that follows compared with the kernel's own lookups (`ip route get`).

#![forbid(unsafe_code)]

mod follower;
mod groups;
mod lab;
mod recovery;

use follower::{Follower, MAC, addr, follow, hops};
use lab::ip;
use std::net::IpAddr;
use zsync_control::netlink::{Options, PortError, Target, check_peer, check_port, links_now};

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
