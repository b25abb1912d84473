use super::format::{FILE_HEADER, RECORD_HEADER};
use super::*;
use proptest::prelude::*;
use std::io::Cursor;
use zsync_packet::frame::{FrameSize, HEADROOM};

type Records = Vec<(u64, Vec<u8>)>;
type Port<'a> = Pcap<Cursor<&'a [u8]>, Vec<u8>>;

fn pool() -> Pool {
    Pool::heap(FrameSize::K2, 128, 1).unwrap().remove(0)
}

/// A capture as the draft describes it, written apart from the code under test.
fn capture(big_endian: bool, nano: bool, records: &Records) -> Vec<u8> {
    let n32 = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
    let n16 = |n: u16| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
    let mut file = Vec::new();
    file.extend(n32(if nano { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }));
    file.extend([n16(2), n16(4)].concat());
    file.extend([n32(0), n32(0), n32(65_535), n32(1)].concat());
    for (time, bytes) in records {
        let fraction = (time % 1_000_000_000) as u32 / if nano { 1 } else { 1000 };
        let len = bytes.len() as u32;
        file.extend([n32((time / 1_000_000_000) as u32), n32(fraction), n32(len), n32(len + 4)].concat());
        file.extend(bytes);
    }
    file
}

fn reading(file: &[u8], pace: Pace) -> Result<Port<'_>, PcapError> {
    Ok(Pcap::new(PortId(3), Some(Reader::new(Cursor::new(file), pace)?), None))
}

/// One call of `rx_burst`: the packets that came.
fn receive<R: Read, W: Write>(port: &mut Pcap<R, W>, pool: &mut Pool) -> Vec<Vec<u8>> {
    let mut burst = Burst::new(pool.arena().clone());
    let came = port.rx_burst(pool, &mut burst);
    let packets: Vec<_> = (0..came).map(|i| burst.bytes(i).to_vec()).collect();
    assert!((0..came).all(|i| burst.port(i) == PortId(3)));
    burst.drain(|packet, _, _| pool.free(packet.frame));
    packets
}

fn receive_all<R: Read, W: Write>(port: &mut Pcap<R, W>, pool: &mut Pool) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while !port.finished() {
        packets.extend(receive(port, pool));
    }
    assert_eq!(pool.available(), 128);
    assert_eq!(pool.audit(0, 0).leaked, 0);
    packets
}

fn send<R: Read, W: Write>(port: &mut Pcap<R, W>, pool: &mut Pool, packets: &[&[u8]]) -> usize {
    let mut out = Vec::new();
    for bytes in packets {
        let mut frame = pool.alloc().unwrap();
        pool.arena().bytes_mut(&mut frame, HEADROOM as u16, bytes.len() as u16).copy_from_slice(bytes);
        out.push(Packet { frame, start: HEADROOM as u16, len: bytes.len() as u16, port: PortId(0) });
    }
    let sent = port.tx_burst(pool, &mut out);
    assert_eq!(out.len(), packets.len() - sent);
    out.into_iter().for_each(|packet| pool.free(packet.frame));
    assert_eq!(pool.available(), 128);
    sent
}

fn writing<W: Write>(sink: W, stamps: Stamps) -> Pcap<Cursor<&'static [u8]>, W> {
    Pcap::new(PortId(3), None, Some(Writer::new(sink, stamps).unwrap()))
}

fn finish<R: Read, W: Write>(port: Pcap<R, W>) -> W {
    port.into_parts().1.unwrap().finish().unwrap()
}

fn three() -> Records {
    vec![
        (1_000_000_000_000, vec![1; 60]),
        (1_000_000_005_000, vec![2; 1]),
        (1_000_001_000_000, (0..=255).collect()),
    ]
}

fn bytes_of(records: &Records) -> Vec<Vec<u8>> {
    records.iter().map(|(_, bytes)| bytes.clone()).collect()
}

#[test]
fn reads_both_byte_orders_and_resolutions() {
    let mut pool = pool();
    for (big_endian, nano) in [(false, false), (false, true), (true, false), (true, true)] {
        let file = capture(big_endian, nano, &three());
        let mut port = reading(&file, Pace::AsFast).unwrap();
        assert_eq!(receive_all(&mut port, &mut pool), bytes_of(&three()));
        let (reader, _) = port.into_parts();
        let reader = reader.unwrap();
        assert!(reader.error().is_none());
        assert_eq!(reader.records(), 3);
        assert_eq!(reader.resolution(), if nano { Resolution::Nano } else { Resolution::Micro });
    }
}

#[test]
fn packets_wait_for_their_time() {
    let mut pool = pool();
    for nano in [false, true] {
        let file = capture(true, nano, &three());
        let mut port = reading(&file, Pace::AsTimed).unwrap();
        assert!(receive(&mut port, &mut pool).is_empty(), "there is no clock yet");
        port.flush(77_000, false);
        assert_eq!(receive(&mut port, &mut pool).len(), 1);
        port.flush(77_000 + 4_999, false);
        assert_eq!(receive(&mut port, &mut pool).len(), 0);
        port.flush(77_000 + 5_000, false);
        assert_eq!(receive(&mut port, &mut pool), [[2]]);
        port.flush(77_000 + 999_999, false);
        assert_eq!((receive(&mut port, &mut pool).len(), port.finished()), (0, false));
        port.flush(77_000 + 1_000_000, false);
        assert_eq!((receive(&mut port, &mut pool).len(), port.finished()), (1, true));
    }
}

#[test]
fn packets_longer_than_a_frame_are_counted_and_skipped() {
    let mut pool = pool();
    let records =
        vec![(0, vec![1; 1793]), (0, vec![2; 1792]), (0, vec![3; 262_144]), (0, vec![]), (0, vec![4; 60])];
    let file = capture(false, true, &records);
    let mut port = reading(&file, Pace::AsFast).unwrap();
    assert_eq!(receive_all(&mut port, &mut pool), [vec![2; 1792], vec![], vec![4; 60]]);
    assert_eq!(port.counters().rx_refused, 2);
    assert!(port.error().is_none());
}

#[test]
fn an_empty_pool_loses_no_packet_of_the_file() {
    let mut pool = pool();
    let file = capture(false, true, &three());
    let mut port = reading(&file, Pace::AsFast).unwrap();
    let hoard: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    let mut burst = Burst::new(pool.arena().clone());
    assert_eq!(port.rx_burst(&mut pool, &mut burst), 0);
    assert_eq!(port.counters().fill_starved, 1);
    hoard.into_iter().for_each(|frame| pool.free(frame));
    assert_eq!(receive_all(&mut port, &mut pool), bytes_of(&three()));
}

#[test]
fn a_file_that_ends_anywhere_gives_the_packets_before_and_says_where() {
    let mut pool = pool();
    let file = capture(false, false, &three());
    let ends: Vec<usize> = three()
        .iter()
        .scan(FILE_HEADER, |at, (_, bytes)| {
            *at += RECORD_HEADER + bytes.len();
            Some(*at)
        })
        .collect();
    for end in 0..=file.len() {
        let port = reading(&file[..end], Pace::AsFast);
        if end < FILE_HEADER {
            let Err(PcapError::Truncated { record: 0, offset, missing }) = port else {
                panic!("{end}: {port:?}")
            };
            assert_eq!((offset as usize, missing), (end, FILE_HEADER - end));
            continue;
        }
        let mut port = port.unwrap();
        let whole = ends.iter().filter(|&&at| at <= end).count();
        assert_eq!(receive_all(&mut port, &mut pool), bytes_of(&three())[..whole]);
        match port.error() {
            None => assert!(end == FILE_HEADER || ends.contains(&end)),
            Some(&PcapError::Truncated { record, offset, missing }) => {
                assert_eq!((record as usize, offset as usize), (whole + 1, end));
                let begun = if whole == 0 { FILE_HEADER } else { ends[whole - 1] };
                let need = if end - begun < RECORD_HEADER { begun + RECORD_HEADER } else { ends[whole] };
                assert_eq!(missing, need - end);
            }
            Some(other) => panic!("{end}: {other}"),
        }
    }
}

#[test]
fn a_skipped_record_that_is_cut_short_says_how_much_is_missing() {
    let file = capture(false, true, &vec![(0, vec![1; 5000])]);
    let mut port = reading(&file[..FILE_HEADER + RECORD_HEADER + 1500], Pace::AsFast).unwrap();
    assert!(receive_all(&mut port, &mut pool()).is_empty());
    let error = port.error().unwrap().to_string();
    assert_eq!(error, "it ends at byte 1540, 3500 bytes short of what record 1 needs (0: the file header)");
}

#[test]
fn files_of_other_kinds_are_refused_by_name() {
    let refused = |file: &[u8]| reading(file, Pace::AsFast).unwrap_err().to_string();
    assert!(refused(&[0x0a, 0x0d, 0x0d, 0x0a].repeat(6)).contains("pcapng is not read"));
    let mut file = capture(true, true, &vec![]);
    file[23] = 101;
    assert_eq!(refused(&file), "its link type is 101: only 1 (Ethernet) is read");
    let mut file = capture(true, true, &vec![]);
    file[5] = 3;
    assert_eq!(refused(&file), "its format has version 3.4: only 2.4 is read");
    let mut file = capture(false, true, &three());
    file[FILE_HEADER + RECORD_HEADER + 60 + 11] = 0x80;
    let mut port = reading(&file, Pace::AsFast).unwrap();
    assert_eq!(receive_all(&mut port, &mut pool()).len(), 1);
    let error = port.error().unwrap().to_string();
    assert_eq!(error, "record 2 at byte 100 claims 2147483649 bytes: records have at most 262144");
}

/// A sink that takes so many bytes and then is full.
#[derive(Debug)]
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_written_stays_with_the_caller_and_the_error_stays() {
    let mut pool = pool();
    let mut port = writing(Full(200), Stamps::Now);
    assert_eq!(send(&mut port, &mut pool, &[&[1; 60], &[2; 1500]]), 2);
    assert!(port.error().is_none() && port.unflushed());
    port.flush(1, false);
    assert!(port.unflushed(), "it was not long enough");
    port.flush(2, true);
    assert!(!port.unflushed());
    assert!(matches!(port.error(), Some(PcapError::Write { record: 2, .. })));
    assert_eq!(send(&mut port, &mut pool, &[&[3; 60]]), 0);
    assert!(port.into_parts().1.unwrap().finish().is_err());
}

#[test]
fn a_port_without_files_is_deaf_and_dumb() {
    let mut pool = pool();
    let mut port: Pcap<io::Empty, io::Sink> = Pcap::new(PortId(3), None, None);
    assert!(port.finished() && receive(&mut port, &mut pool).is_empty());
    assert_eq!(send(&mut port, &mut pool, &[&[1; 60]]), 0);
}

#[test]
fn the_written_file_is_this_one_byte_for_byte() {
    let mut pool = pool();
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv6([1; 16], [2; 16], 64)
        .udp(1000, 2000)
        .write(&mut packet, b"zsync")
        .unwrap();
    let mut port = writing(Vec::new(), Stamps::Now);
    send(&mut port, &mut pool, &[&[0xff; 3]]);
    port.flush(3_000_000_007, false);
    send(&mut port, &mut pool, &[&packet]);
    let file = finish(port);
    let expected = [
        &[0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0][..],
        &[0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0xff, 0xff, 0xff],
        &[3, 0, 0, 0, 7, 0, 0, 0, 67, 0, 0, 0, 67, 0, 0, 0],
        &packet,
    ];
    assert_eq!(file, expected.concat());
    let mut port = reading(&file, Pace::AsFast).unwrap();
    let packets = receive_all(&mut port, &mut pool);
    let parsed = etherparse::SlicedPacket::from_ethernet(&packets[1]).unwrap();
    assert!(
        matches!(parsed.transport, Some(etherparse::TransportSlice::Udp(udp)) if udp.payload() == b"zsync")
    );
}

fn records() -> impl Strategy<Value = Records> {
    let record = (0u64..4_000_000_000_000_000_000, prop::collection::vec(any::<u8>(), 0..300));
    prop::collection::vec(record, 0..100)
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_and_by_others(records in records(), count in any::<bool>()) {
        let mut pool = pool();
        let stamps = if count { Stamps::Count } else { Stamps::Now };
        let mut port = writing(Vec::new(), stamps);
        for (time, bytes) in &records {
            port.flush(*time, false);
            prop_assert_eq!(send(&mut port, &mut pool, &[bytes]), 1);
        }
        let file = finish(port);
        let mut port = reading(&file, Pace::AsFast).unwrap();
        prop_assert_eq!(receive_all(&mut port, &mut pool), bytes_of(&records));
        let mut other = pcap_file::pcap::PcapReader::new(&file[..]).unwrap();
        let mut n = 0;
        while let Some(packet) = other.next_packet() {
            let packet = packet.unwrap();
            let time = if count { n as u64 } else { records[n].0 };
            prop_assert_eq!(packet.timestamp.as_nanos(), u128::from(time));
            prop_assert_eq!(packet.data.as_ref(), &records[n].1[..]);
            n += 1;
        }
        prop_assert_eq!(n, records.len());
    }

    #[test]
    fn what_others_read_is_read_the_same(records in records(), big in any::<bool>(), nano in any::<bool>()) {
        let file = capture(big, nano, &records);
        let mut other = pcap_file::pcap::PcapReader::new(&file[..]).unwrap();
        let mut theirs = Vec::new();
        while let Some(packet) = other.next_packet() {
            theirs.push(packet.unwrap().data.into_owned());
        }
        let mut port = reading(&file, Pace::AsFast).unwrap();
        prop_assert_eq!(receive_all(&mut port, &mut pool()), theirs);
        prop_assert!(port.error().is_none());
    }

    #[test]
    fn arbitrary_bytes_end_in_packets_or_an_error(
        header in any::<bool>(),
        bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..2000),
    ) {
        let mut file = if header { capture(false, false, &vec![]) } else { Vec::new() };
        file.extend(&bytes);
        if let Ok(mut port) = reading(&file, Pace::AsFast) {
            let packets = receive_all(&mut port, &mut pool());
            let read: usize = packets.iter().map(|packet| packet.len() + RECORD_HEADER).sum();
            prop_assert!(read <= bytes.len());
        }
    }
}
