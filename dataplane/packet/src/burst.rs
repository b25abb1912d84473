//! Bursts: up to 64 packets on their way through the stages, and what is decided of each.
//!
//! Owns: the frames of its packets. A stage sees bytes and facts, and sets verdicts; it never has a frame in its hands, so
//! it cannot lose one. Refuses: a 65th packet, and a frame of another arena (handed back). Keeps true: bit *i* of the mask
//! of live packets is set as long as packet *i* has no verdict but `Next`.
//!
//! There is an array for each thing that is known of packets, not an array of packets: what is the same for a whole burst
//! is written, compared and added up a vector register at a time.

pub use crate::facts::{Facts, FlowState, Fragment};
use crate::flow::FlowKey;
use crate::frame::{Arena, Frame};
use crate::pool::Pool;
use crate::verdict::{PortId, Verdict};

/// Most packets of a burst: the bits of one word, and what one pass takes from a queue.
pub const BURST: usize = 64;

/// A frame and the valid bytes in it.
#[derive(Debug)]
pub struct Packet {
    /// The frame, owned.
    pub frame: Frame,
    /// First valid byte, from the start of the frame.
    pub start: u16,
    /// Valid bytes.
    pub len: u16,
    /// Where it came in.
    pub port: PortId,
}

/// A burst. See the module.
pub struct Burst {
    arena: Arena,
    len: usize,
    live: u64,
    /// The verdict of every packet, when it is known to be the same for all.
    whole: Option<Verdict>,
    /// Raw frames: those below `len` are owned.
    frames: [u32; BURST],
    starts: [u16; BURST],
    lens: [u16; BURST],
    ports: [PortId; BURST],
    verdicts: [Verdict; BURST],
    facts: [Facts; BURST],
    /// Of a packet that was parsed for its transport; else left from a packet before it.
    keys: [FlowKey; BURST],
    /// Some packet is to leave later.
    delayed: bool,
}

impl Burst {
    /// An empty burst of packets in this arena.
    pub fn new(arena: Arena) -> Self {
        Self {
            arena,
            len: 0,
            live: 0,
            whole: None,
            frames: [0; BURST],
            starts: [0; BURST],
            lens: [0; BURST],
            ports: [PortId::default(); BURST],
            verdicts: [Verdict::Next; BURST],
            facts: [Facts::default(); BURST],
            keys: [FlowKey::NONE; BURST],
            delayed: false,
        }
    }

    /// Packets in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no packet in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Packets that it still takes.
    #[inline]
    pub fn room(&self) -> usize {
        BURST - self.len
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// The packet itself, when the burst is full, or its frame is another arena's, or its range leaves the frame.
    #[inline]
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        let end = usize::from(packet.start) + usize::from(packet.len);
        if self.len >= BURST
            || packet.frame.arena() != self.arena.tag()
            || end > self.arena.frame_size().bytes()
        {
            return Err(packet);
        }
        let i = self.len;
        (self.starts[i], self.lens[i], self.ports[i]) = (packet.start, packet.len, packet.port);
        (self.verdicts[i], self.facts[i]) = (Verdict::Next, Facts::default());
        self.frames[i] = packet.frame.into_raw();
        self.whole = None;
        self.live |= 1 << self.len;
        self.len += 1;
        Ok(())
    }

    /// Adds up to `want` packets that came in at `port`, each `len` bytes from byte `start` of a free frame of `pool`, the
    /// bytes as they are there. Returns how many: fewer when the burst or the pool has no more; none when the pool is of
    /// another arena or the range leaves a frame.
    #[inline]
    pub fn extend_from(&mut self, pool: &mut Pool, want: usize, port: PortId, start: u16, len: u16) -> usize {
        let from = self.len.min(BURST);
        let end = usize::from(start) + usize::from(len);
        if pool.arena().tag() != self.arena.tag() || end > self.arena.frame_size().bytes() {
            return 0;
        }
        // No more than there are slots, so each frame that comes has one.
        let mut slots = self.frames[from..].iter_mut();
        let came = pool.alloc_many(want.min(BURST - from), |frame| {
            if let Some(slot) = slots.next() {
                *slot = frame.into_raw();
            }
        });
        let new = from..from + came;
        self.starts[new.clone()].fill(start);
        self.lens[new.clone()].fill(len);
        self.ports[new.clone()].fill(port);
        self.verdicts[new.clone()].fill(Verdict::Next);
        self.facts[new.clone()].fill(Facts::default());
        self.live |= all(new.end) & !all(from);
        self.len = new.end;
        self.whole = None;
        came
    }

    /// Bytes of all its packets together.
    #[inline]
    pub fn total_bytes(&self) -> u64 {
        // 64 lengths of 16 bits fit in 22.
        u64::from(self.lens[..self.len].iter().map(|&len| u32::from(len)).sum::<u32>())
    }

    /// The packets that no stage has decided yet, as a mask: bit *i* is packet *i*.
    #[inline]
    pub fn live(&self) -> u64 {
        self.live
    }

    /// The numbers of the undecided packets, as they are now.
    #[inline]
    pub fn undecided(&self) -> Bits {
        Bits(self.live)
    }

    /// The bytes of packet `i`; empty when there is none.
    #[inline]
    pub fn bytes(&self, i: usize) -> &[u8] {
        if i >= self.len.min(BURST) {
            return &[];
        }
        // Borrowed from the burst, which owns the frame.
        let frame = std::mem::ManuallyDrop::new(Frame::from_raw(self.frames[i]));
        let bytes = self.arena.bytes(&frame, self.starts[i], self.lens[i]);
        // SAFETY: the bytes are packet `i`'s frame's, and the burst, which owns it, stays borrowed as long as they are.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) }
    }

    /// The bytes of packet `i`, to change.
    #[inline]
    pub fn bytes_mut(&mut self, i: usize) -> &mut [u8] {
        if i >= self.len.min(BURST) {
            return &mut [];
        }
        let mut frame = std::mem::ManuallyDrop::new(Frame::from_raw(self.frames[i]));
        let bytes = self.arena.bytes_mut(&mut frame, self.starts[i], self.lens[i]);
        // SAFETY: the bytes are packet `i`'s frame's, and the burst stays borrowed for writing as long as they are.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr(), bytes.len()) }
    }

    /// The bytes of the packets of `mask`, to change, each with its number; all at once, for what works on many packets together.
    #[inline]
    pub fn each_mut(&mut self, mask: u64) -> impl Iterator<Item = (usize, &mut [u8])> {
        let Self { arena, frames, starts, lens, .. } = self;
        Bits(mask & all(self.len)).map(|i| {
            let mut frame = std::mem::ManuallyDrop::new(Frame::from_raw(frames[i]));
            let bytes = arena.bytes_mut(&mut frame, starts[i], lens[i]);
            // SAFETY: no two packets have one frame, each packet is given once, and the burst stays borrowed for writing as
            // long as any of them.
            (i, unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr(), bytes.len()) })
        })
    }

    /// Where packet `i` came in.
    #[inline]
    pub fn port(&self, i: usize) -> PortId {
        self.ports[i & (BURST - 1)]
    }

    /// What the stages know of packet `i`.
    #[inline]
    pub fn facts(&self, i: usize) -> &Facts {
        &self.facts[i & (BURST - 1)]
    }

    /// As [`Self::facts`], to change.
    #[inline]
    pub fn facts_mut(&mut self, i: usize) -> &mut Facts {
        &mut self.facts[i & (BURST - 1)]
    }

    /// The flow of packet `i`, as later stages are to see it: a fragment may have the ports of its first one. Means
    /// something only once a stage has [set](Self::set_key) it, as a parser for stages that look at the transport does.
    #[inline]
    pub fn key(&self, i: usize) -> &FlowKey {
        &self.keys[i & (BURST - 1)]
    }

    /// Takes over what another worker knew of packet `i`.
    #[inline]
    pub fn know(&mut self, i: usize, facts: Facts, key: FlowKey) {
        *self.facts_mut(i) = facts;
        self.set_key(i, key);
        self.delayed |= facts.delay > 0;
    }

    /// Sets the flow of packet `i`.
    #[inline]
    pub fn set_key(&mut self, i: usize, key: FlowKey) {
        self.keys[i & (BURST - 1)] = key;
    }

    /// Lets packet `i` leave `delay` nanoseconds later than it otherwise would; the longest of several delays counts.
    #[inline]
    pub fn delay(&mut self, i: usize, delay: u32) {
        let facts = self.facts_mut(i);
        facts.delay = facts.delay.max(delay);
        self.delayed |= delay > 0;
    }

    /// Whether some packet is to leave later than the others.
    #[inline]
    pub fn is_delayed(&self) -> bool {
        self.delayed
    }

    /// What is decided of packet `i`.
    #[inline]
    pub fn verdict(&self, i: usize) -> Verdict {
        self.verdicts[i & (BURST - 1)]
    }

    /// Where all packets came in, if it is the same port for all.
    #[inline]
    pub fn common_port(&self) -> Option<PortId> {
        let ports = &self.ports[..self.len.min(BURST)];
        let first = *ports.first()?;
        // Without a way out half way, so that it is a few vector instructions.
        let differences = ports.iter().fold(0, |differences, port| differences | (port.0 ^ first.0));
        (differences == 0).then_some(first)
    }

    /// The verdict of all packets, when one [`Self::decide_all`] gave it to every one of them, or they were found to
    /// [agree](Self::agree).
    #[inline]
    pub fn unanimous(&self) -> Option<Verdict> {
        self.whole
    }

    /// How many of these packets are to be dropped.
    #[inline]
    pub fn drops(&self, mask: u64) -> u32 {
        match self.whole {
            Some(Verdict::Drop(_)) => (mask & all(self.len)).count_ones(),
            Some(_) => 0,
            None => Bits(mask & all(self.len))
                .filter(|&i| matches!(self.verdict(i), Verdict::Drop(_)))
                .count() as u32,
        }
    }

    /// Decides packet `i`; `Next` makes it live again.
    #[inline]
    pub fn decide(&mut self, i: usize, verdict: Verdict) {
        if i >= self.len {
            return;
        }
        self.verdicts[i] = verdict;
        self.whole = None;
        let bit = 1 << i;
        if verdict == Verdict::Next { self.live |= bit } else { self.live &= !bit }
    }

    /// Decides all live packets at once.
    #[inline]
    pub fn decide_all(&mut self, verdict: Verdict) {
        if self.live == 0 || verdict == Verdict::Next {
            return;
        }
        if self.live == all(self.len) {
            self.verdicts[..self.len].fill(verdict);
            self.whole = Some(verdict);
        } else {
            for i in self.undecided() {
                self.verdicts[i] = verdict;
            }
            self.whole = None;
        }
        self.live = 0;
    }

    /// Notes it when every packet has the same verdict, whoever gave it: what follows is then cheaper.
    #[inline]
    pub fn agree(&mut self) {
        let verdicts = &self.verdicts[..self.len.min(BURST)];
        if self.whole.is_none()
            && let Some(&first) = verdicts.first()
            && first != Verdict::Next
            && verdicts.iter().all(|verdict| *verdict == first)
        {
            self.whole = Some(first);
        }
    }

    /// Leaves only these of the packets without a verdict to the next stage, until [`Self::widen`].
    ///
    /// For a worker whose packets go to different pipelines: the others are out of sight, not decided.
    #[inline]
    pub fn narrow(&mut self, mask: u64) {
        self.live &= mask;
    }

    /// Makes every packet whose verdict is `Next` live again.
    #[inline]
    pub fn widen(&mut self) {
        self.live = 0;
        for (i, verdict) in self.verdicts[..self.len].iter().enumerate() {
            if *verdict == Verdict::Next {
                self.live |= 1 << i;
            }
        }
    }

    /// Takes all packets out, each with its verdict and what is known of it, in order.
    #[inline]
    pub fn drain(&mut self, mut each: impl FnMut(Packet, Verdict, &Facts)) {
        self.drain_with_keys(|packet, verdict, facts, _| each(packet, verdict, facts));
    }

    /// As [`Self::drain`], each with the [key](Self::key) of its flow, too.
    #[inline]
    pub fn drain_with_keys(&mut self, mut each: impl FnMut(Packet, Verdict, &Facts, &FlowKey)) {
        let len = self.empty();
        for i in 0..len {
            each(self.packet(i), self.verdicts[i], &self.facts[i], &self.keys[i]);
        }
    }

    /// Takes all packets out, in order, whatever their verdicts.
    #[inline]
    pub fn drain_into(&mut self, out: &mut Vec<Packet>) {
        let len = self.empty();
        out.extend((0..len).map(|i| self.packet(i)));
    }

    /// Frees the frames of all packets, whatever their verdicts.
    #[inline]
    pub fn free_into(&mut self, pool: &mut Pool) {
        let len = self.empty();
        pool.free_many(self.frames[..len].iter().map(|&raw| Frame::from_raw(raw)));
    }

    /// Leaves no packets; whoever calls takes this many frames over.
    #[inline]
    fn empty(&mut self) -> usize {
        (self.live, self.whole, self.delayed) = (0, None, false);
        std::mem::take(&mut self.len).min(BURST)
    }

    /// Packet `i`, for whoever took the frames over.
    #[inline]
    fn packet(&self, i: usize) -> Packet {
        let frame = Frame::from_raw(self.frames[i]);
        Packet { frame, start: self.starts[i], len: self.lens[i], port: self.ports[i] }
    }
}

/// A mask of the first `len` packets.
#[inline]
fn all(len: usize) -> u64 {
    if len >= BURST { u64::MAX } else { (1 << len) - 1 }
}

#[cfg(debug_assertions)]
impl Drop for Burst {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.len != 0 {
            panic!("a burst was dropped with {} packets: their pool has lost them", self.len);
        }
    }
}

/// The numbers of the set bits of a word, ascending.
#[derive(Clone, Copy, Debug)]
pub struct Bits(pub u64);

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let i = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(i)
    }
}

mod resize;
#[cfg(test)]
mod tests;
