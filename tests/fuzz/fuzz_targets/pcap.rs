//! Arbitrary capture files: packets or an error, no frame lost, and what is written is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zsync_io::device::Device;
use zsync_io::pcap::{Pace, Pcap, Reader, Stamps, Writer};
use zsync_packet::burst::Burst;
use zsync_packet::frame::FrameSize;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

fuzz_target!(|file: &[u8]| {
    let Some(first) = copy(file) else { return };
    assert_eq!(copy(&first.1).as_ref(), Some(&first), "a written file is read as it was written");
});

/// Reads `file` to its end, or to its first mistake, and writes its packets.
fn copy(file: &[u8]) -> Option<(u64, Vec<u8>)> {
    let reader = Reader::new(file, Pace::AsFast).ok()?;
    let writer = Writer::new(Vec::new(), Stamps::Count).expect("memory takes all");
    let mut device = Pcap::new(PortId(0), Some(reader), Some(writer));
    let mut pool = Pool::heap(FrameSize::K2, 128, 1).expect("128 frames").remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    let mut leaving = Vec::new();
    while !device.finished() {
        device.rx_burst(&mut pool, &mut burst);
        burst.drain(|packet, _, _| leaving.push(packet));
        device.tx_burst(&mut pool, &mut leaving);
        assert!(leaving.is_empty());
        device.flush(0, false);
    }
    let audit = pool.audit(0, 0);
    assert_eq!((audit.pool, audit.leaked), (128, 0));
    let writer = device.into_parts().1?;
    Some((writer.written(), writer.finish().expect("memory takes all")))
}
