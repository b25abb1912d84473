//! Arbitrary messages, to either side: decoded within every limit, or refused; what was decoded is encoded to be decoded to
//! the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fmt::Debug;
use zsync_protocol::message::{FromDataplane, Message, ToDataplane, decode, encode};

fuzz_target!(|input: &[u8]| {
    let Some((&descriptors, bytes)) = input.split_first() else { return };
    there_and_back::<ToDataplane>(bytes, usize::from(descriptors));
    there_and_back::<FromDataplane>(bytes, usize::from(descriptors));
});

fn there_and_back<M: Message + Debug + PartialEq>(bytes: &[u8], descriptors: usize) {
    // As many as the message wants, too: else nearly every input would be refused for that.
    for descriptors in [descriptors, 0, 1, 4] {
        let Ok(message) = decode::<M>(bytes, descriptors) else { continue };
        assert_eq!(message.descriptors(), descriptors);
        let mut encoded = Vec::new();
        encode(&message, &mut encoded).expect("what was accepted can be said");
        assert_eq!(decode::<M>(&encoded, descriptors).as_ref(), Ok(&message));
    }
}
