//! How long a flow lives without a packet: nf_conntrack's defaults, each to be set.
//!
//! Owns the figures of nf_conntrack_proto_{tcp,udp,icmp,icmpv6,generic}.c (Linux 6.1), in nanoseconds.

use super::states::State;

const SECOND: u64 = 1_000_000_000;

/// Of TCP connections, by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpTimeouts {
    /// After the first SYN, and when both ends sent one.
    pub syn_sent: u64,
    /// After SYN and ACK.
    pub syn_received: u64,
    /// Open.
    pub established: u64,
    /// After the first FIN.
    pub fin_wait: u64,
    /// After its ACK.
    pub close_wait: u64,
    /// After the second FIN.
    pub last_ack: u64,
    /// After its ACK.
    pub time_wait: u64,
    /// After RST.
    pub close: u64,
    /// At most, when the same segment came again and again, or the window is closed.
    pub retransmission: u64,
    /// At most, as long as data is not acknowledged, and for what was picked up and never answered.
    pub unacknowledged: u64,
}

impl Default for TcpTimeouts {
    fn default() -> Self {
        Self {
            syn_sent: 120 * SECOND,
            syn_received: 60 * SECOND,
            established: 5 * 24 * 3600 * SECOND,
            fin_wait: 120 * SECOND,
            close_wait: 60 * SECOND,
            last_ack: 30 * SECOND,
            time_wait: 120 * SECOND,
            close: 10 * SECOND,
            retransmission: 300 * SECOND,
            unacknowledged: 300 * SECOND,
        }
    }
}

impl TcpTimeouts {
    /// That of a state.
    #[inline]
    pub fn of(&self, state: State) -> u64 {
        match state {
            State::Established => self.established,
            State::None | State::SynSent | State::SynSent2 => self.syn_sent,
            State::SynReceived => self.syn_received,
            State::FinWait => self.fin_wait,
            State::CloseWait => self.close_wait,
            State::LastAck => self.last_ack,
            State::TimeWait => self.time_wait,
            State::Close => self.close,
        }
    }
}

/// Of all flows but those of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// UDP that was not answered, or not for two seconds yet.
    pub udp: u64,
    /// UDP that goes both ways for two seconds or more.
    pub udp_stream: u64,
    /// Queries by ICMP and ICMPv6.
    pub icmp: u64,
    /// All else.
    pub generic: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { udp: 30 * SECOND, udp_stream: 120 * SECOND, icmp: 30 * SECOND, generic: 600 * SECOND }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_nf_conntracks() {
        let tcp = TcpTimeouts::default();
        let seconds: Vec<u64> = State::ALL.iter().map(|state| tcp.of(*state) / SECOND).collect();
        assert_eq!(seconds, [120, 120, 60, 432_000, 120, 60, 30, 120, 10, 120]);
        assert_eq!((tcp.retransmission, tcp.unacknowledged), (300 * SECOND, 300 * SECOND));
        let Timeouts { udp, udp_stream, icmp, generic } = Timeouts::default();
        assert_eq!([udp, udp_stream, icmp, generic].map(|ns| ns / SECOND), [30, 120, 30, 600]);
    }
}
