//! What a reload costs, part by part: 100,000 rules, a set of 1,000,000 prefixes, a table of 1,000,000 routes.
//!
//! Each part is timed alone, several times, and the median printed with the least and the greatest: what control does with the
//! text, what goes to the data plane, and what that makes of it before workers take it over.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zsync_packet::flow::HashKey;
use zsync_packet::region::Region;
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::PortFacts;
use zsync_pipelines::spec::{Spec, TextFile, diff, parse_with, unmet};
use zsync_pipelines::tables::fib::{FibLayout, FibWriter, Target};

/// How often each part is timed.
const RUNS: usize = 5;
const RULES: usize = 100_000;
const PREFIXES: usize = 1_000_000;
const ROUTES: usize = 1_000_000;

fn main() {
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    let (old, new) = (rules(0), rules(1));
    println!("{RULES} rules, {} bytes of text", new.len());
    parts((&old, ""), (&new, ""));
    let set = format!(
        "{HEAD}rules = [{{ drop = true, from = \"set.blocked\" }}]\n[set.blocked]\nfile = \"blocked\"\n"
    );
    let (old, new) = (prefixes(0), prefixes(5));
    println!("a set of {PREFIXES} prefixes, a file of {} bytes", new.len());
    parts((&set, &old), (&set, &new));
    routes();
}

fn parts(old: (&str, &str), new: (&str, &str)) {
    let read = |(source, list): (&str, &str)| {
        let list: Arc<str> = list.into();
        let mut files = |path: &str| Ok(TextFile { name: path.to_owned(), text: Arc::clone(&list) });
        parse_with(source, "reload.toml", &mut files).expect("it is valid")
    };
    let old = read(old).spec;
    let parsed = part("parse", || read(new));
    let new_spec = parsed.spec.clone();
    part("look for rules that no packet meets (check alone)", || unmet(&parsed, new.0, "reload.toml"));
    part("diff", || diff(&old, &new_spec));
    let bytes = part("encode", || new_spec.to_bytes());
    println!("  {} bytes for the data plane", bytes.len());
    let decoded: Spec = part("decode", || Spec::from_bytes(&bytes).expect("it can be read"));
    let with = resources();
    part("compile", || compile(&decoded, 1, &with).expect("it fits"));
    part("copy, for each worker beyond the first", {
        let snapshot = compile(&decoded, 1, &with).expect("it fits");
        move || snapshot.clone()
    });
}

/// Times something, and gives what it made.
fn part<T>(name: &str, mut make: impl FnMut() -> T) -> T {
    let mut times: Vec<Duration> = Vec::new();
    let mut made = None;
    for _ in 0..RUNS {
        drop(made.take());
        let since = Instant::now();
        made = Some(black_box(make()));
        times.push(since.elapsed());
    }
    times.sort_unstable();
    let (least, median, most) = (times[0], times[RUNS / 2], times[RUNS - 1]);
    println!("  {name:50} {median:>9.1?} ({least:.1?} to {most:.1?})");
    made.expect("it ran")
}

fn resources() -> Resources {
    let fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).expect("it fits");
    Resources {
        ports: vec![PortFacts::default(); 2],
        fibs: BTreeMap::from([(254, fib.reader())]),
        hash_key: HashKey::from_seed(1),
        workers: 1,
        states: BTreeMap::new(),
    }
}

const HEAD: &str = "[port.wan]\nnetdev = \"eth1\"\n[port.lan]\nnetdev = \"eth2\"\n[pipeline.edge]\n\
                    input = [\"wan\", \"lan\"]\nstages = [\"filter.edge\", \"route.main\"]\n[route.main]\n\
                    [filter.edge]\ndefault = \"accept\"\n";

/// A file of prefixes that do not touch, one in four of IPv6.
fn prefixes(from: usize) -> String {
    let mut text = String::new();
    for number in (from..from + PREFIXES).map(|number| number as u32 * 2) {
        let _ = match number % 8 {
            0 => writeln!(text, "2001:db8:{:x}:{:x}::/64", number >> 16, number & 0xffff),
            _ => writeln!(text, "{}/32", Ipv4Addr::from_bits(0x6400_0000 + number)),
        };
    }
    text
}

/// A table made anew, as control makes it when a configuration names another one. Without a new one a reload keeps the table.
fn routes() {
    println!("a table of {ROUTES} routes");
    let layout = FibLayout::default();
    part("make", || {
        let mut fib = FibWriter::create(Region::heap(layout.bytes()), layout).expect("it fits");
        let hop = fib.adjacency(0, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))).expect("it fits");
        for number in 0..ROUTES as u32 {
            let prefix = Ipv4Addr::from_bits(0x1000_0000 + (number << 8));
            fib.insert(prefix.into(), 24, Target::Hops(vec![(hop, 1)])).expect("it fits");
        }
        fib
    });
}

/// A router with rules of four kinds, in an order that depends on `turn`.
fn rules(turn: usize) -> String {
    let mut text = format!("{HEAD}rules = [\n");
    for rule in 0..RULES {
        let number = (rule + turn * 7919) % RULES;
        let (a, b, c) = (number >> 16 & 0x7f, number >> 8 & 0xff, number & 0xff);
        let action = if (rule + turn).is_multiple_of(3) { "accept" } else { "drop" };
        let port = 1000 + (number * 31 + turn) % 60_000;
        let _ = match rule % 4 {
            0 => writeln!(
                text,
                "{{ {action} = true, from = \"172.{}.{b}.{c}/32\", to-port = {port}, protocol = \"tcp\" }},",
                16 + a
            ),
            1 => writeln!(text, "{{ {action} = true, to = \"100.{}.{b}.{c}/32\" }},", 64 + a),
            2 => writeln!(text, "{{ {action} = true, from = \"2001:db8:{a:x}:{b:x}{c:02x}::/64\" }},"),
            _ => writeln!(
                text,
                "{{ {action} = true, from = \"198.{}.{b}.0/24\", to-port = {port}, protocol = \"udp\" }},",
                128 + a
            ),
        };
    }
    text + "]\n"
}
