//! What was missed, what must be resolved, and what is stale.

use crate::follower::{Follower, adjacency, follow};
use crate::lab::{batch, ip, run};
use serde_json::Value;
use zsync_control::netlink::{Options, Prefix};

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
