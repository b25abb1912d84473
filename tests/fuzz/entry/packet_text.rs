//! The words that `zsyncctl explain` takes for a packet: any text is a packet or a mistake with its place, and what is said of the
//! packet's frame is the same packet again. Any bytes are described.

use zsync_pipelines::trace::describe::describe;
use zsync_pipelines::trace::text::PacketText;

/// Runs one input: as a text if it is one, and as a frame.
pub(crate) fn run(input: &[u8]) {
    assert!(!describe(input).is_empty());
    let Ok(text) = std::str::from_utf8(input) else { return };
    match PacketText::parse(text) {
        Err(error) => {
            assert!(error.starts_with("--packet, column ") && error.contains("write it like"), "{error}")
        }
        Ok(packet) => {
            let frame = packet.frame([2; 6]);
            let said = describe(&frame);
            let again = PacketText::parse(&said).unwrap_or_else(|error| panic!("{text}: {said}: {error}"));
            assert_eq!(again.frame([2; 6]), frame, "{text}: {said}");
        }
    }
}

/// Texts to begin with.
pub(crate) const SEEDS: [&str; 14] = [
    "tcp 10.1.0.5:40000 -> 10.2.0.1:443",
    "tcp [fd00::1]:1 -> [fd00::2]:2 flags=psh,ack seq=5 ack=6 ttl=1 dscp=10 size=100",
    "udp 10.1.0.5:1 -> 10.2.0.1:2 df vlan=802.1ad:7,9/5 in=lan",
    "udp 10.1.0.5 -> 10.2.0.1 frag=8+ id=3",
    "udp 10.1.0.5:1 -> 10.2.0.1:2 frag=0+ id=3 size=9",
    "icmp 10.1.0.5 -> 10.2.0.1 type=0/0 echo-id=4 ecn=2",
    "icmp fd00::1 -> fd00::2",
    "icmp 10.9.0.1 -> 10.1.0.5 type=11/0 about udp 10.1.0.5:9 -> 10.2.0.1:53 ttl=1",
    "icmp fd00::9 -> fd00::1 type=1 about tcp [fd00::1]:9 -> [fd00::2]:53 seq=9",
    "132 fd00::1 -> fd00::2 size=64",
    "tcp 10.1.0.5 -> 10.2.0.1:443",
    "udp 10.0.0.1:1 -> [::1]:2",
    "udp 10.0.0.1:1 -> 10.0.0.2:2 vlan=1,2,3",
    "tcp 10.0.0.1:1 -> 10.0.0.2:2 flags=syn,sin",
];
