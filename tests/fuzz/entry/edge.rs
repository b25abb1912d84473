//! The edge's stages under packets that a fuzzer makes up: tunnels, fragments, connections and their translation.
//!
//! Shared by the fuzz targets and the tests of `zsync-pipelines` (by `#[path]`). An input is a list of steps, each a byte that says
//! what is done ([`Player::step`]) and what that wants to know: packets are sent, or those that left before are answered or
//! complained about, with bytes changed; time goes by; the configuration is loaded anew over the same state, as after a crash.
//! Nothing is left of an input when it is over, so it does the same each time.
//!
//! Keeps true, or panics: each packet is decided, every frame comes home, and [`Scene::check`] of whatever leaves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::net::Ipv4Addr;
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::checksum;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, corpus, ether_type};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, PortId, Verdict};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{MAX_STAGES, PortFacts, Snapshot, StageCount};
use zsync_pipelines::spec::{Spec, parse};
use zsync_pipelines::stage::{Cx, EXTRA, Extra};
use zsync_pipelines::state::{State, needs};
use zsync_pipelines::tables::fib::{FibLayout, FibWriter, Target};
use zsync_pipelines::trace::text::PacketText;

/// The port where the inside is: 10.1.0.0/16 and fd01::/16.
pub(crate) const LAN: PortId = PortId(0);
/// The port where everything else is.
pub(crate) const WAN: PortId = PortId(1);
/// The addresses of [`WAN`].
pub(crate) const OWN: (Ipv4Addr, &str) = (Ipv4Addr::new(203, 0, 113, 1), "2001:db8:113::1");
const MTU: [u32; 2] = [1500, 1400];
/// The longest input that is looked at, in steps: what a fuzzer can still learn from.
const STEPS: usize = 200;
/// Packets that left, and can be answered.
const KEPT: usize = 8;
const FRAMES: u32 = (BURST + EXTRA) as u32;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// VXLAN, GRE and IP in IP, both families, in and out.
    Tunnels,
    /// Virtual reassembly ahead of a filter.
    Fragments,
    /// Tracking and translation.
    Flows,
}

impl Scene {
    pub(crate) const ALL: [Self; 3] = [Self::Tunnels, Self::Fragments, Self::Flows];

    fn config(self) -> String {
        let rest = match self {
            Self::Tunnels => {
                let stages: Vec<String> = (0..TUNNELS.len()).map(|n| format!("\"decap.t{n}\"")).collect();
                let tables: Vec<String> = TUNNELS
                    .iter()
                    .enumerate()
                    .map(|(n, (tunnel, v6, unknown))| {
                        let ends = if *v6 { ("2001:db8:113::1", "2001:db8:9::2") } else { ("203.0.113.1", "192.0.2.2") };
                        format!(
                            "[decap.t{n}]\ntunnel = {tunnel}\nlocal = \"{}\"\nremote = \"{}\"\nunknown = \"{unknown}\"\n",
                            ends.0, ends.1
                        )
                    })
                    .collect();
                format!(
                    "stages = [{}, \"filter.back\", \"route\"]\n{}\n[filter.back]\ndefault = \"accept\"\nrules = [{{ goto = \"back\", to = [\"10.1.9.0/24\", \"fd01:0:0:9::/64\"] }}]\n\
                     [pipeline.back]\ninput = [\"zone\"]\nstages = [\"encap.gre\", \"route\"]\n\
                     [encap.gre]\ntunnel = {{ gre = 7 }}\nlocal = \"203.0.113.1\"\nremote = \"192.0.2.2\"\n",
                    stages.join(", "),
                    tables.concat()
                )
            }
            Self::Fragments => "stages = [\"reassemble.r\", \"filter.f\", \"route\"]\n\
                [reassemble.r]\ndatagrams = 64\ntimeout = \"1s\"\n\
                [filter.f]\ndefault = \"drop\"\nrules = [{ accept = true, protocol = \"udp\", to-port = 53 }, { accept = true, protocol = [\"icmp\", \"icmpv6\"] }]\n"
                .to_owned(),
            Self::Flows => "stages = [\"track.t\", \"filter.f\", \"nat.n\", \"route\"]\n\
                [track.t]\ncapacity = 64\ntranslations = 64\nper-source = 40\nhalf-open = 20\n\
                [filter.f]\ndefault = \"drop\"\nrules = [{ accept = true, state = [\"established\", \"related\"] }, { accept = true, input = \"lan\" }, { accept = true, protocol = \"tcp\", to-port = 8080 }]\n\
                [nat.n]\nmasquerade = [{ output = \"wan\" }]\nforward = [{ port = \"tcp/8080\", target = \"10.1.0.80:80\" }]\nports = \"1024-2047\"\nblock = 64\n"
                .to_owned(),
        };
        format!(
            "[port.lan]\nnetdev = \"eth1\"\n[port.wan]\nnetdev = \"eth2\"\n[port.zone]\nnetdev = \"eth3\"\n[pipeline.edge]\ninput = [\"lan\", \"wan\"]\n{rest}"
        )
    }

    /// Packets to begin with: the port, and the words.
    fn packets(self) -> &'static [(PortId, &'static str)] {
        match self {
            Self::Tunnels => &[
                (WAN, "udp 192.0.2.2:50000 -> 203.0.113.1:4789 size=120"),
                (WAN, "udp [2001:db8:9::2]:50000 -> [2001:db8:113::1]:4789 size=120"),
                (WAN, "47 192.0.2.2 -> 203.0.113.1 size=80"),
                (WAN, "47 2001:db8:9::2 -> 2001:db8:113::1 size=80"),
                (WAN, "4 192.0.2.2 -> 203.0.113.1 size=60"),
                (WAN, "41 192.0.2.2 -> 203.0.113.1 size=80"),
                (WAN, "4 2001:db8:9::2 -> 2001:db8:113::1 size=60"),
                (LAN, "udp 10.1.0.5:1 -> 10.1.9.7:2 size=1450 df"),
                (LAN, "tcp [fd01::5]:1 -> [fd01:0:0:9::7]:2 flags=psh,ack ecn=3"),
                (WAN, "47 192.0.2.2 -> 203.0.113.1 frag=0+ id=7"),
            ],
            Self::Fragments => &[
                (LAN, "udp 10.1.0.5:40000 -> 198.51.100.7:53 frag=0+ id=7 size=40"),
                (LAN, "udp 10.1.0.5 -> 198.51.100.7 frag=48+ id=7 size=48"),
                (LAN, "udp 10.1.0.5 -> 198.51.100.7 frag=96 id=7 size=20"),
                (LAN, "udp 10.1.0.5:40000 -> 198.51.100.7:99 frag=0+ id=8 size=40"),
                (LAN, "udp [fd01::5]:40000 -> [2001:db8::7]:53 frag=0+ id=7 size=40"),
                (LAN, "udp fd01::5 -> 2001:db8::7 frag=48+ id=7 size=48"),
                (LAN, "udp fd01::5 -> 2001:db8::7 frag=96 id=7 size=20"),
                (LAN, "udp [fd01::5]:40000 -> [2001:db8::7]:53 frag=0 id=7"),
                (LAN, "icmp 10.1.0.5 -> 198.51.100.7 frag=0+ id=9 size=1400"),
                (WAN, "udp 198.51.100.7:53 -> 10.1.0.5:40000"),
            ],
            Self::Flows => &[
                (LAN, "tcp 10.1.0.5:40000 -> 198.51.100.7:443 flags=syn seq=1000"),
                (LAN, "tcp 10.1.0.5:40000 -> 198.51.100.7:443 flags=ack seq=1001 ack=1"),
                (LAN, "udp 10.1.0.5:40000 -> 198.51.100.7:53"),
                (LAN, "icmp 10.1.0.5 -> 198.51.100.7"),
                (WAN, "tcp 198.51.100.9:40000 -> 203.0.113.1:8080 flags=syn seq=5"),
                (LAN, "tcp 10.1.0.5:40001 -> 203.0.113.1:8080 flags=syn seq=5"),
                (LAN, "tcp [fd01::5]:40000 -> [2001:db8::7]:443 flags=syn seq=1000"),
                (LAN, "icmp fd01::5 -> 2001:db8::7"),
                (
                    WAN,
                    "icmp 198.51.100.9 -> 203.0.113.1 type=3/4 about tcp 203.0.113.1:1024 -> 198.51.100.7:443 seq=1000",
                ),
                (LAN, "icmp 10.1.0.9 -> 198.51.100.7 type=11 about udp 198.51.100.7:53 -> 10.1.0.5:40000"),
                (LAN, "132 10.1.0.5 -> 198.51.100.7 size=40"),
                (LAN, "udp 10.1.0.5:40000 -> 198.51.100.7:53 frag=0+ id=5"),
            ],
        }
    }

    /// What must hold of a packet that leaves.
    fn check(self, input: PortId, output: PortId, bytes: &[u8], firsts: &BTreeSet<Datagram>) {
        assert!(output == LAN || output == WAN, "no route leads to port {}", output.0);
        let frame = Ethernet::parse(bytes).expect("a frame leaves");
        let mtu = MTU[usize::from(output.0)] as usize;
        if let (Self::Fragments, Some((datagram, false))) = (self, datagram(frame.payload())) {
            assert!(
                firsts.contains(&datagram),
                "a fragment leaves whose first one has not come: {datagram:?}"
            );
        }
        match frame.ether_type() {
            ether_type::IPV4 => {
                let ip = Ipv4::parse(frame.payload()).expect("what leaves is whole");
                assert!(ip.verify_checksum().is_ok(), "a wrong header checksum leaves");
                assert!(usize::from(ip.total_len()) <= mtu, "longer than the port sends");
                if self == Self::Flows && (input, output) == (LAN, WAN) {
                    assert_eq!(ip.source(), OWN.0, "who is inside is seen outside");
                }
            }
            ether_type::IPV6 => {
                let ip = Ipv6::parse(frame.payload()).expect("what leaves is whole");
                assert!(usize::from(ip.payload_len()) + 40 <= mtu, "longer than the port sends");
            }
            other => panic!("{other:#06x} leaves"),
        }
    }
}

/// Source, destination, identification, and of IPv4 the protocol.
type Datagram = (IpAddr, IpAddr, u32, u8);

/// Which datagram a packet is of, or a part of, and whether it has the beginning.
fn datagram(packet: &[u8]) -> Option<(Datagram, bool)> {
    if let Ok(ip) = Ipv4::parse(packet) {
        let ends = (ip.source().into(), ip.destination().into());
        return Some(((ends.0, ends.1, ip.identification().into(), ip.protocol()), ip.begins_transport()));
    }
    let ip = Ipv6::parse(packet).ok()?;
    let upper = ip.upper().ok()?;
    let id = upper.identification().unwrap_or(0);
    Some(((ip.source().into(), ip.destination().into(), id, 0), upper.begins_transport()))
}

/// The tunnels that are opened: of which kind, whether over IPv6, and what becomes of what is none of its packets.
const TUNNELS: [(&str, bool, &str); 6] = [
    ("{ vxlan = 7 }", false, "pass"),
    ("{ vxlan = 7 }", true, "drop"),
    ("{ gre = 7 }", false, "pass"),
    ("\"gre\"", true, "drop"),
    ("\"ipip\"", false, "drop"),
    ("\"ipip\"", true, "pass"),
];

/// What an input is played on.
struct Player {
    scene: Scene,
    spec: Spec,
    with: Resources,
    snapshot: Snapshot,
    counts: [StageCount; MAX_STAGES],
    pool: Pool,
    burst: Burst,
    extra: Extra,
    now: u64,
    /// The packets that left last.
    left: VecDeque<(PortId, Vec<u8>)>,
    waiting: Vec<(PortId, Vec<u8>)>,
    /// The datagrams whose first fragment has come.
    firsts: BTreeSet<Datagram>,
    /// How many packets left.
    forwarded: usize,
    epoch: u64,
}

/// Plays an input; how many packets left.
pub(crate) fn run(scene: Scene, input: &[u8]) -> usize {
    let mut player = Player::new(scene);
    let mut rest = input;
    for _ in 0..STEPS {
        if rest.is_empty() {
            break;
        }
        player.step(&mut rest);
    }
    player.send();
    player.forwarded
}

fn resources(spec: &Spec) -> Resources {
    let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL)
        .expect("the region is new");
    for (prefix, len, port) in
        [("0.0.0.0", 0, WAN), ("::", 0, WAN), ("10.1.0.0", 16, LAN), ("fd01::", 16, LAN)]
    {
        let hop = fib.adjacency(port.0, [10, 9, 9, port.0 as u8].into()).expect("there is room");
        assert!(fib.resolve(hop, [2, 0, 0, 0, 2, port.0 as u8]));
        fib.insert(prefix.parse().expect("an address"), len, Target::Hops(vec![(hop, 1)]))
            .expect("there is room");
    }
    fib.insert(OWN.0.into(), 32, Target::Local).expect("there is room");
    let port = |n: u16, v4: Ipv4Addr, v6: &str| PortFacts {
        mac: mac(PortId(n)),
        mtu: MTU[usize::from(n)],
        v4: Some(v4),
        v6: v6.parse().ok(),
        complete_checksums: n == LAN.0,
        of_host: false,
    };
    let states = needs(spec, 1).into_iter().map(|(label, size)| (label, State::heap(size, 1)));
    Resources {
        ports: vec![
            port(0, [10, 1, 0, 1].into(), "fd01::1"),
            port(1, OWN.0, OWN.1),
            PortFacts { mac: mac(PortId(2)), mtu: 1500, ..PortFacts::default() },
        ],
        fibs: BTreeMap::from([(254, fib.reader())]),
        hash_key: HashKey::from_seed(7),
        workers: 1,
        states: states.collect(),
    }
}

fn mac(port: PortId) -> [u8; 6] {
    if port == LAN { corpus::MACS.1 } else { [0x02, 0, 0, 0, 1, port.0 as u8] }
}

/// Takes so many bytes off, or what there is; missing ones are 0.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let len = N.min(rest.len());
    let (now, behind) = rest.split_at(len);
    bytes[..len].copy_from_slice(now);
    *rest = behind;
    bytes
}

impl Player {
    fn new(scene: Scene) -> Self {
        let spec = parse(&scene.config(), "edge.toml").unwrap_or_else(|errors| panic!("{errors:#?}")).spec;
        let with = resources(&spec);
        let mut snapshot = compile(&spec, 1, &with).expect("everything was given");
        snapshot.assign(0);
        let pool = Pool::heap(FrameSize::K2, FRAMES, 1).expect("some frames").remove(0);
        let burst = Burst::new(pool.arena().clone());
        Self {
            scene,
            spec,
            with,
            snapshot,
            counts: [StageCount::default(); MAX_STAGES],
            pool,
            burst,
            extra: Extra::new(),
            now: 1_000_000_000,
            left: VecDeque::new(),
            waiting: Vec::new(),
            firsts: BTreeSet::new(),
            forwarded: 0,
            epoch: 1,
        }
    }

    /// One step, as its first byte says.
    fn step(&mut self, rest: &mut &[u8]) {
        let [what] = take(rest);
        match what % 8 {
            // A packet, byte for byte.
            0 => {
                let [port, low, high] = take(rest);
                let len = usize::from(u16::from_le_bytes([low, high]) % 1793).min(rest.len());
                let (bytes, behind) = rest.split_at(len);
                *rest = behind;
                self.arrive(PortId(u16::from(port & 1)), bytes.to_vec(), port & 2 != 0);
            }
            // One of those to begin with, changed.
            1 | 2 => {
                let [which] = take(rest);
                let packets = self.scene.packets();
                let (port, text) = packets[usize::from(which) % packets.len()];
                let mut bytes = PacketText::parse(text).expect("a packet").frame(mac(port));
                if self.scene == Scene::Tunnels {
                    fill(&mut bytes);
                }
                change(&mut bytes, rest);
                self.arrive(port, bytes, what & 8 == 0);
            }
            // The answer to one that left, changed.
            3 | 4 => {
                let [which] = take(rest);
                if let Some((port, bytes)) = self.recent(which) {
                    let mut bytes = answer(port, bytes);
                    change(&mut bytes, rest);
                    self.arrive(port, bytes, what & 8 == 0);
                }
            }
            // An ICMP error about one that left.
            5 => {
                let [which, kind, code, cut] = take(rest);
                if let Some((port, bytes)) = self.recent(which) {
                    let mut bytes = complaint(port, &bytes, (kind, code), cut);
                    change(&mut bytes, rest);
                    self.arrive(port, bytes, true);
                }
            }
            // Time goes by: up to nine minutes.
            6 => {
                let [much] = take(rest);
                self.send();
                self.now += 1 << (u32::from(much) % 40);
                for _ in 0..=much >> 6 {
                    self.snapshot.tend(self.now);
                }
            }
            // A new configuration, the same as before; or a new process over what was left.
            _ => {
                self.send();
                self.epoch += 1;
                self.snapshot = compile(&self.spec, self.epoch, &self.with).expect("as before");
                self.snapshot.assign(0);
            }
        }
    }

    fn recent(&self, which: u8) -> Option<(PortId, Vec<u8>)> {
        self.left.get(usize::from(which) % self.left.len().max(1)).cloned()
    }

    /// A packet waits for its burst: of one port, as a queue is.
    fn arrive(&mut self, port: PortId, mut bytes: Vec<u8>, repaired: bool) {
        bytes.truncate(1792);
        if repaired {
            repair(&mut bytes, 14, 0);
        }
        if self.waiting.first().is_some_and(|(other, _)| *other != port) || self.waiting.len() == BURST / 2 {
            self.send();
        }
        self.waiting.push((port, bytes));
    }

    /// Sends what waits, and looks at all that comes of it.
    fn send(&mut self) {
        let Some(&(port, _)) = self.waiting.first() else { return };
        for (_, bytes) in self.waiting.drain(..) {
            let first = Ethernet::parse(&bytes).ok().and_then(|frame| datagram(frame.payload()));
            self.firsts.extend(first.filter(|(_, first)| *first).map(|(datagram, _)| datagram));
            let mut frame = self.pool.alloc().expect("all frames are home between bursts");
            let len = bytes.len() as u16;
            self.pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(&bytes);
            self.burst
                .push(Packet { frame, start: HEADROOM as u16, len, port })
                .expect("it has room for its size");
        }
        self.now += 1000;
        let Self { scene, snapshot, counts, pool, burst, extra, now, left, firsts, forwarded, .. } = self;
        snapshot.process(port, burst, &mut Cx::new(*now, pool, extra), counts);
        assert_eq!(burst.live(), 0, "undecided packets");
        let mut seen = |input, verdict, bytes: &[u8]| match verdict {
            Verdict::Transmit(output) => {
                scene.check(input, output, bytes, firsts);
                *forwarded += 1;
                left.push_front((output, bytes.to_vec()));
                left.truncate(KEPT);
            }
            Verdict::Drop(DropReason::Undecided | DropReason::NoPipeline | DropReason::NoSuchPort)
            | Verdict::Next
            | Verdict::Goto(_)
            | Verdict::Worker(..) => panic!("{verdict:?}: no end of a packet"),
            Verdict::Drop(_) | Verdict::Punt | Verdict::Consume => {}
        };
        burst.drain(|packet, verdict, _| {
            seen(packet.port, verdict, pool.arena().bytes(&packet.frame, packet.start, packet.len));
            pool.free(packet.frame);
        });
        for made in extra.drain() {
            seen(
                made.packet.port,
                made.verdict,
                pool.arena().bytes(&made.packet.frame, made.packet.start, made.packet.len),
            );
            pool.free(made.packet.frame);
        }
        let audit = pool.audit(0, 0);
        assert_eq!((audit.pool, audit.leaked, audit.misplaced), (FRAMES, 0, 0), "frames are not home");
    }
}

/// Changes up to seven bytes, as the input says.
fn change(bytes: &mut Vec<u8>, rest: &mut &[u8]) {
    let [how] = take(rest);
    for _ in 0..how & 7 {
        let [low, high, value] = take(rest);
        let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
    }
    if how & 0x80 != 0 {
        let [low, high] = take(rest);
        bytes.truncate(usize::from(u16::from_le_bytes([low, high])) % 1793);
    }
}

/// Writes what a tunnel's packets carry into their zeroed payload: a header of the carrier, and a packet to the inside.
fn fill(bytes: &mut [u8]) {
    let inner = PacketText::parse("udp 10.8.0.5:1 -> 10.1.0.7:2 size=4").expect("a packet").frame(mac(WAN));
    let v6 = PacketText::parse("udp [fd08::5]:1 -> [fd01::7]:2 size=4").expect("a packet").frame(mac(WAN));
    let (at, number) = match bytes.get(14) {
        Some(first) if first >> 4 == 4 => (34, bytes[23]),
        _ => (54, bytes[20]),
    };
    let parts: Vec<u8> = match number {
        17 => [&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat(),
        47 if at == 34 => [&[0x20, 0, 8, 0, 0, 0, 0, 7][..], &inner[14..46]].concat(),
        47 => [&[0, 0, 8, 0][..], &inner[14..46]].concat(),
        4 => inner[14..46].to_vec(),
        41 => v6[14..].to_vec(),
        _ => return,
    };
    let at = if number == 17 { at + 8 } else { at };
    if let Some(place) = bytes.get_mut(at..at + parts.len()) {
        place.copy_from_slice(&parts);
    }
    // Over IPv4 a VXLAN packet may have no checksum; over IPv6 too (RFC 6935).
    if number == 17
        && let Some(sum) = bytes.get_mut(at - 2..at)
    {
        sum.fill(0);
    }
}

/// Makes the header checksums of IPv4 right, also of the packets inside.
fn repair(bytes: &mut [u8], at: usize, depth: u8) {
    let Some(&first) = bytes.get(at) else { return };
    let (behind, number) = match first >> 4 {
        4 if first & 0xf >= 5 => {
            let end = at + usize::from(first & 0xf) * 4;
            let Some(header) = bytes.get_mut(at..end) else { return };
            header[10..12].fill(0);
            let checksum = checksum::of(header).to_be_bytes();
            header[10..12].copy_from_slice(&checksum);
            (end, header[9])
        }
        6 if bytes.len() >= at + 40 => (at + 40, bytes[at + 6]),
        _ => return,
    };
    if depth < 2 {
        match number {
            4 | 41 => repair(bytes, behind, depth + 1),
            47 => {
                let flags = bytes.get(behind).copied().unwrap_or(0);
                let len = 4 + [0x80, 0x20, 0x10].iter().filter(|flag| flags & **flag != 0).count() * 4;
                repair(bytes, behind + len, depth + 1);
            }
            17 => repair(bytes, behind + 8 + 8 + 14, depth + 1),
            _ => {}
        }
    }
}

/// The packet back, by the port that it left by: stations, addresses and ports change places. TCP acknowledges what came.
fn answer(port: PortId, mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(to) = bytes.get_mut(..6) {
        to.copy_from_slice(&mac(port));
    }
    let (addresses, len, number) = match bytes.get(14).map(|first| first >> 4) {
        Some(4) if bytes.len() >= 34 => (26, 4, bytes[23]),
        Some(6) if bytes.len() >= 54 => (22, 16, bytes[20]),
        _ => return bytes,
    };
    let l4 = if len == 4 { 14 + usize::from(bytes[14] & 0xf) * 4 } else { 54 };
    for i in 0..len {
        bytes.swap(addresses + i, addresses + len + i);
    }
    match number {
        6 if bytes.len() >= l4 + 20 => {
            for i in 0..2 {
                bytes.swap(l4 + i, l4 + 2 + i);
            }
            let word = |bytes: &[u8], at: usize| {
                bytes.get(at..at + 4).map_or(0, |w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
            };
            let (sequence, acknowledged) = (word(&bytes, l4 + 4), word(&bytes, l4 + 8));
            let flags = bytes[l4 + 13];
            let next = sequence.wrapping_add(u32::from(flags & 3 != 0));
            bytes[l4 + 4..l4 + 8].copy_from_slice(&acknowledged.to_be_bytes());
            bytes[l4 + 8..l4 + 12].copy_from_slice(&next.to_be_bytes());
            // A SYN is answered by SYN and ACK, all else by ACK and what else it had.
            bytes[l4 + 13] = if flags == 2 { 0x12 } else { 0x10 | flags & 1 };
        }
        17 if bytes.len() >= l4 + 4 => {
            for i in 0..2 {
                bytes.swap(l4 + i, l4 + 2 + i);
            }
        }
        1 if bytes.get(l4) == Some(&8) => bytes[l4] = 0,
        58 if bytes.get(l4) == Some(&128) => bytes[l4] = 129,
        _ => {}
    }
    bytes
}

/// An ICMP error from somewhere behind `port`, about a packet that left by it; its quote is cut off after `cut` bytes, if not 0.
fn complaint(port: PortId, about: &[u8], (kind, code): (u8, u8), cut: u8) -> Vec<u8> {
    use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
    let quoted = about.get(14..).unwrap_or(&[]);
    let quoted = if cut == 0 { quoted } else { quoted.get(..usize::from(cut)).unwrap_or(quoted) };
    let quoted = quoted.get(..1200).unwrap_or(quoted);
    let (to, from) = (mac(port), [0x02, 0, 0, 0, 2, port.0 as u8]);
    let frame = Ethernet::parse(about).ok();
    match frame.map(|frame| (Ipv4::parse(frame.payload()), Ipv6::parse(frame.payload()))) {
        Some((Ok(ip), _)) => {
            let outer = Ipv4Spec::new([198, 51, 100, 99].into(), ip.source(), 1);
            let message = build::icmp(kind, code, [0, 0, 5, 0], quoted);
            build::ethernet(to, from, &[], ether_type::IPV4, &outer.packet(&message))
        }
        Some((_, Ok(ip))) => {
            let outer = Ipv6Spec::new("2001:db8::99".parse().expect("an address"), ip.source(), 58);
            let message = build::icmpv6(outer.address_sum(), kind, code, [0, 0, 5, 0], quoted);
            build::ethernet(to, from, &[], ether_type::IPV6, &outer.packet(&message))
        }
        _ => Vec::new(),
    }
}

/// Inputs to begin with: each packet, then a little of everything.
pub(crate) fn seeds(scene: Scene) -> Vec<Vec<u8>> {
    let count = scene.packets().len() as u8;
    let mut seeds: Vec<Vec<u8>> = (0..count).map(|n| vec![1, n, 0, 3, 0, 0, 5, 0, 3, 1, 0, 0]).collect();
    // All in order, in reverse, and each with its answer, an error about it, time and a reload between.
    seeds.push((0..count).flat_map(|n| [1, n, 0]).collect());
    seeds.push((0..count).rev().flat_map(|n| [1, n, 0]).collect());
    seeds.push((0..count).flat_map(|n| [1, n, 0, 3, 0, 0, 1, n, 0, 5, 1, 3, 1, 0, 0, 6, 20, 7]).collect());
    seeds.push((0..count).flat_map(|n| [1, n, 1, 40, 0, n, 2, n, 0x81, 60, 0, 9, 50, 0]).collect());
    // A handshake with data, an end, and the time after it.
    seeds.push(vec![
        1, 0, 0, 6, 0, 3, 0, 0, 6, 0, 3, 0, 0, 6, 0, 1, 1, 0, 5, 0, 3, 4, 60, 0, 6, 0xff, 7, 1, 1, 0,
    ]);
    seeds
}
