//! The words of answers: states, modes and the like, each spelled in JSON as people see it.

use serde::{Deserialize, Serialize};

macro_rules! word {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant:meta])* $word:ident = $text:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
            pub enum $name { $($(#[$variant])* #[serde(rename = $text)] $word,)* }

            impl $name {
                /// The word, as in JSON.
                #[must_use]
                pub fn as_str(self) -> &'static str {
                    match self { $(Self::$word => $text,)* }
                }
            }
        )*
    };
}

word! {
    /// What the data plane does.
    DataplaneState {
        /// Its first start is under way.
        #[default]
        Starting = "starting",
        /// It forwards.
        Running = "running",
        /// It died, and its successor is being started.
        Respawned = "respawned",
        /// None came back within the grace time: the ports do as their `failover` says.
        FailedOver = "failed-over",
    }
    /// How sockets are bound.
    SocketMode {
        /// The kernel copies each packet.
        #[default]
        Copy = "copy",
        /// The NIC reads and writes packet memory.
        ZeroCopy = "zero-copy",
        /// They are packet sockets, without AF_XDP: the kernel copies each packet.
        Packet = "packet",
        /// There is none: packets are read from a TUN device, and written to it.
        Tun = "tun",
        /// The same of a TAP device: frames.
        Tap = "tap",
        /// There is none: packets are datagrams of a UDP socket.
        Udp = "udp",
        /// The same, by io_uring.
        UdpRing = "udp-ring",
    }
    /// What the kernel leaves to the data plane at a TUN or TAP device.
    Offload {
        /// Nothing: each packet is one, and has its checksums.
        #[default]
        None = "none",
        /// Checksums, and TCP segments that stand for several.
        Tcp = "tcp",
        /// The same, and UDP datagrams.
        TcpUdp = "tcp-udp",
    }
    /// Where the XDP program runs.
    XdpMode {
        /// In the driver.
        #[default]
        Native = "native",
        /// In the kernel's stack, after the skb was made.
        Generic = "generic",
        /// There is none.
        None = "none",
    }
    /// Who has a port's packets.
    FailoverState {
        /// The data plane.
        #[default]
        Serving = "serving",
        /// Nobody, for less than the grace time: they wait in the RX ring.
        Waiting = "waiting",
        /// The kernel.
        Open = "open",
        /// Nobody: the XDP program drops them.
        Closed = "closed",
    }
    /// What a worker does.
    WorkerState {
        /// Not in its loop yet.
        #[default]
        Starting = "starting",
        /// In its loop.
        Running = "running",
        /// Blocked until something arrives.
        Parked = "parked",
        /// Out of its loop, for good.
        Stopped = "stopped",
        /// Its state is no state.
        Unknown = "unknown",
    }
    /// Whether a backend gets flows.
    BackendState {
        /// It does.
        #[default]
        Up = "up",
        /// No new ones: its checks fail.
        Down = "down",
        /// No new ones: it is drained, or has no weight.
        Drained = "drained",
        /// No new ones: it left the configuration.
        Leaving = "leaving",
    }
    /// What is done with the packets of a route.
    RouteTarget {
        /// Forwarded over its hops.
        Forward = "forward",
        /// Given to the kernel, which decides.
        #[default]
        Kernel = "kernel",
        /// Given to the kernel: an address of this host.
        Local = "local",
        /// Dropped without a word.
        Blackhole = "blackhole",
        /// Dropped, and the sender is told that the host is unreachable.
        Unreachable = "unreachable",
        /// Dropped, and the sender is told that it is forbidden.
        Prohibit = "prohibit",
    }
    /// What became of a configuration.
    HistoryState {
        /// In force.
        #[default]
        Running = "running",
        /// In force, and taken back unless it is confirmed.
        Pending = "pending",
        /// Another one took its place.
        Superseded = "superseded",
        /// Taken back, since nobody confirmed it.
        Reverted = "reverted",
    }
}
