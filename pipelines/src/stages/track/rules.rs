//! What tracking goes by, compiled.

use super::states::State;
use super::tcp::TcpRules;
use super::timeouts::{TcpTimeouts, Timeouts};
use crate::tables::flow::{Hot, Limits, bit};
use zsync_packet::header::protocol;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Of TCP.
    pub tcp: TcpRules,
    /// How long other flows live without a packet.
    pub timeouts: Timeouts,
    /// What new flows must keep within.
    pub limits: Limits,
    /// Packets that belong to no connection that could be here are dropped, not only called invalid.
    pub drop_invalid: bool,
}

impl Default for Rules {
    /// nf_conntrack's, and invalid packets are dropped.
    fn default() -> Self {
        let tcp = TcpRules {
            loose: true,
            liberal: false,
            windows: true,
            max_retransmits: 3,
            timeouts: TcpTimeouts::default(),
        };
        let limits = Limits { half_open: u32::MAX, per_source: 0 };
        Self { tcp, timeouts: Timeouts::default(), limits, drop_invalid: true }
    }
}

impl Rules {
    /// How long a flow lives after a packet, as far as its record tells.
    pub(super) fn timeout(&self, hot: Hot<'_>) -> u64 {
        match hot.key().protocol() {
            protocol::TCP => self.tcp.timeouts.of(State::from_number((hot.bits() & 15) as u8)),
            protocol::UDP | protocol::UDP_LITE if hot.bits() & bit::ASSURED != 0 => self.timeouts.udp_stream,
            protocol::UDP | protocol::UDP_LITE => self.timeouts.udp,
            protocol::ICMP | protocol::ICMPV6 => self.timeouts.icmp,
            _ => self.timeouts.generic,
        }
    }
}
