//! Outcomes to draw: of the size and kind that benchmarks have. They are invented, and measure nothing.

use zsync_report::curve::{LatencyCurve, LossCurve, Percentile, Trial};
use zsync_report::machine::Machine;
use zsync_report::outcome::{Absent, Direction, Ndr, Outcome, Series};

/// Seven pseudo-random numbers around 1, always the same.
fn wobble(seed: u64, rounds: usize, part: f64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..rounds).map(|_| 1.0 + part * (next() - 0.5)).collect()
}

fn series(name: &str, middle: f64, rounds: usize, part: f64) -> Series {
    let seed = name.bytes().fold(middle as u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    Series::new(name, wobble(seed, rounds, part).iter().map(|around| around * middle).collect::<Vec<_>>())
}

fn outcome(
    name: &str,
    title: &str,
    unit: &str,
    direction: Direction,
    ours: Series,
    peers: Vec<Series>,
) -> Outcome {
    let in_memory = name.starts_with("memory");
    Outcome {
        title: title.to_owned(),
        peers,
        command: format!("zsync-bench run {name} --seconds 30 --rounds 7"),
        machine: Machine {
            kernel: "6.18.5".to_owned(),
            processor: "AMD EPYC 9B14".to_owned(),
            cores: 2,
            load: if in_memory { 1.2 } else { 2.4 },
            ghz: Some(2.6),
            driver: Some(if in_memory { "null" } else { "veth" }.to_owned()),
            mode: Some(if in_memory { "in memory" } else { "AF_XDP copy" }.to_owned()),
        },
        commit: "7115094".to_owned(),
        date: "2026-11-21".to_owned(),
        ..Outcome::new(name, unit, direction, ours)
    }
}

fn latency(series: &str, floor: f64, tail: f64) -> LatencyCurve {
    let quantiles = [0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 0.99999, 1.0];
    let nanoseconds = |q: f64| floor * (1.0 + tail * (1.0 / (1.0 - q).max(2e-6)).ln().powi(3) / 90.0);
    LatencyCurve {
        series: series.to_owned(),
        offered: Some(500e3),
        packets: Some(4_200_000),
        points: quantiles.map(|quantile| Percentile { quantile, nanoseconds: nanoseconds(quantile) }).into(),
    }
}

fn loss(series: &str, limit: f64) -> LossCurve {
    let trial = |offered: f64| {
        let loss = if offered <= limit { 0.0 } else { ((offered - limit) / offered).powi(2).max(3e-6) };
        Trial { offered, received: offered * (1.0 - loss), loss }
    };
    let rates = [0.2, 0.4, 0.6, 0.8, 1.0, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4].map(|million| trial(million * 1e6));
    LossCurve { series: series.to_owned(), trials: rates.into() }
}

pub fn outcomes() -> Vec<Outcome> {
    let patch = outcome(
        "memory-patch",
        "64-byte packets from one null device to another, through the whole worker, per second of one core's time.",
        "packets/s",
        Direction::More,
        Series { cpu_ns_per_packet: Some(3.94), ..series("zsync, patch", 253.6e6, 7, 0.06) },
        vec![Series { cpu_ns_per_packet: Some(9.01), ..series("testpmd, io", 111e6, 7, 0.04) }],
    );
    let mut veth = outcome(
        "veth-route",
        "60-byte UDP packets of 10,000 flows at full rate through a router between two veth pairs, counted at the far end.",
        "packets/s",
        Direction::More,
        Series {
            cpu_ns_per_packet: Some(961.0),
            ndr: Some(Ndr { rate: 1.08e6, loss_limit: 1e-6 }),
            ..series("zsync, route", 1.04e6, 7, 0.02)
        },
        vec![
            Series {
                cpu_ns_per_packet: Some(820.0),
                ndr: Some(Ndr { rate: 1.17e6, loss_limit: 1e-6 }),
                ..series("testpmd, af_xdp", 1.22e6, 7, 0.02)
            },
            series("kernel forwarding", 1.05e6, 7, 0.05),
            series("VPP, af_xdp", 0.71e6, 7, 0.08),
        ],
    );
    veth.loss = vec![loss("zsync, route", 1.1e6), loss("testpmd, af_xdp", 1.2e6), loss("VPP, af_xdp", 0.6e6)];
    veth.latency = vec![
        latency("zsync, route", 11e3, 1.0),
        latency("testpmd, af_xdp", 9e3, 2.5),
        latency("VPP, af_xdp", 30e3, 0.8),
    ];
    veth.notes.push("Other builds ran beside it: load 2.4 on 2 cores.".to_owned());
    veth.notes.push(
        "On veth the kernel's forwarding neither copies a packet nor leaves the generator's core: it is a reference, not a peer."
            .to_owned(),
    );
    let mut lookup = outcome(
        "memory-lookup",
        "Longest prefix match of random IPv6 destinations in a table of 100,000 prefixes.",
        "clocks/packet",
        Direction::Less,
        series("zsync, FIB", 96.0, 2, 0.04),
        vec![series("rte_fib6", 97.0, 2, 0.04)],
    );
    lookup.absent.push(Absent {
        name: "VPP".to_owned(),
        reason: "vpp is not in PATH; install the package vpp-plugin-core".to_owned(),
    });
    let mut latency = outcome(
        "veth-latency",
        "Time from the generator's send to the sink's receive, at 500,000 packets per second.",
        "ns",
        Direction::Less,
        series("zsync, route", 11_400.0, 5, 0.1),
        vec![series("testpmd, af_xdp", 18_100.0, 5, 0.1)],
    );
    latency.invalid.push("the generator itself was 212 µs late in round 3 (limit 50 µs)".to_owned());
    let mut crypto = outcome(
        "memory-crypto",
        "AES-128-GCM of 1,420-byte packets <in place>, tag & all.",
        "packets/s",
        Direction::More,
        series("zsync", 1.9e6, 5, 0.02),
        vec![],
    );
    crypto.absent.push(Absent {
        name: "ipsec-secgw".to_owned(),
        reason: "DPDK's examples are not installed".to_owned(),
    });
    vec![patch, veth, lookup, latency, crypto]
}
