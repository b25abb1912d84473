//! Our verdict on a header, and what we read in it, beside etherparse's: over the corpus, damaged in every way, and
//! over random bytes.
//!
//! Where we differ, we do so on purpose; each difference is a function below that says why, and it is asserted
//! to be exactly that difference, both ways: a packet of its class must get the two verdicts that it names.

mod transport;

use etherparse as theirs;
use proptest::prelude::*;
use zsync_packet::header::{Arp, Ethernet, HeaderError, Ipv4, Ipv6, corpus, ether_type, protocol};

use transport::{icmp, icmpv6, tcp, udp};

/// How often each difference was met, so that a class that never occurs is noticed.
#[derive(Default, Debug)]
struct Seen {
    agreed_valid: usize,
    agreed_invalid: usize,
    third_tag: usize,
    other_arp: usize,
    v4_auth: usize,
    v4_reserved_bit: usize,
    v6_zero_length: usize,
    v6_later_fragment: usize,
    v6_two_fragments: usize,
    v6_too_many: usize,
    udp_zero_length: usize,
    icmp_timestamp: usize,
    tcp_option: usize,
}

impl Seen {
    /// Both say the same.
    fn agree(&mut self, what: &str, ours: bool, theirs: bool, bytes: &[u8]) -> bool {
        assert_eq!(ours, theirs, "{what}: ours {ours}, theirs {theirs}: {bytes:02x?}");
        if ours {
            self.agreed_valid += 1;
        } else {
            self.agreed_invalid += 1;
        }
        ours
    }
}

fn is_vlan(kind: u16) -> bool {
    kind == ether_type::VLAN || kind == ether_type::QINQ
}

/// etherparse parses one header at a time, so the stack is ours to walk. We refuse a third tag; it would go on.
fn ethernet(bytes: &[u8], seen: &mut Seen) {
    let ours = Ethernet::parse(bytes);
    let Ok(link) = theirs::Ethernet2Slice::from_slice_without_fcs(bytes) else {
        seen.agree("ethernet", ours.is_ok(), false, bytes);
        return;
    };
    let (mut kind, mut payload, mut tags) = (link.ether_type().0, link.payload().payload, Vec::new());
    while is_vlan(kind) && tags.len() < 2 {
        let Ok(tag) = theirs::SingleVlanSlice::from_slice(payload) else {
            seen.agree("vlan", ours.is_ok(), false, bytes);
            return;
        };
        tags.push((
            kind,
            tag.vlan_identifier().value(),
            tag.priority_code_point().value(),
            tag.drop_eligible_indicator(),
        ));
        (kind, payload) = (tag.ether_type().0, tag.payload().payload);
    }
    if is_vlan(kind) {
        seen.third_tag += 1;
        assert_eq!(ours.unwrap_err(), HeaderError::TooManyTags, "{bytes:02x?}");
        return;
    }
    seen.agree("ethernet", ours.is_ok(), true, bytes);
    let ours = ours.unwrap();
    assert_eq!((ours.destination(), ours.source()), (link.destination(), link.source()));
    assert_eq!((ours.ether_type(), ours.payload()), (kind, payload));
    let our_tags: Vec<_> = [ours.outer_tag(), ours.inner_tag()]
        .into_iter()
        .flatten()
        .map(|tag| (tag.tpid, tag.id(), tag.priority(), tag.drop_eligible()))
        .collect();
    assert_eq!(our_tags, tags);
}

/// We know Ethernet and IPv4 addresses only; etherparse takes any sizes.
fn arp(bytes: &[u8], seen: &mut Seen) {
    let ours = Arp::parse(bytes);
    let theirs = theirs::ArpPacketSlice::from_slice(bytes);
    let ethernet_ipv4 = bytes.get(..6) == Some(&[0, 1, 8, 0, 6, 4]);
    if !ethernet_ipv4 && bytes.len() >= 28 {
        seen.other_arp += 1;
        assert_eq!(ours.unwrap_err(), HeaderError::UnsupportedAddresses);
        return;
    }
    if !ethernet_ipv4 {
        // Fewer bytes than any message of ours: refused for that, while other addresses may be shorter.
        assert_eq!(ours.unwrap_err(), HeaderError::Truncated);
        return;
    }
    if seen.agree("arp", ours.is_ok(), theirs.is_ok(), bytes) {
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!(ours.operation(), theirs.operation().0);
        assert_eq!(
            (&ours.sender_mac()[..], &ours.target_mac()[..]),
            (theirs.sender_hw_addr(), theirs.target_hw_addr())
        );
        assert_eq!(&ours.sender().octets()[..], theirs.sender_protocol_addr());
        assert_eq!(&ours.target().octets()[..], theirs.target_protocol_addr());
    }
}

/// etherparse parses an authentication header with the IPv4 header and refuses the packet for it; to us it is a
/// payload like another, which a router carries unread.
fn ipv4(bytes: &[u8], seen: &mut Seen) {
    let ours = Ipv4::parse(bytes);
    let theirs = theirs::Ipv4Slice::from_slice(bytes);
    let header = theirs::Ipv4HeaderSlice::from_slice(bytes);
    if let (Ok(ours), Err(error)) = (&ours, &theirs) {
        let bad_auth = match error {
            theirs::err::ipv4::SliceError::Exts(_) => true,
            theirs::err::ipv4::SliceError::Len(error) => error.layer == theirs::err::Layer::IpAuthHeader,
            theirs::err::ipv4::SliceError::Header(_) => false,
        };
        assert!(bad_auth && ours.protocol() == protocol::AUTH, "{error:?}: {bytes:02x?}");
        seen.v4_auth += 1;
    } else if !seen.agree("ipv4", ours.is_ok(), theirs.is_ok(), bytes) {
        return;
    }
    let (ours, header) = (ours.unwrap(), header.unwrap());
    assert_eq!(ours.header_len(), header.slice().len());
    assert_eq!((ours.dscp(), ours.ecn()), (header.dcp().value(), header.ecn().value()));
    assert_eq!((ours.total_len(), ours.identification()), (header.total_len(), header.identification()));
    assert_eq!(
        (ours.dont_fragment(), ours.more_fragments()),
        (header.dont_fragment(), header.more_fragments())
    );
    assert_eq!(ours.fragment_offset(), header.fragments_offset().value() * 8);
    assert_eq!(ours.is_fragment(), header.is_fragmenting_payload());
    assert_eq!(
        (ours.ttl(), ours.protocol(), ours.checksum()),
        (header.ttl(), header.protocol().0, header.header_checksum())
    );
    assert_eq!((ours.source(), ours.destination()), (header.source_addr(), header.destination_addr()));
    if bytes[6] & 0x80 != 0 {
        // etherparse computes the checksum of a copy that has no place for the reserved bit; we, of the bytes.
        seen.v4_reserved_bit += 1;
        assert_eq!(ours.verify_checksum().is_ok(), naive_sum(&bytes[..ours.header_len()]) == 0xffff);
        return;
    }
    let expected = header.to_header().calc_header_checksum() == header.header_checksum();
    // ffff is the other zero: a checksum that verifies (RFC 1071 adds up to ffff) and that nobody computes.
    let other_zero = header.header_checksum() == 0xffff && header.to_header().calc_header_checksum() == 0;
    assert_eq!(ours.verify_checksum().is_ok(), expected || other_zero, "{bytes:02x?}");
    if let Ok(theirs) = theirs
        && ours.protocol() != protocol::AUTH
    {
        assert_eq!(ours.payload(), theirs.payload().payload);
    }
}

/// RFC 1071 §4.1, word by word.
fn naive_sum(bytes: &[u8]) -> u32 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum >> 16) + (sum & 0xffff)
}

fn ipv6(bytes: &[u8], seen: &mut Seen) {
    let ours = Ipv6::parse(bytes);
    let header = theirs::Ipv6HeaderSlice::from_slice(bytes);
    let (Ok(ours), Ok(header)) = (&ours, &header) else {
        // We refuse the packet whose payload is cut off, too; etherparse says so one step later.
        let theirs = theirs::Ipv6Slice::from_slice(bytes);
        seen.agree("ipv6", ours.is_ok(), theirs.is_ok(), bytes);
        return;
    };
    assert_eq!((ours.dscp(), ours.ecn()), (header.dscp().value(), header.ecn().value()));
    assert_eq!(
        (ours.flow_label(), ours.payload_len()),
        (header.flow_label().value(), header.payload_length())
    );
    assert_eq!((ours.next_header(), ours.hop_limit()), (header.next_header().0, header.hop_limit()));
    assert_eq!((ours.source(), ours.destination()), (header.source_addr(), header.destination_addr()));
    if ours.payload_len() == 0 && bytes.len() > 40 {
        // Zero is an empty payload to us; etherparse takes all bytes, in case it is a jumbogram. Then padding would
        // be payload.
        seen.v6_zero_length += 1;
        assert!(ours.payload().is_empty());
        return;
    }
    extensions(ours, seen);
}

fn extensions(ours: &Ipv6<'_>, seen: &mut Seen) {
    let upper = ours.upper();
    let theirs = theirs::Ipv6ExtensionsSlice::from_slice(ours.next_header().into(), ours.payload());
    let walked: Vec<_> = ours.extensions().flatten().collect();
    let fragments = walked.iter().filter(|extension| extension.kind == protocol::FRAGMENT).count();
    match upper {
        Ok(upper) if !upper.begins_transport() => {
            // Behind a later fragment's header lies the middle of a datagram: we stop, etherparse reads it as
            // whatever the header names.
            seen.v6_later_fragment += 1;
            assert_eq!(walked.last().map(|extension| extension.kind), Some(protocol::FRAGMENT));
        }
        Err(HeaderError::TooManyExtensions) => {
            // We stop at eight; etherparse has no limit.
            seen.v6_too_many += 1;
            assert_eq!(walked.len(), 8);
        }
        Err(HeaderError::BadNextHeader) if fragments == 1 && theirs_sees_two_fragments(ours) => {
            // We refuse a second fragment header: it hides the transport from filters.
            seen.v6_two_fragments += 1;
        }
        _ => {
            if seen.agree("ipv6 extensions", upper.is_ok(), theirs.is_ok(), ours.payload()) {
                let (upper, (slice, number, payload)) = (upper.unwrap(), theirs.unwrap());
                assert_eq!((upper.protocol(), upper.payload()), (number.0, payload));
                assert_eq!(upper.is_fragment(), slice.is_fragmenting_payload());
                assert_eq!(ours.payload().len() - upper.payload().len(), slice.slice().len());
            }
        }
    }
}

/// Whether the header that our walk refused is a fragment header.
fn theirs_sees_two_fragments(ours: &Ipv6<'_>) -> bool {
    let last = ours.extensions().flatten().last();
    last.is_some_and(|extension| extension.bytes[0] == protocol::FRAGMENT)
}

/// Each header on the bytes where the packet has it, and the transports on each other's bytes too.
fn compare(packet: &[u8], seen: &mut Seen) {
    ethernet(packet, seen);
    let Ok(link) = Ethernet::parse(packet) else { return };
    compare_network(link.payload(), seen);
}

fn compare_network(bytes: &[u8], seen: &mut Seen) {
    arp(bytes, seen);
    ipv4(bytes, seen);
    ipv6(bytes, seen);
    if let Ok(ip) = Ipv4::parse(bytes) {
        compare_transport(ip.payload(), seen);
    }
    if let Ok(upper) = Ipv6::parse(bytes).and_then(|ip| ip.upper()) {
        compare_transport(upper.payload(), seen);
    }
}

fn compare_transport(bytes: &[u8], seen: &mut Seen) {
    udp(bytes, seen);
    tcp(bytes, seen);
    icmp(bytes, seen);
    icmpv6(bytes, seen);
}

#[test]
fn the_corpus_damaged_in_every_way() {
    let mut seen = Seen::default();
    for packet in corpus::all() {
        compare(&packet, &mut seen);
    }
    println!("{seen:?}");
    assert!(seen.agreed_valid > 10_000 && seen.agreed_invalid > 10_000, "{seen:?}");
    // Of the differences, these come of one flipped bit or one cut.
    assert!(
        seen.v4_reserved_bit > 0 && seen.other_arp > 0 && seen.v4_auth > 0 && seen.v6_later_fragment > 0,
        "{seen:?}"
    );
    assert!(seen.icmp_timestamp > 0 && seen.tcp_option > 0 && seen.udp_zero_length > 0, "{seen:?}");
}

#[test]
fn the_differences_that_need_building() {
    use zsync_packet::header::VlanTag;
    use zsync_packet::header::build::{self, Ipv6Spec};

    let mut seen = Seen::default();
    compare(&build::ethernet([1; 6], [2; 6], &[VlanTag::new(1); 3], ether_type::IPV4, &[]), &mut seen);
    let v6 = |next: u8, payload: &[u8]| Ipv6Spec::new(corpus::V6.0, corpus::V6.1, next).packet(payload);
    let many = build::extension(protocol::DESTINATION_OPTIONS, 0).repeat(9);
    compare_network(&v6(protocol::DESTINATION_OPTIONS, &many), &mut seen);
    let two = [build::fragment(protocol::FRAGMENT, 0, true, 1), build::fragment(17, 0, true, 1)].concat();
    compare_network(&v6(protocol::FRAGMENT, &two), &mut seen);
    let mut padded = v6(protocol::UDP, &[]);
    padded.extend([0; 6]);
    compare_network(&padded, &mut seen);
    let met = [seen.third_tag, seen.v6_too_many, seen.v6_two_fragments, seen.v6_zero_length];
    assert_eq!(met, [1, 1, 1, 1], "{seen:?}");
}

/// Bytes in which each header's first check passes often.
fn plausible(len: core::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![any::<u8>(), prop::sample::select(vec![0u8, 1, 4, 6, 8, 17, 43, 44, 51, 60, 0xff])];
    prop::collection::vec(byte, len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn random_frames(
        mut bytes in plausible(0..120),
        kind in prop::sample::select(vec![0x0800u16, 0x86dd, 0x8100, 0x88a8, 0x0806]),
    ) {
        if let Some(place) = bytes.get_mut(12..14) {
            place.copy_from_slice(&kind.to_be_bytes());
        }
        compare(&bytes, &mut Seen::default());
    }

    #[test]
    fn random_ipv4(mut bytes in plausible(0..120), ihl in 4u8..8, length in 15u8..130) {
        if let Some(start) = bytes.get_mut(..4) {
            start[0] = 0x40 | ihl;
            start[2] = 0;
            start[3] = length;
        }
        compare_network(&bytes, &mut Seen::default());
    }

    #[test]
    fn random_ipv6(
        mut bytes in plausible(38..160),
        next in prop::sample::select(vec![0u8, 43, 44, 51, 60, 17]),
        length in 0u8..120,
    ) {
        if let Some(start) = bytes.get_mut(..8) {
            start[0] = 0x60 | start[0] & 0xf;
            start[4] = 0;
            start[5] = length;
            start[6] = next;
        }
        compare_network(&bytes, &mut Seen::default());
    }

    #[test]
    fn random_transports(bytes in plausible(0..90)) {
        compare_transport(&bytes, &mut Seen::default());
    }

    #[test]
    fn random_tcp_options(options in prop::collection::vec(prop_oneof![0u8..12, any::<u8>()], 40)) {
        let header = [0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 2, 0, 0, 0, 0, 0, 0];
        tcp(&[&header[..], &options].concat(), &mut Seen::default());
    }
}
