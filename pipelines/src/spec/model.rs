//! The configuration after all checks: plain values, every name resolved.
//!
//! A [`Spec`] that came from [`parse`](super::parse) keeps these promises: names are unique, a [`PortId`] is an index into
//! the ports sorted by name, every `PortId` in it belongs to one of its ports, a port is the input of at most one
//! pipeline, a pipeline has an input and ends in a stage that decides about every packet, and a patch knows an output for
//! each input. It is passed between processes and compared, so it holds no place in a file and no default left to fill in.

mod stage_spec;

pub use stage_spec::StageSpec;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::{Prefix, Service};
use super::tun::TunSpec;
use super::udp::UdpSpec;
use super::vlan::VlanPort;

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// What all ports share.
    pub engine: Engine,
    /// The control process itself.
    pub control: Control,
    /// In the order of the file; at most 64.
    pub ports: Vec<Port>,
    /// VLANs that are ports, in order of their numbers, which follow those of the ports with a device; 64 ports in all.
    #[serde(default)]
    pub vlans: Vec<VlanPort>,
    /// In the order of the file; at most 64.
    pub pipelines: Vec<Pipeline>,
}

/// Of [`Spec::to_bytes`]: another number with any change of what a `Spec` holds.
const FORMAT: u32 = 0x7a73_0002;

/// Bytes that are no configuration, or not one of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no configuration of this version: {0}")]
pub struct NotASpec(String);

impl Spec {
    /// As bytes that no person reads and only this version does: a quarter of the text, in a tenth of the time.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Whatever a `Spec` holds can be written, and memory takes it.
        postcard::to_stdvec(&(FORMAT, self)).unwrap_or_default()
    }

    /// What [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// Nothing of this version wrote the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotASpec> {
        let wrong = |error: postcard::Error| NotASpec(error.to_string());
        let (format, bytes) = postcard::take_from_bytes::<u32>(bytes).map_err(wrong)?;
        if format != FORMAT {
            return Err(NotASpec(format!("they are in format {format}, and this is {FORMAT}")));
        }
        match postcard::take_from_bytes(bytes) {
            Ok((spec, [])) => Ok(spec),
            Ok((_, rest)) => Err(NotASpec(format!("{} more bytes follow", rest.len()))),
            Err(error) => Err(wrong(error)),
        }
    }

    /// The port of that name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// The port with that id.
    #[must_use]
    pub fn port_by_id(&self, id: PortId) -> Option<&Port> {
        self.ports.iter().find(|port| port.id == id)
    }

    /// Ports there are, with a device or as a VLAN of one.
    #[must_use]
    pub fn port_count(&self) -> usize {
        self.ports.len() + self.vlans.len()
    }

    /// The name of the port with that id, with a device or as a VLAN of one; empty when there is none.
    #[must_use]
    pub fn port_name(&self, id: PortId) -> &str {
        let vlan = || self.vlans.iter().find(|vlan| vlan.id == id).map(|vlan| vlan.name.as_str());
        self.port_by_id(id).map(|port| port.name.as_str()).or_else(vlan).unwrap_or("")
    }

    /// The port with a device by which the packets of port `id` come and go; itself, when it has one.
    #[must_use]
    pub fn device_of(&self, id: PortId) -> PortId {
        let parent = |id| self.vlans.iter().find(|vlan| vlan.id == id).map(|vlan| vlan.parent);
        let outer = parent(id).unwrap_or(id);
        parent(outer).unwrap_or(outer)
    }

    /// Whether a pipeline takes frames from port `id`, or from one of its VLANs, and not IP packets.
    #[must_use]
    pub fn is_wire(&self, id: PortId) -> bool {
        let takes = |of: &Pipeline| of.inputs.iter().any(|input| self.device_of(*input) == id);
        self.pipelines.iter().any(|pipeline| pipeline.layer() == Layer::L2 && takes(pipeline))
    }

    /// Whether port `id` is a TAP device that is a wire: the host is a station at its end, as others may be beyond.
    #[must_use]
    pub fn is_end_of_wire(&self, id: PortId) -> bool {
        self.port_by_id(id).is_some_and(|port| port.device == Device::Tap) && self.is_wire(id)
    }

    /// Whether some stage looks at the transport: then all pipelines parse as far as that.
    #[must_use]
    pub fn is_deep(&self) -> bool {
        self.pipelines.iter().flat_map(|pipeline| &pipeline.stages).any(|stage| stage.spec.is_deep())
    }

    /// The pipeline that a port's packets enter; none when they all go to the kernel.
    #[must_use]
    pub fn pipeline_of(&self, input: PortId) -> Option<&Pipeline> {
        self.pipelines.iter().find(|pipeline| pipeline.inputs.contains(&input))
    }
}

/// `[engine]`: workers and packet memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// How many workers, or where.
    pub workers: Workers,
    /// What a worker does when there are no packets.
    pub idle: Idle,
    /// Bytes of a frame: 2048 or 4096.
    pub frame_size: u32,
    /// Frames of packet memory: 1024..=4194304.
    pub frames: Amount,
    /// Account that the data plane runs as; never root.
    pub user: String,
    /// Whether packet memory is on huge pages.
    pub huge_pages: HugePages,
}

/// `[control]`: who may use the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Group whose members may change things.
    pub admin_group: String,
    /// Group whose members may look.
    pub read_group: String,
}

/// A port's number: its index among the ports sorted by name, so that the order in the file does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PortId(pub u16);

/// `[port.NAME]`: a network device whose packets come to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Index among the ports sorted by name.
    pub id: PortId,
    /// Name in the configuration.
    pub name: String,
    /// Name of the kernel's network device; empty: the port has none.
    pub netdev: String,
    /// How many of its queues are served: 1..=64.
    pub queues: Amount,
    /// Which packets the XDP program takes from the kernel.
    pub steer: Steer,
    /// Source addresses that the XDP program drops.
    pub block: Vec<Prefix>,
    /// The operator's XDP programs, which run ahead of ours in this order; at most 8.
    pub xdp: Vec<XdpProgram>,
    /// What becomes of the packets while no data plane runs.
    pub failover: Failover,
    /// How long a data plane may be away before `failover` happens: 10 ms..=60 s.
    pub grace: Duration,
    /// How the sockets are bound to the device.
    pub mode: Mode,
    /// Descriptors in each ring of a socket: a power of two, 64..=32768.
    pub ring_size: u32,
    /// Whether the sockets prefer busy polling.
    pub busy_poll: bool,
    /// Whether to take the place of another XDP program.
    pub replace: bool,
    /// Whether the device takes packets for any MAC address.
    pub promiscuous: bool,
    /// What its packets come and go by.
    pub device: Device,
    /// It is a TUN or TAP device that is made for it, like this.
    pub tun: Option<TunSpec>,
    /// It is a UDP socket, like this, and no device.
    pub udp: Option<UdpSpec>,
}

impl Port {
    /// Whether it is a device of the kernel's, whose packets are taken from the kernel.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self.device, Device::Xdp | Device::Auto | Device::UringPacket)
    }

    /// Whether XDP takes its packets, or may do so, into sockets with rings.
    #[must_use]
    pub fn has_rings(&self) -> bool {
        matches!(self.device, Device::Xdp | Device::Auto)
    }
}

/// An XDP program of the operator's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct XdpProgram {
    /// The object file, as it is written: a relative path is seen from the folder of the configuration.
    pub object: String,
    /// The program in it.
    pub program: String,
    /// Values of the program's global variables.
    pub params: BTreeMap<String, u64>,
}

/// `[pipeline.NAME]`: what is done with the packets of some ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Name in the configuration.
    pub name: String,
    /// The ports whose packets enter; never empty.
    pub inputs: Vec<PortId>,
    /// In the order that packets take; never empty.
    pub stages: Vec<Stage>,
}

impl Pipeline {
    /// What the pipeline looks at: frames as such when it patches ports together or begins with putting frames into a tunnel,
    /// else IP packets.
    #[must_use]
    pub fn layer(&self) -> Layer {
        let patched = self.stages.iter().any(|stage| matches!(stage.spec, StageSpec::Patch { .. }));
        let first = self.stages.iter().find_map(|stage| stage.spec.layer());
        if patched || first == Some(Layer::L2) { Layer::L2 } else { Layer::L3 }
    }
}

/// What a pipeline looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Ethernet frames.
    L2,
    /// IP packets.
    L3,
}

/// One stage of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// As the pipeline refers to it: `route.main`, `drop`.
    pub label: String,
    /// What it does.
    pub spec: StageSpec,
}

/// As many as fit, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Amount {
    /// zsync chooses.
    Auto,
    /// This many.
    Exact(u32),
}

/// How many workers, or on which cores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workers {
    /// zsync chooses number and cores.
    Auto,
    /// This many, on cores that zsync chooses: 1..=32.
    Count(u32),
    /// One on each of these cores; 1..=32 of them, each once.
    Cores(Vec<u32>),
}

/// Which packets the XDP program takes from the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Steer {
    /// All of them.
    All,
    /// Those to a destination address in one of these; never empty.
    Prefixes(Vec<Prefix>),
    /// Those to one of these services; never empty.
    Services(Vec<Service>),
}

/// A choice between words.
pub(crate) trait Words: Copy {
    /// What stands in when the choice itself was wrong.
    const FIRST: Self;
    fn from_word(word: &str) -> Option<Self>;
}

macro_rules! words {
    ($($(#[$about:meta])* $name:ident { $(#[$first_about:meta])* $first:ident = $first_word:literal,
        $($(#[$each:meta])* $variant:ident = $word:literal,)* })+) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $(#[$first_about])* #[serde(rename = $first_word)] $first,
            $($(#[$each])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// The words that a configuration may choose from.
            pub const WORDS: &[&str] = &[$first_word, $($word),*];

            /// The word that a configuration has for it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { Self::$first => $first_word, $(Self::$variant => $word),* }
            }
        }

        impl Words for $name {
            const FIRST: Self = Self::$first;

            fn from_word(word: &str) -> Option<Self> {
                match word { $first_word => Some(Self::$first), $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    )+};
}

words! {
    /// What a worker does when there are no packets.
    Idle {
        /// Polls on; takes a whole core, answers soonest.
        Spin = "spin",
        /// Polls a while, then sleeps until a packet comes.
        Adaptive = "adaptive",
        /// Sleeps at once.
        Block = "block",
    }

    /// Whether packet memory is on huge pages.
    HugePages {
        /// When there are any.
        Auto = "auto",
        /// Refuse to start without.
        Require = "require",
        /// Plain pages.
        Never = "never",
    }

    /// What the packets of a port come and go by.
    Device {
        /// A device of the kernel's: XDP takes them, into AF_XDP sockets.
        Xdp = "xdp",
        /// The same where that works, else as `uring-packet`.
        Auto = "auto",
        /// A device of the kernel's: packet sockets take them (AF_PACKET).
        UringPacket = "uring-packet",
        /// A TUN device that is made for the port.
        Tun = "tun",
        /// A TAP device that is made for the port: the same with frames.
        Tap = "tap",
        /// A UDP socket.
        Udp = "udp",
    }

    /// What becomes of a port's packets while no data plane runs.
    Failover {
        /// The kernel takes them.
        Open = "open",
        /// The XDP program drops them.
        Closed = "closed",
    }

    /// How the sockets of a port are bound to the device.
    Mode {
        /// The best of the others that works.
        Auto = "auto",
        /// The NIC reads and writes packet memory itself.
        ZeroCopy = "zero-copy",
        /// The driver runs the XDP program, the kernel copies the packet.
        Copy = "copy",
        /// The kernel runs the XDP program after the driver; works on any device.
        Generic = "generic",
    }
}
