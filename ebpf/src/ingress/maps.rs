//! The maps of all objects: one set per port, because each port loads the program anew.
//!
//! Their layouts and limits are in `zsync-ebpf-common`; control writes all of them but `COUNTERS`.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray},
};
use zsync_ebpf_common::{Count, MAX_BLOCK, MAX_LOCAL, MAX_PORTS, MAX_STEER, PortConfig, PortKey, XdpReason};

#[map]
pub(crate) static PORT: Array<PortConfig> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<Count> =
    PerCpuArray::with_max_entries(XdpReason::ALL.len() as u32, 0);

#[map]
pub(crate) static BLOCK4: LpmTrie<[u8; 4], u8> = LpmTrie::with_max_entries(MAX_BLOCK, 0);
#[map]
pub(crate) static BLOCK6: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(MAX_BLOCK, 0);

#[map]
pub(crate) static LOCAL4: HashMap<[u8; 4], u8> = HashMap::with_max_entries(MAX_LOCAL, 0);
#[map]
pub(crate) static LOCAL6: HashMap<[u8; 16], u8> = HashMap::with_max_entries(MAX_LOCAL, 0);

#[map]
pub(crate) static STEER4: LpmTrie<[u8; 4], u8> = LpmTrie::with_max_entries(MAX_STEER, 0);
#[map]
pub(crate) static STEER6: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(MAX_STEER, 0);
#[map]
pub(crate) static PORTS: HashMap<PortKey, u8> = HashMap::with_max_entries(MAX_PORTS, 0);

// Room left, on purpose (no code yet): a memory-mapped table of flows and their rewrites, consulted before anything else,
// whose entries carry the epoch of the snapshot that they were made under.
