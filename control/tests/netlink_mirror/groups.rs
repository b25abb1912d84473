//! Groups of next hops.

use crate::follower::{addr, follow, ports};
use crate::lab::ip;
use std::time::{Duration, Instant};
use zsync_control::netlink::{MirroredFib, Netlink, Options};
use zsync_packet::region::Region;
use zsync_pipelines::tables::fib::{self, FibLayout, FibWriter};

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
