//! The two that are compared: whatever forwards between two cables, seen from outside, and a compiled snapshot, seen from
//! inside. Either says of each datagram what became of it.
//!
//! Keeps true: what comes out belongs to the datagram that went in last, because a beacon goes through behind each, both ways,
//! and because the datagram's number is in what comes out.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build::{self, Ipv4Spec};
use zsync_packet::header::{
    Ethernet, Icmp, Icmpv6, Ipv4, Ipv6, Mac, Tcp, TcpFlags, Udp, ether_type, protocol,
};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::{PortId, Verdict};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{MAX_STAGES, PortFacts, Snapshot, StageCount};
use zsync_pipelines::spec::parse;
use zsync_pipelines::stage::{Cx, EXTRA, Extra};
use zsync_pipelines::tables::fib::{FibLayout, FibWriter, Target};
use zsync_tests::raw::RawSocket;
use zsync_tests::{Lab, wait_for};

use super::policy::{self, BEACON};
use super::traffic::Datagram;

/// The station behind each cable that all routes lead to: nobody's address, so that no kernel answers.
pub const BEHIND: Mac = [0x02, 0, 0, 0, 0x88, 1];
/// What is routed to the client's side, and to the server's.
pub const NETS: [[&str; 2]; 2] = [["10.10.0.0/16", "fd10::/16"], ["10.20.0.0/16", "fd20::/16"]];

/// How long a beacon may be under way.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It came out at the other side; its packets there.
    Forwarded(Vec<Vec<u8>>),
    /// Nothing came of it.
    Dropped,
    /// A TCP reset came back.
    Reset,
    /// An ICMP error came back: type and code.
    Error(u8, u8),
    /// Handed to the kernel behind the filter.
    Punted,
}

impl Fate {
    /// The same verdict. Of what is whole on both sides the bytes are the same, too.
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Forwarded(one), Self::Forwarded(another)) => {
                one.len() != 1 || another.len() != 1 || unpadded(&one[0]) == unpadded(&another[0])
            }
            _ => self == other,
        }
    }

    /// In short.
    pub fn name(&self) -> String {
        match self {
            Self::Forwarded(_) => "forwarded".to_owned(),
            Self::Error(kind, code) => format!("error {kind}/{code}"),
            other => format!("{other:?}").to_lowercase(),
        }
    }
}

/// Without what is behind the IP packet: a frame may have padding, which the kernel leaves out when it forwards.
fn unpadded(frame: &[u8]) -> &[u8] {
    let field = |at: usize| {
        frame.get(at..at + 2).map_or(0, |bytes| usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
    };
    // The length of all of an IPv4 packet, or of what is behind IPv6's fixed header.
    let length = if frame.get(12) == Some(&8) { field(16) } else { 40 + field(18) };
    &frame[..frame.len().min(14 + length)]
}

/// What comes back is an answer to datagram `id`.
fn answer(frame: &[u8], id: u32) -> Result<Fate> {
    let ethernet = Ethernet::parse(frame)?;
    let packet = ethernet.payload();
    if ethernet.ether_type() == ether_type::IPV4 {
        let ip = Ipv4::parse(packet)?;
        match ip.protocol() {
            protocol::TCP if Tcp::parse(ip.payload())?.flags().contains(TcpFlags::RST) => Ok(Fate::Reset),
            protocol::ICMP => {
                let icmp = Icmp::parse(ip.payload())?;
                let quoted = Ipv4::parse_quoted(icmp.quoted().context("an error quotes")?)?;
                ensure!(u32::from(quoted.identification()) == id, "an error about another packet");
                Ok(Fate::Error(icmp.kind(), icmp.code()))
            }
            other => bail!("protocol {other} came back"),
        }
    } else {
        let ip = Ipv6::parse(packet)?;
        match ip.next_header() {
            protocol::TCP if Tcp::parse(ip.payload())?.flags().contains(TcpFlags::RST) => Ok(Fate::Reset),
            protocol::ICMPV6 => {
                let icmp = Icmpv6::parse(ip.payload())?;
                let quoted = Ipv6::parse_quoted(icmp.quoted().context("an error quotes")?)?;
                ensure!(quoted.flow_label() == id, "an error about another packet");
                Ok(Fate::Error(icmp.kind(), icmp.code()))
            }
            other => bail!("protocol {other} came back"),
        }
    }
}

/// The number in a packet that came out.
fn number(frame: &[u8]) -> Result<u32> {
    let ethernet = Ethernet::parse(frame)?;
    Ok(match ethernet.ether_type() {
        ether_type::IPV4 => u32::from(Ipv4::parse(ethernet.payload())?.identification()),
        _ => Ipv6::parse(ethernet.payload())?.flow_label(),
    })
}

fn fate(through: Vec<Vec<u8>>, back: &[Vec<u8>], id: u32) -> Result<Fate> {
    for frame in &through {
        ensure!(number(frame)? == id, "another packet came through: {frame:02x?}");
    }
    match (through.is_empty(), back) {
        (false, []) => Ok(Fate::Forwarded(through)),
        (true, []) => Ok(Fate::Dropped),
        (_, [back, ..]) => answer(back, id).with_context(|| format!("{back:02x?}")),
    }
}

/// The outside of the lab's router, whatever forwards in it.
pub struct Outside {
    sockets: [RawSocket; 2],
    macs: [Mac; 2],
    beacons: u32,
}

impl Outside {
    /// Prepares the router's kernel: routes, stations, no limit of answers.
    pub fn of(lab: &Lab) -> Result<Self> {
        for (port, [v4, v6]) in NETS.iter().enumerate() {
            let net = port + 1;
            lab.router.ip(&format!(
                "neigh replace 10.{net}.0.88 lladdr 02:00:00:00:88:01 dev eth{net} nud permanent"
            ))?;
            lab.router.ip(&format!(
                "-6 neigh replace fd0{net}::88 lladdr 02:00:00:00:88:01 dev eth{net} nud permanent"
            ))?;
            lab.router.ip(&format!("route add {v4} via 10.{net}.0.88"))?;
            lab.router.ip(&format!("-6 route add {v6} via fd0{net}::88"))?;
        }
        lab.router.sysctl("net/ipv4/icmp_ratemask", "0")?;
        lab.router.sysctl("net/ipv6/icmp/ratelimit", "0")?;
        // Nothing, or all that are limited would share one allowance.
        lab.router.sysctl("net/ipv6/icmp/ratemask", "\n")?;
        let sockets = [RawSocket::open(&lab.client, "eth0")?, RawSocket::open(&lab.server, "eth0")?];
        Ok(Self { sockets, macs: [lab.router.mac("eth1")?, lab.router.mac("eth2")?], beacons: 0 })
    }

    /// The router's addresses.
    pub fn macs(&self) -> [Mac; 2] {
        self.macs
    }

    /// Sends a datagram in, and sees what comes of it.
    pub fn send(&mut self, datagram: &Datagram) -> Result<Fate> {
        for frame in &datagram.frames {
            self.sockets[datagram.side].send(frame).with_context(|| format!("{} bytes", frame.len()))?;
        }
        let mut through = self.beacon(datagram.side, PATIENCE)?;
        if datagram.frames.len() > 1 {
            // Fragments that zsync kept leave behind the burst that the first one came in with: the beacon may be in it.
            through.extend(self.beacon(datagram.side, PATIENCE)?);
        }
        let back = self.beacon(1 - datagram.side, PATIENCE)?;
        fate(through, &back, datagram.id)
    }

    /// Waits until packets come through, both ways.
    pub fn wait(&mut self) -> Result<()> {
        wait_for("beacons to come through", PATIENCE, || {
            let mut through = |side| self.beacon(side, Duration::from_millis(50)).ok();
            through(0).and_then(|_| through(1)).map(drop)
        })
    }

    /// Sends a beacon in at one side; what comes out of the other before it.
    fn beacon(&mut self, side: usize, limit: Duration) -> Result<Vec<Vec<u8>>> {
        self.beacons += 1;
        let ends = [Ipv4Addr::new(10, 10, 255, 254), Ipv4Addr::new(10, 20, 255, 254)];
        let ip = Ipv4Spec::new(ends[side], ends[1 - side], protocol::UDP);
        let udp = build::udp(ip.address_sum(), BEACON, BEACON, &self.beacons.to_be_bytes());
        let packet = ip.packet(&udp);
        self.sockets[side].send(&build::ethernet(self.macs[side], BEHIND, &[], ether_type::IPV4, &packet))?;
        let mut came = Vec::new();
        loop {
            let frame = self.sockets[1 - side].receive(limit)?;
            let frame = frame.with_context(|| format!("beacon {} was lost", self.beacons))?;
            if frame.get(..6) != Some(&BEHIND) || frame.get(6..12) != Some(&self.macs[1 - side]) {
                continue; // sent by this test, or the kernels' own
            }
            match beacon_number(&frame) {
                Some(number) if number == self.beacons => return Ok(came),
                Some(_) => {}
                None => came.push(frame),
            }
        }
    }
}

fn beacon_number(frame: &[u8]) -> Option<u32> {
    let ethernet = Ethernet::parse(frame).ok().filter(|frame| frame.ether_type() == ether_type::IPV4)?;
    let ip = Ipv4::parse(ethernet.payload()).ok().filter(|ip| ip.protocol() == protocol::UDP)?;
    let udp = Udp::parse(ip.payload()).ok()?;
    let is = (udp.source_port(), udp.destination_port()) == (BEACON, BEACON);
    Some(u32::from_be_bytes(udp.payload().try_into().ok()?)).filter(|_| is && ip.source().octets()[2] == 255)
}

/// The snapshot of the policy, with a worker's surroundings.
pub struct Inside {
    snapshot: Snapshot,
    pool: Pool,
    counts: [StageCount; MAX_STAGES],
}

impl Inside {
    /// Compiles the policy as the data plane would in that router.
    pub fn new(macs: [Mac; 2]) -> Result<Self> {
        let text = policy::toml();
        let spec = parse(&text, "policy").map_err(|found| anyhow::anyhow!("{found:?}\n{text}"))?.spec;
        let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL)?;
        for (port, nets) in NETS.iter().enumerate() {
            let stations = [format!("10.{}.0.88", port + 1), format!("fd0{}::88", port + 1)];
            for (net, station) in nets.iter().zip(stations) {
                let (address, length) = net.split_once('/').context("a prefix")?;
                let hop = fib.adjacency(port as u16, station.parse()?)?;
                ensure!(fib.resolve(hop, BEHIND), "the next hop is new");
                fib.insert(address.parse()?, length.parse()?, Target::Hops(vec![(hop, 1)]))?;
            }
        }
        let facts = |port: usize| PortFacts {
            mac: macs[port],
            mtu: 1500,
            v4: Some(Ipv4Addr::new(10, port as u8 + 1, 0, 1)),
            v6: Some(Ipv6Addr::new(0xfd01 + port as u16, 0, 0, 0, 0, 0, 0, 1)),
            complete_checksums: true,
            of_host: false,
        };
        let with = Resources {
            ports: vec![facts(0), facts(1)],
            fibs: [(254, fib.reader())].into(),
            hash_key: HashKey::from_seed(1),
            workers: 1,
            states: [].into(),
        };
        let mut snapshot = compile(&spec, 1, &with)?;
        snapshot.assign(0);
        let pool = Pool::heap(FrameSize::K4, EXTRA as u32 + 64, 1)?.remove(0);
        Ok(Self { snapshot, pool, counts: [StageCount::default(); MAX_STAGES] })
    }

    /// What comes of a datagram at that time (nanoseconds), and in words what was decided about its packets.
    pub fn send(&mut self, datagram: &Datagram, now: u64) -> Result<(Fate, String)> {
        let (mut through, mut back) = (Vec::new(), Vec::new());
        let (mut punted, mut said) = (false, String::new());
        for frame in &datagram.frames {
            let mut burst = Burst::new(self.pool.arena().clone());
            let (len, port) = (frame.len() as u16, PortId(datagram.side as u16));
            let mut held = self.pool.alloc().context("no frame is free")?;
            self.pool.arena().bytes_mut(&mut held, HEADROOM as u16, len).copy_from_slice(frame);
            let packet = Packet { frame: held, start: HEADROOM as u16, len, port };
            ensure!(burst.push(packet).is_ok(), "the burst is full");
            // With new limits for each: here, nobody is to be kept from answering.
            let mut extra = Extra::new();
            let mut cx = Cx::new(now, &mut self.pool, &mut extra);
            self.snapshot.process(port, &mut burst, &mut cx, &mut self.counts);
            let pool = &mut self.pool;
            let mut see = |pool: &mut Pool, packet: Packet, verdict: Verdict| {
                said += &format!("{verdict:?} ");
                let bytes = pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec();
                match verdict {
                    Verdict::Transmit(to) if to == port => back.push(bytes),
                    Verdict::Transmit(_) => through.push(bytes),
                    Verdict::Punt => punted = true,
                    _ => {}
                }
                pool.free(packet.frame);
            };
            burst.drain(|packet, verdict, _| see(pool, packet, verdict));
            for made in extra.drain() {
                see(pool, made.packet, made.verdict);
            }
        }
        let fate = if punted { Fate::Punted } else { fate(through, &back, datagram.id)? };
        Ok((fate, said))
    }
}
