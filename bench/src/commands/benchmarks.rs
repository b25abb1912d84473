//! The benchmarks by name: what `list` prints, and `run` and `compare` take.

use anyhow::{Result, bail};
use std::time::Duration;
use zsync_bench::report::Report;
use zsync_bench::stages::costs;
use zsync_bench::watch::Watch;
use zsync_bench::{acl, crypto, fib, memory, runtime, tun, veth, wireguard};

/// A benchmark: its name, what it measures, and how to run it for a time in so many rounds.
pub struct Benchmark {
    pub name: &'static str,
    pub about: &'static str,
    pub rounds: u32,
    pub run: fn(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "memory-patch",
        about: "the worker between two null devices, port to port; beside testpmd in io mode",
        rounds: 15,
        run: |rounds, budget, watch| memory::patch(rounds, budget / (2 * rounds as u32), watch),
    },
    Benchmark {
        name: "memory-macswap",
        about: "the same with MAC addresses swapped and every packet copied in and out; beside testpmd in macswap mode",
        rounds: 15,
        run: |rounds, budget, watch| memory::macswap(rounds, budget / (2 * rounds as u32), watch),
    },
    Benchmark {
        name: "memory-route",
        about: "the worker between two null devices, routing IPv4 and IPv6 by 1, 1 k and 100 k prefixes",
        rounds: 7,
        run: |rounds, budget, watch| {
            memory::route(rounds, budget / ((2 * memory::ROUTES.len() as u32 + 1) * rounds as u32), watch)
        },
    },
    Benchmark {
        name: "memory-tasks",
        about: "the worker between two null devices beside tasks: none, 1,000 that wait, one that is always ready; and a timer",
        rounds: 15,
        run: |rounds, budget, watch| memory::tasks(rounds, budget / (3 * rounds as u32), watch),
    },
    Benchmark {
        name: "fib",
        about: "lookups in the FIB, 64 at a time, 1 k and 100 k routes of both families; beside dpdk-test-fib",
        rounds: 5,
        run: fib::run,
    },
    Benchmark {
        name: "acl",
        about: "classification with 100, 1 k and 10 k rules; beside dpdk-test-acl",
        rounds: 5,
        run: acl::run,
    },
    Benchmark {
        name: "veth-route",
        about: "a router between two veth pairs at full rate; beside testpmd on af_xdp and the kernel. Needs root",
        rounds: 3,
        run: veth::route,
    },
    Benchmark {
        name: "veth-packet",
        about: "as veth-route, by packet sockets; beside AF_XDP and the kernel. Needs root",
        rounds: 3,
        run: veth::packet,
    },
    Benchmark {
        name: "veth-track",
        about: "as veth-route, tracking 65,536 flows; beside the kernel with nftables. Needs root",
        rounds: 3,
        run: veth::track,
    },
    Benchmark {
        name: "veth-nat",
        about: "as veth-route, masquerading 64,512 flows; beside the kernel with nftables. Needs root",
        rounds: 3,
        run: veth::nat,
    },
    Benchmark {
        name: "veth-filter",
        about: "as veth-route, with 1,000 rules; beside the kernel with nftables. Needs root",
        rounds: 3,
        run: veth::filter,
    },
    Benchmark {
        name: "tun-tcp",
        about: "a TCP connection routed between two TUN devices; beside a loop of read and write. Needs root",
        rounds: 5,
        run: tun::tcp,
    },
    Benchmark {
        name: "tun-packets",
        about: "the same with datagrams of 64 bytes, each sent by itself. Needs root",
        rounds: 5,
        run: tun::packets,
    },
];

/// Prints what there is.
pub fn list() {
    BENCHMARKS.iter().for_each(|b| println!("{:14}  {}", b.name, b.about));
    costs::BENCHMARKS.iter().for_each(|(name, about, _)| println!("{name:14}  {about}"));
    crypto::BENCHMARKS.iter().for_each(|(name, about, _)| println!("{name:14}  {about}"));
    println!("{:14}  {}", runtime::BENCHMARK.0, runtime::BENCHMARK.1);
    wireguard::BENCHMARKS.iter().for_each(|(name, about, _)| println!("{name:14}  {about}"));
}

/// The one of that name.
pub fn find(name: &str) -> Result<&'static Benchmark> {
    match BENCHMARKS.iter().find(|benchmark| benchmark.name == name) {
        Some(benchmark) => Ok(benchmark),
        None => bail!("there is no benchmark {name}: `zsync-bench list` shows those that there are"),
    }
}
