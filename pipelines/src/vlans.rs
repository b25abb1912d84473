//! VLANs as ports of their own: on the way in a frame's tag says which port it came in by, and comes off; on the way out by
//! such a port the tag goes on, and the frame leaves by the port that has a device.
//!
//! Owns the tables of which VLAN is which port. Refuses, on ports that have VLANs: frames of a VLAN that is none
//! ([`DropReason::VlanUnknown`]), and frames that end in their tag. Leaves untagged frames to the port itself, and those with a priority
//! tag (VLAN 0, IEEE 802.1Q §6.9), which comes off. Keeps true: what the pipelines see of a VLAN's frames has no tag of it, and
//! says in its facts what the tag was. A VLAN within a VLAN (802.1ad) is a port whose parent is a port with a parent.

use crate::spec::vlan::VlanPort;
use crate::stage::{Cx, Made};
use crate::stages::vlan::{pop, push, wire};
use std::sync::Arc;
use zsync_packet::burst::Burst;
use zsync_packet::header::ethernet::{self, HEADER_LEN, TAG_LEN, VlanTag};
use zsync_packet::header::{Ethernet, ether_type};
use zsync_packet::verdict::{DropReason, PortId, Verdict};

/// VLAN identifiers that there are.
const IDS: usize = 4096;
/// VLANs within each other: as many as the parser takes tags.
const DEPTH: usize = ethernet::MAX_TAGS;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Vlans {
    /// By port number.
    ports: Arc<[Port]>,
}

#[derive(Clone, Debug, Default)]
struct Port {
    /// The ports of its VLANs by their identifiers, if it has any. The type of the tag is looked at then.
    children: Option<Box<[Option<PortId>; IDS]>>,
    /// Where its frames leave, and with what tag, if it is a VLAN.
    parent: Option<(PortId, VlanTag)>,
}

impl Vlans {
    /// Of `ports` ports in all, of which these are VLANs.
    pub fn new(ports: usize, vlans: &[VlanPort]) -> Self {
        if vlans.is_empty() {
            return Self::default();
        }
        let mut all = vec![Port::default(); ports];
        for vlan in vlans {
            let (id, parent, tag) = (PortId(vlan.id.0), PortId(vlan.parent.0), wire(vlan.tag));
            if let Some(port) = all.get_mut(usize::from(id.0)) {
                port.parent = Some((parent, tag));
            }
            if let Some(port) = all.get_mut(usize::from(parent.0))
                && let Some(child) =
                    port.children.get_or_insert_with(|| Box::new([None; IDS])).get_mut(usize::from(tag.id()))
            {
                *child = Some(id);
            }
        }
        Self { ports: all.into() }
    }

    /// Whether the port has VLANs that are ports.
    #[inline]
    pub fn is_parent(&self, port: PortId) -> bool {
        self.ports.get(usize::from(port.0)).is_some_and(|port| port.children.is_some())
    }

    /// Sorts the undecided packets, all of which came in at `port`, by their tags. Whether any of them is another port's now.
    pub fn receive(&self, port: PortId, burst: &mut Burst) -> bool {
        let Some(Port { children: Some(children), .. }) = self.ports.get(usize::from(port.0)) else {
            return false;
        };
        let mut moved = false;
        for i in burst.undecided() {
            match self.child(children, burst, i) {
                Ok(None) => {}
                Ok(Some(child)) => {
                    burst.set_port(i, child);
                    moved = true;
                }
                Err(reason) => burst.decide(i, Verdict::Drop(reason)),
            }
        }
        moved
    }

    /// Says in words what tag a frame that comes in at `port` has, and of which VLANs frames are told apart there.
    pub(crate) fn explain(&self, port: PortId, frame: &[u8], out: &mut Vec<String>) {
        let Some(Port { children: Some(children), .. }) = self.ports.get(usize::from(port.0)) else { return };
        let known: Vec<String> = children
            .iter()
            .flatten()
            .filter_map(|child| self.parent(*child))
            .map(|(_, tag)| named(tag))
            .collect();
        let known = known.join(", ");
        out.push(match Ethernet::parse(frame).map(|frame| frame.outer_tag()) {
            Ok(None) => format!("no tag: it is of the port itself, and of none of its VLANs ({known})"),
            Ok(Some(tag)) if tag.id() == 0 => "a tag with a priority and no VLAN: it comes off".to_owned(),
            Ok(Some(tag)) => format!("tag {}; VLANs here: {known}", named(tag)),
            Err(error) => format!("tags that cannot be read ({error}); VLANs here: {known}"),
        });
    }

    #[inline]
    fn child(
        &self,
        children: &[Option<PortId>; IDS],
        burst: &mut Burst,
        i: usize,
    ) -> Result<Option<PortId>, DropReason> {
        // Priority tags may come one after the other, but not for ever.
        for _ in 0..=DEPTH {
            let bytes = burst.bytes(i);
            let Some(&[high, low]) = bytes.get(12..).and_then(|rest| rest.first_chunk::<2>()) else {
                return Ok(None);
            };
            let tpid = u16::from_be_bytes([high, low]);
            if !matches!(tpid, ether_type::VLAN | ether_type::QINQ) {
                return Ok(None);
            }
            let tci = bytes.get(HEADER_LEN..).and_then(|rest| rest.first_chunk::<2>());
            let tci = u16::from_be_bytes(*tci.ok_or(DropReason::EthernetTruncated)?);
            let id = tci & 0x0fff;
            let child = children.get(usize::from(id)).copied().flatten();
            let of_type = |child: &PortId| {
                let port = self.ports.get(usize::from(child.0));
                port.and_then(|port| port.parent).is_some_and(|(_, tag)| tag.tpid == tpid)
            };
            match child.filter(of_type) {
                None if id != 0 => return Err(DropReason::VlanUnknown),
                child => {
                    pop(burst, i)?;
                    if child.is_some() {
                        return Ok(child);
                    }
                }
            }
        }
        Err(DropReason::VlanTooDeep)
    }

    /// Puts tags on the packets that leave by VLANs, also on those that stages made.
    pub fn transmit(&self, burst: &mut Burst, cx: &mut Cx<'_>) {
        if self.ports.is_empty() {
            return;
        }
        let is_vlan =
            |verdict: Verdict| matches!(verdict, Verdict::Transmit(port) if self.parent(port).is_some());
        if burst.unanimous().is_none_or(is_vlan) {
            for i in 0..burst.len() {
                if is_vlan(burst.verdict(i)) {
                    self.tag(burst, i);
                }
            }
            burst.agree();
        }
        cx.each_made(|bytes, verdict| self.tag_made(bytes, verdict));
    }

    fn parent(&self, port: PortId) -> Option<(PortId, VlanTag)> {
        self.ports.get(usize::from(port.0)).and_then(|port| port.parent)
    }

    fn tag(&self, burst: &mut Burst, i: usize) {
        for _ in 0..DEPTH {
            let Verdict::Transmit(port) = burst.verdict(i) else { return };
            let Some((parent, tag)) = self.parent(port) else { return };
            match push(burst, i, tag) {
                Ok(()) => burst.decide(i, Verdict::Transmit(parent)),
                Err(reason) => burst.decide(i, Verdict::Drop(reason)),
            }
        }
    }

    /// As [`Self::tag`], for a packet that a stage made.
    fn tag_made(&self, made: &mut Made<'_>, verdict: Verdict) -> Verdict {
        let mut verdict = verdict;
        for _ in 0..DEPTH {
            let Verdict::Transmit(port) = verdict else { return verdict };
            let Some((parent, tag)) = self.parent(port) else { return verdict };
            verdict = match made.prepend(TAG_LEN).map(|bytes| ethernet::push_tag(bytes, tag)) {
                Some(Ok(())) => Verdict::Transmit(parent),
                Some(Err(_)) => Verdict::Drop(DropReason::EthernetTruncated),
                None => Verdict::Drop(DropReason::NoHeadroom),
            };
        }
        verdict
    }
}

/// A tag in words.
pub(crate) fn named(tag: VlanTag) -> String {
    let provider = if tag.tpid == ether_type::QINQ { "802.1ad " } else { "" };
    let priority = if tag.priority() == 0 { String::new() } else { format!(", priority {}", tag.priority()) };
    format!("{provider}{}{priority}", tag.id())
}

#[cfg(test)]
mod tests;
