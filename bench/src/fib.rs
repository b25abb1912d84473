//! `fib`: what a lookup in the FIB costs, beside `dpdk-test-fib`, over the same routes and the same addresses.
//!
//! Both do the same: build the table, then look up each address once, 64 at a time; a burst is timed by the time stamp
//! counter, with a full barrier before it is read, and the mean over all bursts is the figure (dpdk's app/test-fib/main.c,
//! `run_v4`). Keeps true: a pass in which an address had no route is an error, not a figure.

use crate::dpdk;
use crate::folder::Folder;
use crate::machine::measured_core;
use crate::report::{Rate, Report};
use crate::traffic::{Family, Seeded, Table};
use crate::tsc;
use crate::watch::Watch;
use anyhow::{Context, Result, ensure};
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;
use zsync_pipelines::tables::fib::Route;

/// The peer.
pub const PROGRAM: &str = "dpdk-test-fib";
/// Routes in the tables.
pub const ROUTES: [usize; 2] = [1_000, 100_000];
/// Addresses looked up in a pass: a multiple of the burst, as the peer reads past its list otherwise.
const LOOKUPS: usize = 1 << 19;
/// The peer's, which cannot be told another.
const BURST: usize = 64;
const SEED: u64 = 7;

/// A table and its addresses, and what was measured with them.
struct Case {
    family: Family,
    routes: usize,
    addresses: Addresses,
    files: [String; 2],
    ours: Rate,
    theirs: Vec<(&'static Variant, Rate)>,
}

/// How the peer is run.
struct Variant {
    name: &'static str,
    eal: &'static [&'static str],
}

/// Its default, and with AVX-512, which it must be allowed to use.
const VARIANTS: [Variant; 2] =
    [Variant { name: "", eal: &[] }, Variant { name: " AVX-512", eal: &["--force-max-simd-bitwidth=512"] }];

enum Addresses {
    V4(Vec<u32>),
    V6(Vec<[u8; 16]>),
}

/// Runs it: A B C A B C, a round of each case after the other; fewer rounds when the time is over, or `watch` says so.
///
/// # Errors
/// A pass that cannot be measured. A peer that is not there is a note in the report.
pub fn run(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    let mut report = Report { of_core_time: true, unit: "lookup", ..Report::new("fib") };
    let ghz = report.machine.ghz.context("this processor has no time stamp counter")?;
    let per_second = |clocks: f64| ghz * 1e9 / clocks;
    let folder = Folder::make()?;
    let mut peer = dpdk::is_installed(PROGRAM);
    if !peer {
        report
            .notes
            .push(format!("no {PROGRAM} beside it: `zsync-bench peers --install` (package dpdk-dev)"));
    }
    let wide = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" avx512bw"));
    let mut cases = Vec::new();
    for family in [Family::V4, Family::V6] {
        for routes in ROUTES {
            cases.push(Case::make(family, routes, if wide { 2 } else { 1 }, &folder)?);
        }
    }
    let total = rounds * cases.iter().map(|case| 1 + case.theirs.len()).sum::<usize>();
    let mut turn = 0;
    let done = watch.rounds(rounds, budget, |round| {
        let mut step = |name: &str| {
            watch.step(turn, total, &format!("round {} of {rounds}, {name}", round + 1));
            turn += 1;
        };
        for case in &mut cases {
            step(&case.ours.name);
            case.ours.samples.push(per_second(case.measure()?));
            for (variant, rate) in &mut case.theirs {
                if !peer {
                    break;
                }
                step(&rate.name);
                match measure_peer(case.family, case.routes, &case.files, variant, watch) {
                    Ok(clocks) => rate.samples.push(per_second(clocks)),
                    Err(error) if watch.is_cancelled() => return Err(error),
                    Err(error) => {
                        report.notes.push(format!("no {PROGRAM}{}: {error:#}", variant.name));
                        peer = false;
                    }
                }
            }
        }
        Ok(())
    })?;
    report.notes.extend(done.note);
    for mut case in cases {
        case.ours.samples.truncate(done.done);
        case.theirs.iter_mut().for_each(|(_, rate)| rate.samples.truncate(done.done));
        let measured: Vec<Rate> =
            case.theirs.into_iter().map(|(_, rate)| rate).filter(|rate| !rate.samples.is_empty()).collect();
        report.ratios.extend(measured.iter().map(|theirs| crate::report::Ratio::of(&case.ours, theirs)));
        report.rates.push(case.ours);
        report.rates.extend(measured);
    }
    report.notes.push(format!(
        "lookups per second of the measured core, {LOOKUPS} random addresses under random routes, each once, {BURST} at a \
         time; the table is built anew before each pass; clocks of the time stamp counter, so what else the machine does \
         to this core is in them"
    ));
    Ok(report)
}

impl Case {
    fn make(family: Family, routes: usize, variants: usize, folder: &Folder) -> Result<Self> {
        let mut seeded = Seeded::new(SEED);
        let table = Table::random(family, routes, &mut seeded)?;
        let list: Vec<IpAddr> = (0..LOOKUPS).map(|_| table.destination(&mut seeded)).collect();
        let name = |what: &str| format!("{what}-{}-{routes}", family.name());
        let lines = table.prefixes().enumerate();
        let route = |(n, (prefix, len))| format!("{}/{len} {}", spelled(prefix), n % 32 + 1);
        let files = [
            folder.write(&name("routes"), lines.map(route))?,
            folder.write(&name("addresses"), list.iter().map(|&address| spelled(address)))?,
        ];
        let addresses = match family {
            Family::V4 => Addresses::V4(list.iter().filter_map(|a| v4(*a)).collect()),
            Family::V6 => Addresses::V6(list.iter().filter_map(|a| v6(*a)).collect()),
        };
        let rate =
            |who: &str| Rate { name: format!("{who}, {}, {routes} routes", family.name()), samples: vec![] };
        let theirs = VARIANTS[..variants].iter().map(|v| (v, rate(&format!("{PROGRAM}{}", v.name))));
        Ok(Self { family, routes, addresses, files, ours: rate("zsync"), theirs: theirs.collect() })
    }

    /// Clocks of one of our lookups.
    fn measure(&self) -> Result<f64> {
        // Anew, as the peer's: so its lines are in the caches that building it left them in.
        let table = Table::random(self.family, self.routes, &mut Seeded::new(SEED))?;
        let pinned_pass = || -> Result<f64> {
            let core = core_affinity::CoreId { id: measured_core() };
            ensure!(core_affinity::set_for_current(core), "cannot be pinned to core {}", measured_core());
            let (clocks, unrouted) = match &self.addresses {
                Addresses::V4(list) => pass(list, |burst, routes| table.fib.routes4(burst, routes)),
                Addresses::V6(list) => pass(list, |burst, routes| table.fib.routes6(burst, routes)),
            };
            ensure!(unrouted == 0, "{unrouted} of {LOOKUPS} addresses have no route");
            Ok(clocks as f64 / LOOKUPS as f64)
        };
        std::thread::scope(|scope| {
            let thread = scope.spawn(pinned_pass);
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Looks all of `list` up once: the clocks that it took, and how many have no route.
fn pass<A>(list: &[A], lookup: impl Fn(&[A], &mut [Route])) -> (u64, usize) {
    let mut routes = [Route::NONE; BURST];
    let (mut clocks, mut unrouted) = (0, 0);
    for burst in list.chunks_exact(BURST) {
        let start = tsc::ordered();
        lookup(burst, black_box(&mut routes));
        black_box(&routes);
        clocks += tsc::ordered().wrapping_sub(start);
        unrouted += routes.iter().filter(|route| route.is_none()).count();
    }
    (clocks, unrouted)
}

/// Clocks of one of the peer's lookups.
fn measure_peer(
    family: Family,
    routes: usize,
    files: &[String; 2],
    variant: &Variant,
    watch: &Watch,
) -> Result<f64> {
    // Of the second level: for the worst of tables, three below each of the prefixes of IPv6.
    let groups = (3 * routes + 1024).to_string();
    let mut own = vec!["-f", &files[0], "-t", &files[1], "-g", &groups];
    if family == Family::V6 {
        own.push("-6");
    }
    let said = dpdk::run(PROGRAM, variant.eal, &own, watch)?;
    clocks(&said).with_context(|| format!("{PROGRAM} told no cost of a lookup"))
}

/// The cost of a lookup in clocks, from what the peer printed.
fn clocks(said: &str) -> Option<f64> {
    let number = said.lines().find_map(|line| line.trim().strip_prefix("AVG FIB lookup"))?;
    number.trim().parse().ok().filter(|&clocks: &f64| clocks > 0.0)
}

/// As the peer reads it: IPv6 in eight groups, none left out.
fn spelled(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:04x}")).join(":"),
    }
}

fn v4(address: IpAddr) -> Option<u32> {
    if let IpAddr::V4(v4) = address { Some(v4.to_bits()) } else { None }
}

fn v6(address: IpAddr) -> Option<[u8; 16]> {
    if let IpAddr::V6(v6) = address { Some(v6.octets()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cost_of_a_lookup_in_what_the_peer_printed() {
        let printed = "Routes total: 100000\nLookup tuples: 262144\nRandom lookup ips: 0\nAVG FIB add 5739\n\
                       AVG FIB add 15474\nAVG FIB lookup 111.8\nAVG FIB delete 15237\n";
        assert_eq!(clocks(printed), Some(111.8));
        assert_eq!(clocks(&printed.replace("111.8", "nan of them")), None);
        assert_eq!(clocks("Can not alloc FIB, err 12\n"), None);
        assert_eq!(clocks("AVG FIB lookup 0.0\n"), None, "nothing was looked up");
    }

    #[test]
    fn every_address_of_a_case_has_a_route_and_both_sides_get_the_same() {
        let folder = Folder::make().unwrap();
        for family in [Family::V4, Family::V6] {
            let case = Case::make(family, 1000, 1, &folder).unwrap();
            assert!(case.measure().unwrap() > 0.0);
            let lines = |n: usize| std::fs::read_to_string(&case.files[n]).unwrap();
            assert_eq!(lines(0).lines().count(), 1000);
            let (first, length) = match &case.addresses {
                Addresses::V4(list) => (IpAddr::from(list[0].to_be_bytes()), list.len()),
                Addresses::V6(list) => (IpAddr::from(list[0]), list.len()),
            };
            assert_eq!(lines(1).lines().next().unwrap().parse::<IpAddr>().unwrap(), first);
            assert_eq!((lines(1).lines().count(), length), (LOOKUPS, LOOKUPS));
        }
    }

    #[test]
    fn spells_addresses_as_the_peer_reads_them() {
        assert_eq!(spelled("2001:db8::1".parse().unwrap()), "2001:0db8:0000:0000:0000:0000:0000:0001");
        assert_eq!(spelled("192.0.2.1".parse().unwrap()), "192.0.2.1");
    }
}
