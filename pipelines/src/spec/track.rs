//! `[track.NAME]`: connection tracking.

use super::canonical::{Rows, Text as Written, amount, one, word};
use super::datum::Fields;
use super::keys::{Key, Reach};
use super::kind::Kind;
use super::model::Amount;
use super::quantity::show_duration;
use crate::stages::track::Rules;
use crate::stages::track::tcp::TcpRules;
use crate::stages::track::timeouts::{TcpTimeouts, Timeouts};
use crate::tables::flow::{FlowSpace, Limits};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a `track` stage is told. All pipelines that name the same stage share its table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackSpec {
    /// Flows, of all workers together.
    pub capacity: u32,
    /// Of these, how many can be translated; automatic: as many as there are flows.
    pub translations: Amount,
    /// Half-open TCP connections, of all workers together; automatic: an eighth of the flows.
    pub half_open: Amount,
    /// Flows of one source on one worker; 0: any number.
    pub per_source: u32,
    /// Packets that belong to no connection that could be here are dropped.
    pub drop_invalid: bool,
    /// TCP connections are picked up in their midst.
    pub loose: bool,
    /// TCP segments outside the window pass.
    pub liberal: bool,
    /// TCP segments are held against the window at all.
    pub windows: bool,
    /// How long flows live without a packet, in the order of the keys: see [`TrackSpec::TIMEOUTS`].
    pub timeouts: [Duration; 14],
}

const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
const PERIOD: Kind = Kind::Period { min: Duration::from_secs(1), max: LONGEST };
const MAX_FLOWS: u64 = 1 << 26;

macro_rules! timeouts {
    ($($name:literal = $default:literal, $about:literal;)+) => {
        impl TrackSpec {
            /// The keys of the timeouts.
            pub const TIMEOUTS: [&'static str; 14] = [$($name),+];
        }

        /// All keys of a `track` stage.
        pub(crate) const KEYS: &[Key] = &[
            Key {
                name: "capacity",
                kind: Kind::Whole { min: 64, max: MAX_FLOWS },
                default: Some("262144"),
                reach: Reach::Live,
                about: "Flows that can be tracked, of all workers together: up to 128 bytes each. A change begins with an empty table.",
            },
            Key {
                name: "translations",
                kind: Kind::Either(&[Kind::Word(&["auto"]), Kind::Whole { min: 0, max: MAX_FLOWS }]),
                default: Some("\"auto\""),
                reach: Reach::Live,
                about: "Flows that nat or balance can translate: 80 bytes more each. \"auto\": all. A change begins with an empty table.",
            },
            Key {
                name: "half-open",
                kind: Kind::Either(&[Kind::Word(&["auto"]), Kind::Whole { min: 1, max: MAX_FLOWS }]),
                default: Some("\"auto\""),
                reach: Reach::Live,
                about: "TCP connections in their handshake; beyond that the oldest goes. \"auto\", and at most: an eighth of `capacity`.",
            },
            Key {
                name: "per-source",
                kind: Kind::Whole { min: 0, max: MAX_FLOWS },
                default: Some("0"),
                reach: Reach::Live,
                about: "Flows that one source, an IPv4 address or an IPv6 /64, may have on one worker; 0 is any number.",
            },
            Key {
                name: "drop-invalid",
                kind: Kind::Switch,
                default: Some("true"),
                reach: Reach::Live,
                about: "Drop packets that belong to no connection that could be here. If not, they pass as \"invalid\", for a filter to decide.",
            },
            Key {
                name: "loose",
                kind: Kind::Switch,
                default: Some("true"),
                reach: Reach::Live,
                about: "Pick TCP connections up whose handshake was not seen.",
            },
            Key {
                name: "liberal",
                kind: Kind::Switch,
                default: Some("false"),
                reach: Reach::Live,
                about: "Let TCP segments outside the window pass.",
            },
            Key {
                name: "windows",
                kind: Kind::Switch,
                default: Some("true"),
                reach: Reach::Live,
                about: "Hold TCP segments against the window at all.",
            },
            $(Key {
                name: $name,
                kind: PERIOD,
                default: Some(concat!("\"", $default, "\"")),
                reach: Reach::Live,
                about: concat!("How long a flow lives without a packet: ", $about),
            },)+
        ];
    };
}

timeouts! {
    "tcp-syn-sent" = "120s", "TCP, after the first SYN.";
    "tcp-syn-received" = "60s", "TCP, after SYN and ACK.";
    "tcp-established" = "5d", "TCP, open.";
    "tcp-fin-wait" = "120s", "TCP, after the first FIN.";
    "tcp-close-wait" = "60s", "TCP, after the ACK of the first FIN.";
    "tcp-last-ack" = "30s", "TCP, after the second FIN.";
    "tcp-time-wait" = "120s", "TCP, after the ACK of the second FIN.";
    "tcp-close" = "10s", "TCP, after RST.";
    "tcp-retransmission" = "300s", "TCP, at most, when the same segment comes again and again.";
    "tcp-unacknowledged" = "300s", "TCP, at most, while data is not acknowledged.";
    "udp" = "30s", "UDP, not answered, or not for two seconds yet.";
    "udp-stream" = "120s", "UDP that goes both ways for two seconds.";
    "icmp" = "30s", "ICMP and ICMPv6 queries.";
    "other" = "600s", "all other protocols.";
}

/// Reads the table.
pub(crate) fn build(fields: &Fields) -> TrackSpec {
    TrackSpec {
        capacity: fields.number("capacity"),
        translations: fields.amount("translations"),
        half_open: fields.amount("half-open"),
        per_source: fields.number("per-source"),
        drop_invalid: fields.switch("drop-invalid"),
        loose: fields.switch("loose"),
        liberal: fields.switch("liberal"),
        windows: fields.switch("windows"),
        timeouts: TrackSpec::TIMEOUTS.map(|key| fields.period(key)),
    }
}

/// Writes the table.
pub(crate) fn rows(spec: &TrackSpec) -> Rows {
    let mut rows: Vec<(&'static str, Written)> = vec![
        ("capacity", one(spec.capacity)),
        ("translations", amount(spec.translations)),
        ("half-open", amount(spec.half_open)),
        ("per-source", one(spec.per_source)),
        ("drop-invalid", one(spec.drop_invalid)),
        ("loose", one(spec.loose)),
        ("liberal", one(spec.liberal)),
        ("windows", one(spec.windows)),
    ];
    let timeouts = TrackSpec::TIMEOUTS.into_iter().zip(spec.timeouts);
    rows.extend(timeouts.map(|(key, timeout)| (key, word(show_duration(timeout)))));
    rows
}

impl TrackSpec {
    /// The room of one of `workers` tables.
    #[must_use]
    pub fn space(&self, workers: usize) -> FlowSpace {
        let translations = match self.translations {
            Amount::Auto => self.capacity,
            Amount::Exact(translations) => translations.min(self.capacity),
        };
        FlowSpace { flows: share(self.capacity, workers).max(1), translations: share(translations, workers) }
    }

    /// What one of `workers` stages goes by.
    #[must_use]
    pub fn rules(&self, workers: usize) -> Rules {
        let most = self.space(workers).most_half_open();
        let half_open = match self.half_open {
            Amount::Auto => most,
            Amount::Exact(half_open) => share(half_open, workers).clamp(1, most),
        };
        let ns = self.timeouts.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let [
            syn_sent,
            syn_received,
            established,
            fin_wait,
            close_wait,
            last_ack,
            time_wait,
            close,
            retransmission,
            unacknowledged,
            udp,
            udp_stream,
            icmp,
            generic,
        ] = ns;
        let tcp = TcpTimeouts {
            syn_sent,
            syn_received,
            established,
            fin_wait,
            close_wait,
            last_ack,
            time_wait,
            close,
            retransmission,
            unacknowledged,
        };
        let (loose, liberal, windows) = (self.loose, self.liberal, self.windows);
        Rules {
            tcp: TcpRules { loose, liberal, windows, max_retransmits: 3, timeouts: tcp },
            timeouts: Timeouts { udp, udp_stream, icmp, generic },
            limits: Limits { half_open, per_source: self.per_source },
            drop_invalid: self.drop_invalid,
        }
    }
}

/// One worker's share.
fn share(of: u32, workers: usize) -> u32 {
    of.div_ceil(u32::try_from(workers).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{StageSpec, parse};

    const PORTS: &str = "[port.wan]\nnetdev = \"eth1\"\n[port.lan]\nnetdev = \"eth2\"\n";

    fn track(label: &str, table: &str) -> Result<TrackSpec, usize> {
        let source = format!(
            "{PORTS}[pipeline.edge]\ninput = [\"wan\", \"lan\"]\nstages = [\"{label}\", \"route\"]\n{table}"
        );
        let parsed = parse(&source, "edge.toml").map_err(|errors| errors.len())?;
        match &parsed.spec.pipelines[0].stages[0].spec {
            StageSpec::Track(spec) => Ok(spec.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bare_stage_tracks_as_nf_conntrack_does() {
        let spec = track("track", "").unwrap();
        let rules = Rules { limits: Limits { half_open: 32_768, per_source: 0 }, ..Rules::default() };
        assert_eq!(spec.rules(1), rules);
        assert_eq!(spec.space(1), FlowSpace { flows: 262_144, translations: 262_144 });
        assert_eq!(spec.space(4), FlowSpace { flows: 65_536, translations: 65_536 });
        assert_eq!(spec.rules(4).limits.half_open, 8192);
    }

    #[test]
    fn what_is_set_is_read_and_what_is_wrong_is_told() {
        let table = "[track.main]\ncapacity = 1000\ntranslations = 10\nhalf-open = 50\nper-source = 7\nloose = false\n\
            udp-stream = \"3m\"\ntcp-established = \"2h\"\nother = \"1d\"\n";
        let spec = track("track.main", table).unwrap();
        let rules = spec.rules(1);
        assert_eq!(spec.space(1), FlowSpace { flows: 1000, translations: 10 });
        assert_eq!(rules.limits, Limits { half_open: 50, per_source: 7 });
        let seconds = [rules.tcp.timeouts.established, rules.timeouts.udp_stream, rules.timeouts.generic];
        assert_eq!(seconds.map(|ns| ns / 1_000_000_000), [7200, 180, 86_400]);
        assert!(!rules.tcp.loose && rules.tcp.windows);
        let wrong = "[track.main]\ncapacity = 3\nudp = \"0s\"\ntcp-establishd = \"1s\"\nloose = 1\n";
        assert_eq!(track("track.main", wrong), Err(4));
    }
}
