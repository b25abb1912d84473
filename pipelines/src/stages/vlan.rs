//! `vlan`: puts a tag on, takes one off, or changes one (IEEE 802.1Q, 802.1ad).
//!
//! Works on frames, parsed or not: what is known of where headers start moves with them. Owns nothing. Refuses: a third tag
//! ([`DropReason::VlanTooDeep`]), frames that end in their tag. Leaves alone frames that have no tag to take off or change,
//! and those of other VLANs than the one that it is for. Keeps true: addresses and payload stay as they are; the tag that was
//! taken off is what later stages know of the packet's VLAN.

use crate::spec::vlan::{VlanAction, VlanSpec};
use crate::stage::{Cx, Stage};
use crate::vlans::named;
use zsync_packet::burst::Burst;
use zsync_packet::header::ethernet::{self, MAX_TAGS, TAG_LEN};
use zsync_packet::header::{Ethernet, HeaderError, VlanTag};
use zsync_packet::verdict::{DropReason, Verdict};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Vlan {
    spec: VlanSpec,
}

impl Vlan {
    /// As `spec` says.
    pub fn new(spec: VlanSpec) -> Self {
        Self { spec }
    }
}

impl Stage for Vlan {
    #[inline]
    fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
        for i in burst.undecided() {
            if let Err(reason) = self.act(burst, i) {
                burst.decide(i, Verdict::Drop(reason));
            }
        }
    }

    fn explain(&self, burst: &Burst, i: usize, _: u64, out: &mut Vec<String>) {
        let outer = Ethernet::parse(burst.bytes(i)).ok().and_then(|frame| frame.outer_tag());
        let has = outer.map_or("no tag".to_owned(), |tag| format!("the tag {}", named(tag)));
        out.push(match (self.spec.of, self.spec.action) {
            (Some(id), _) if outer.is_none_or(|tag| tag.id() != id) => {
                format!("{has}: not VLAN {id}, which alone is changed here")
            }
            (_, VlanAction::Push(tag)) => format!("{has}; {} is put ahead", named(wire(tag))),
            (_, VlanAction::Pop) if outer.is_none() => format!("{has} that could come off"),
            (_, VlanAction::Pop) => format!("{has} comes off"),
            (_, VlanAction::Rewrite { .. }) if outer.is_none() => format!("{has} that could be changed"),
            (_, VlanAction::Rewrite { id, priority }) => {
                let id = id.map(|id| format!("VLAN {id}"));
                let priority = priority.map(|priority| format!("priority {priority}"));
                let to: Vec<String> = id.into_iter().chain(priority).collect();
                format!("{has} gets {}", to.join(", "))
            }
        });
    }
}

impl Vlan {
    #[inline]
    fn act(&self, burst: &mut Burst, i: usize) -> Result<(), DropReason> {
        let frame = Ethernet::parse(burst.bytes(i)).map_err(|error| match error {
            HeaderError::TooManyTags => DropReason::VlanTooDeep,
            _ => DropReason::EthernetTruncated,
        })?;
        let (outer, tags) = (frame.outer_tag(), (frame.header_len() - ethernet::HEADER_LEN) / TAG_LEN);
        if self.spec.of.is_some_and(|id| outer.is_none_or(|tag| tag.id() != id)) {
            return Ok(());
        }
        match self.spec.action {
            VlanAction::Push(_) if tags >= MAX_TAGS => Err(DropReason::VlanTooDeep),
            VlanAction::Push(tag) => push(burst, i, wire(tag)),
            VlanAction::Pop => pop(burst, i).map(drop),
            VlanAction::Rewrite { id, priority } => {
                if let Some(tag) = outer {
                    let id = id.map_or(tag.tci & 0x0fff, |id| id & 0x0fff);
                    let priority = priority.map_or(tag.tci & 0xe000, |priority| u16::from(priority) << 13);
                    let tci = priority | tag.tci & 0x1000 | id;
                    if let Some(place) = burst.bytes_mut(i).get_mut(14..16) {
                        place.copy_from_slice(&tci.to_be_bytes());
                    }
                }
                Ok(())
            }
        }
    }
}

/// The tag as it goes on the wire.
pub fn wire(tag: crate::spec::vlan::VlanTag) -> VlanTag {
    let plain = if tag.provider { VlanTag::provider(tag.id) } else { VlanTag::new(tag.id) };
    VlanTag { tci: plain.tci | u16::from(tag.priority) << 13, ..plain }
}

/// Puts a tag ahead of packet `i`'s others, and moves what is known of it along. How many it has is not asked.
///
/// # Errors
/// No room, or no Ethernet header.
#[inline]
pub fn push(burst: &mut Burst, i: usize, tag: VlanTag) -> Result<(), DropReason> {
    if burst.bytes(i).len() < ethernet::HEADER_LEN {
        return Err(DropReason::EthernetTruncated);
    }
    let bytes = burst.prepend(i, TAG_LEN).ok_or(DropReason::NoHeadroom)?;
    ethernet::push_tag(bytes, tag).map_err(|_| DropReason::EthernetTruncated)?;
    let facts = burst.facts_mut(i);
    for offset in [&mut facts.l3, &mut facts.l4] {
        if *offset != 0 {
            *offset += TAG_LEN as u16;
        }
    }
    Ok(())
}

/// Takes packet `i`'s outer tag off, if it has one, and gives it; what is known of the packet moves along.
///
/// # Errors
/// The frame ends in its tag.
#[inline]
pub fn pop(burst: &mut Burst, i: usize) -> Result<Option<VlanTag>, DropReason> {
    let Some(tag) = ethernet::pop_tag(burst.bytes_mut(i)).map_err(|_| DropReason::EthernetTruncated)? else {
        return Ok(None);
    };
    if !burst.trim_front(i, TAG_LEN) {
        return Err(DropReason::EthernetTruncated);
    }
    let facts = burst.facts_mut(i);
    facts.vlan = tag.tci;
    for offset in [&mut facts.l3, &mut facts.l4] {
        *offset = offset.saturating_sub(TAG_LEN as u16);
    }
    Ok(Some(tag))
}

#[cfg(test)]
mod tests;
