//! A packet of a TUN device with any header of virtio ahead of it: pieces within the limit whose checksums are right, or a refusal; and
//! merged again they come apart as they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zsync_io::virtio::Header;
use zsync_io::virtio::merge::{HEADERS, Runs};
use zsync_io::virtio::split::Cut;

/// What a port of Ethernet's MTU takes.
const LONGEST: usize = 1500;

fuzz_target!(|input: &[u8]| {
    let Some((header, packet)) = input.split_first_chunk() else { return };
    let Some((pieces, is_split)) = pieces(&Header::parse(header), packet) else { return };
    if !is_split {
        return;
    }
    for burst in pieces.chunks(64) {
        let all: Vec<&[u8]> = burst.iter().map(Vec::as_slice).collect();
        let mut runs = Runs::new(true);
        runs.find(&all);
        let mut out = Vec::new();
        for run in runs.iter() {
            let mut room = [0; HEADERS];
            match run.write_headers(all[run.first()], &mut room) {
                None => out.extend(runs.members(run).map(|i| all[i].to_vec())),
                Some((header, len)) => {
                    let whole =
                        [&room[..len], &runs.payloads(run, &all).collect::<Vec<_>>().concat()].concat();
                    out.extend(self::pieces(&header, &whole).expect("our own header fits").0);
                }
            }
        }
        assert!(out == burst, "what was merged comes apart as it was");
    }
});

/// The pieces, and whether they are several.
fn pieces(header: &Header, packet: &[u8]) -> Option<(Vec<Vec<u8>>, bool)> {
    let mut cut = Cut::new(header, packet, LONGEST).ok()?;
    let (mut room, mut pieces) = ([0; LONGEST], Vec::new());
    while let Some(len) = cut.next(packet, &mut room) {
        pieces.push(room[..len].to_vec());
    }
    assert!(cut.is_done() && !pieces.is_empty());
    Some((pieces, cut.is_split()))
}
