//! Shaped headers: a template's headers for payloads of zeros, with the lengths and checksums of sizes that come again.

use super::{Checks, MOST_HEADERS, Template};

/// Sizes that are kept, by their low bits; others are made anew each time.
const KEPT: usize = 16;
/// What is copied at once.
const BLOCK: usize = 16;
const BLOCKS: usize = MOST_HEADERS.div_ceil(BLOCK);

#[derive(Clone, Debug)]
struct Image {
    /// Bytes of payload that it is for; `usize::MAX` before there is one.
    payload: usize,
    blocks: [[u8; BLOCK]; BLOCKS],
}

/// Headers of a template by the length of their payload.
#[derive(Clone, Debug)]
pub(crate) struct Shaped {
    images: Vec<Image>,
    /// Blocks that the headers take.
    blocks: usize,
}

impl Shaped {
    /// None yet.
    pub(crate) fn new(template: &Template) -> Self {
        let none = Image { payload: usize::MAX, blocks: [[0; BLOCK]; BLOCKS] };
        Self { images: vec![none; KEPT], blocks: template.header_len().div_ceil(BLOCK) }
    }

    /// Writes the headers in front of the rest of `packet`, which counts as payload, of zeros. Up to 15 bytes behind the
    /// headers are overwritten. False, and nothing is written, when there is no room for those.
    #[inline]
    pub(crate) fn emit(&mut self, template: &Template, packet: &mut [u8]) -> bool {
        let (front, _) = packet.as_chunks::<BLOCK>();
        if front.len() < self.blocks {
            return false;
        }
        let payload = packet.len() - template.header_len();
        let image = &mut self.images[(payload ^ payload >> 4) % KEPT];
        if image.payload != payload {
            image.make(template, payload, packet);
        }
        let (front, _) = packet.as_chunks_mut::<BLOCK>();
        for (to, from) in front.iter_mut().zip(&image.blocks[..self.blocks]) {
            *to = *from;
        }
        true
    }
}

impl Image {
    #[cold]
    fn make(&mut self, template: &Template, payload: usize, packet: &mut [u8]) {
        let mut checks = Checks::default();
        if !template.emit(packet, &mut checks) {
            return;
        }
        template.seal(packet, &checks);
        let headers = &packet[..template.header_len()];
        self.blocks.as_flattened_mut()[..headers.len()].copy_from_slice(headers);
        self.payload = payload;
    }
}
