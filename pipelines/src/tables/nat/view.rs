//! Looking at one worker's translations from another process.
//!
//! Owns nothing. Refuses memory of another layout, and a record that changes while it is read. Keeps true: what is shown of a
//! mapping, or of a block, was true of it. Writes nothing, but for how far the [log](BlockLog) was told.

use std::sync::atomic::Ordering::Acquire;

use zsync_packet::region::Region;

use super::block::{self, Block};
use super::log::BlockLog;
use super::mapping::{self, Mapping};
use super::translations::NatLayout;
use crate::tables::records::Records;

/// Words of a record that belong together: its two ends and what they are ends of.
const SAME: usize = 5;

/// See the module. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct NatView {
    mappings: Records<8>,
    blocks: Option<Records<8>>,
    log: Option<BlockLog>,
}

impl NatView {
    /// A reader of what a worker keeps in this memory. `None`: it is too short, or of another layout.
    pub fn open(region: &Region, layout: NatLayout) -> Option<Self> {
        let [mappings, blocks, peers, log] = layout.ends();
        let found = region.u64s(0, 1)?.first()?.load(Acquire);
        if found != 0 && found != layout.word() {
            return None;
        }
        Some(Self {
            mappings: Records::open(region.part(NatLayout::HEADER..mappings)?, layout.mappings as usize)?,
            blocks: match layout.blocks {
                0 => None,
                count => Some(Records::open(region.part(mappings..blocks)?, count as usize)?),
            },
            log: match layout.log {
                0 => None,
                count => Some(BlockLog::open(region.part(peers..log)?, count as usize)?),
            },
        })
    }

    /// How many mappings there are, and how many there can be.
    pub fn mappings(&self) -> (u32, u32) {
        (self.mappings.live(), self.mappings.capacity())
    }

    /// Numbers from this one on are no mapping's.
    pub fn mappings_end(&self) -> u32 {
        self.mappings.fresh()
    }

    /// The mapping with this number, if it lives, and stands still long enough.
    pub fn mapping(&self, number: u32) -> Option<Mapping> {
        self.mappings.steady(number, SAME).map(|words| mapping::of_words(number, words))
    }

    /// Numbers from this one on are no block's.
    pub fn blocks_end(&self) -> u32 {
        self.blocks.as_ref().map_or(0, Records::fresh)
    }

    /// The block with this number, if a client holds it, and it stands still long enough.
    pub fn block(&self, number: u32) -> Option<Block> {
        self.blocks.as_ref()?.steady(number, SAME).map(|words| block::of_words(number, words))
    }

    /// The log of blocks, where there is one.
    pub fn log(&self) -> Option<&BlockLog> {
        self.log.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Endpoint, Pool, Ports, Translations};
    use super::*;
    use zsync_packet::flow::HashKey;

    const LAYOUT: NatLayout = NatLayout { mappings: 64, blocks: 64, peers: 0, log: 64 };

    fn translations(region: &Region) -> Translations {
        let ports = Ports::new(64, 1024..=65535, 0, 1);
        let translations = Translations::open(region, LAYOUT, ports, 2, HashKey::from_seed(1)).unwrap();
        translations.start();
        translations
    }

    #[test]
    fn another_process_sees_mappings_and_blocks_of_both_families() {
        let region = Region::heap(LAYOUT.bytes());
        let view = NatView::open(&region, LAYOUT).unwrap();
        assert_eq!((view.mappings(), view.mappings_end(), view.blocks_end()), ((0, 64), 0, 0));
        let translations = translations(&region);
        let mut seen = Vec::new();
        for (client, outside) in [("10.0.0.7", "203.0.113.1"), ("fd00::7", "2001:db8::1")] {
            let internal = Endpoint::new(client.parse().unwrap(), 4000, 17);
            let pool = Pool::single(outside.parse().unwrap());
            let external = translations.map(&internal, &pool, 5, |_| false).unwrap();
            seen.push((internal, external));
        }
        let shown = (0..view.mappings_end()).filter_map(|number| view.mapping(number));
        assert_eq!(shown.map(|m| (m.internal, m.external)).collect::<Vec<_>>(), seen);
        let blocks: Vec<Block> = (0..view.blocks_end()).filter_map(|number| view.block(number)).collect();
        for (block, (internal, external)) in blocks.iter().zip(&seen) {
            assert_eq!((block.client, block.external), (internal.host(), external.host()));
            assert_eq!(block.block, external.port() / 64);
        }
        assert_eq!((blocks.len(), view.log().map(BlockLog::written)), (2, Some(2)));
        translations.mappings.free(0);
        assert_eq!((view.mapping(0), view.mappings()), (None, (1, 64)));
        assert_eq!((view.mapping(64), view.block(64)), (None, None));
    }

    #[test]
    fn memory_of_another_layout_is_refused() {
        let region = Region::heap(LAYOUT.bytes());
        translations(&region);
        assert!(NatView::open(&region, NatLayout { peers: 8, ..LAYOUT }).is_none());
        assert!(NatView::open(&Region::heap(LAYOUT.bytes() - 1), LAYOUT).is_none());
    }

    #[test]
    fn a_reader_beside_a_writer_sees_no_mixture() {
        let region = Region::heap(LAYOUT.bytes());
        let (translations, view) = (translations(&region), NatView::open(&region, LAYOUT).unwrap());
        let address = |kind, n: u32| ([kind, 0, (n >> 8) as u8, n as u8], (n % 60_000) as u16);
        let ends = move |n: u32| {
            let ((inside, port), (outside, _)) = (address(10, n), address(203, n));
            (Endpoint::new(inside.into(), port, 17), Endpoint::new(outside.into(), port, 17))
        };
        let writer = std::thread::spawn(move || {
            for n in 0..200_000u32 {
                let (internal, external) = ends(n % 50_000);
                translations.mappings.insert(internal, external, 1, 1);
                translations.mappings.free(n * 7 % 64);
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            for mapping in (0..view.mappings_end()).filter_map(|number| view.mapping(number)) {
                let n = u32::from(mapping.internal.port());
                assert_eq!((mapping.internal, mapping.external), ends(n));
                seen += 1;
            }
        }
        writer.join().unwrap();
        assert!(seen > 0);
    }
}
