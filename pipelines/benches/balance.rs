//! What `balance` costs: TSC clocks and nanoseconds a packet, for flows that it knows, and for new ones.
//!
//! `cargo bench -p zsync-pipelines --bench balance`. Packets of 64 bytes in bursts of 32, flows in random order, a hundred backends; parsing is not counted. Each figure is the least of
//! several rounds, and beside it the median of them. Clocks are of the time-stamp counter, whose rate is measured at start.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use zsync_packet::burst::{Burst, Packet};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build::{self, Ipv4Spec, TcpSpec};
use zsync_packet::header::{TcpFlags, ether_type, protocol};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;
use zsync_pipelines::snapshot::PortFacts;
use zsync_pipelines::spec::balance::{Backend, BalanceSpec, Forward, GUE_PORT};
use zsync_pipelines::stage::{Cx, Stage};
use zsync_pipelines::stages::balance::{self, Balance};
use zsync_pipelines::state::State;
use zsync_pipelines::tables::fib::{FibLayout, FibWriter, Target};
use zsync_pipelines::tables::maglev::{self, Maglev, Member};

const BURST: usize = 32;
const BACKENDS: u8 = 100;
const VIP: [u8; 4] = [192, 0, 2, 80];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn spec(forward: Forward, connections: u32) -> BalanceSpec {
    let backend =
        |number| Backend { address: [10, 9, 0, number].into(), port: None, weight: 1, drain: false };
    BalanceSpec {
        vips: vec![VIP.into()],
        services: vec!["tcp/443".parse().expect("a service")],
        forward,
        backends: (1..=BACKENDS).map(backend).collect(),
        sources: vec!["10.8.0.0/16".parse().expect("a prefix")],
        gue_port: GUE_PORT,
        route_table: 254,
        entries: maglev::SIZE,
        connections,
        tcp_idle: Duration::from_secs(900),
        udp_idle: Duration::from_secs(300),
        seed: 0,
        health: None,
    }
}

/// A stage, and a burst of packets that are made to be of any flow.
struct Lab {
    balance: Balance,
    pool: Pool,
    burst: Burst,
    now: u64,
}

impl Lab {
    fn new(forward: Forward, connections: u32) -> Self {
        let spec = spec(forward, connections);
        let mut fib =
            FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).expect("a FIB");
        for number in 1..=BACKENDS {
            let address = IpAddr::from([10, 9, 0, number]);
            let id = fib.adjacency(0, address).expect("room");
            fib.resolve(id, [2, 0, 0, 0, 1, number]);
            fib.insert(address, 32, Target::Hops(vec![(id, 1)])).expect("room");
        }
        let ports = vec![PortFacts { mac: MAC, mtu: 1500, ..PortFacts::default() }];
        let memory = State::heap(balance::size(&spec), 1);
        memory.populate();
        let balance =
            Balance::new(&spec, memory, fib.reader(), ports, HashKey::from_seed(1)).expect("a stage");
        let mut pool = Pool::heap(FrameSize::K2, 64, 1).expect("frames").remove(0);
        let mut burst = Burst::new(pool.arena().clone());
        for _ in 0..BURST {
            let frame = pool.alloc().expect("a frame");
            assert!(burst.push(Packet { frame, start: HEADROOM as u16, len: 60, port: PortId(0) }).is_ok());
        }
        Self { balance, pool, burst, now: 1_000_000_000 }
    }

    /// Clocks and nanoseconds of the stage alone, for the packets of these flows.
    fn run(&mut self, flows: &[u32], template: &[u8], rate: f64) -> (f64, f64) {
        let mut spent = Duration::ZERO;
        for flows in flows.as_chunks::<BURST>().0 {
            for (i, &flow) in flows.iter().enumerate() {
                let extra = self.burst.bytes(i).len() - template.len();
                self.burst.trim_front(i, extra);
                self.burst.bytes_mut(i).copy_from_slice(template);
                let (client, port) = client(flow);
                self.burst.bytes_mut(i)[26..30].copy_from_slice(&client.octets());
                self.burst.bytes_mut(i)[34..36].copy_from_slice(&port.to_be_bytes());
                self.burst.set_key(i, FlowKey::v4((client, port), (VIP.into(), 443), protocol::TCP));
                let facts = self.burst.facts_mut(i);
                (facts.l3, facts.l4, facts.version, facts.protocol) = (14, 34, 4, protocol::TCP);
                self.burst.decide(i, zsync_packet::verdict::Verdict::Next);
            }
            self.now += 3000;
            let mut cx = Cx::at(self.now);
            let begin = Instant::now();
            self.balance.process(black_box(&mut self.burst), &mut cx);
            spent += begin.elapsed();
        }
        // What it costs to look at the clock.
        let begin = Instant::now();
        (0..flows.len() / BURST).for_each(|_| _ = black_box(Instant::now().elapsed()));
        let spent = spent.saturating_sub(begin.elapsed() / 2);
        let nanoseconds = spent.as_secs_f64() * 1e9 / flows.len() as f64;
        (nanoseconds * rate, nanoseconds)
    }

    fn close(mut self) {
        self.burst.free_into(&mut self.pool);
    }
}

fn client(flow: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::from_bits(0x0a10_0000 + flow / 16), 1024 + (flow % 16) as u16)
}

/// Flows in random order, the same in every run.
fn shuffled(flows: u32, count: usize) -> Vec<u32> {
    let mut state = 88_172_645_463_325_252u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    };
    (0..count).map(|_| ((u64::from(next()) * u64::from(flows)) >> 32) as u32).collect()
}

/// Clocks of the time-stamp counter in a nanosecond, as the kernel says them; 0 where it does not.
fn clocks() -> f64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mhz = info
        .lines()
        .find_map(|line| line.strip_prefix("cpu MHz")?.split(':').nth(1)?.trim().parse::<f64>().ok());
    mhz.unwrap_or(0.0) / 1000.0
}

fn measure(name: &str, forward: Forward, flows: u32, rate: f64) {
    let mut lab = Lab::new(forward, flows.max(1 << 14) + flows / 4);
    let ip =
        Ipv4Spec { dont_fragment: true, ..Ipv4Spec::new([10, 0, 0, 0].into(), VIP.into(), protocol::TCP) };
    let packet = |flags| {
        let tcp = TcpSpec::new(0, 443, flags).segment(ip.address_sum(), &[0; 6]);
        build::ethernet(MAC, [2, 0, 0, 0, 9, 9], &[], ether_type::IPV4, &ip.packet(&tcp))
    };
    let all: Vec<u32> = (0..flows).collect();
    let new = lab.run(&all, &packet(TcpFlags::SYN), rate);
    lab.run(&all, &packet(TcpFlags::ACK), rate);
    let order = shuffled(flows, 1 << 20);
    let mut rounds: Vec<_> = (0..9).map(|_| lab.run(&order, &packet(TcpFlags::ACK), rate)).collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (least, median) = (rounds[0], rounds[rounds.len() / 2]);
    println!("{name:<28} {flows:>9} {:>8.1} {:>8.1} {:>8.1} {:>10.1}", least.0, median.0, least.1, new.0);
    lab.close();
}

fn main() {
    let rate = clocks();
    println!("{rate:.3} clocks in a nanosecond; each figure is of one packet");
    println!("{:<28} {:>9} {:>8} {:>8} {:>8} {:>10}", "forward", "flows", "clocks", "median", "ns", "new");
    for flows in [10_000, 1_000_000] {
        for (name, forward) in [("direct", Forward::Direct), ("ipip", Forward::Ipip), ("gue", Forward::Gue)] {
            measure(name, forward, flows, rate);
        }
    }
    let members: Vec<_> = (0..1000u16)
        .map(|value| Member { identity: maglev::identity(&value.to_le_bytes()), weight: 1, value })
        .collect();
    for count in [10, 100, 1000] {
        let begin = Instant::now();
        let table = Maglev::of(maglev::SIZE, &members[..count]);
        let took = begin.elapsed();
        assert!(table.is_some());
        let mut table = Maglev::new(maglev::SIZE, count).expect("a prime");
        let begin = Instant::now();
        table.begin(members[..count].iter().copied());
        let (mut slices, mut longest) = (0, begin.elapsed());
        loop {
            let begin = Instant::now();
            let done = table.advance(1000);
            longest = longest.max(begin.elapsed());
            slices += 1;
            if done {
                break;
            }
        }
        println!("a table for {count} backends: {took:.1?}; in slices: {slices}, the longest {longest:.1?}");
    }
}
