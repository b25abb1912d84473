//! What `show flows` shows: the connections of `track` stages, from the memory that the workers write.
//!
//! Only reads. Keeps true: what is shown of a connection was true of it; one that changes hands meanwhile is left out.

use super::core::{Daemon, ReplyTo};
use super::looks::slices;
use super::supervisor::monotonic;
use crate::api::{Answer, ApiError, Code, FlowRow, FlowTable, Flows, RouteFilter, Show};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use zsync_packet::header::protocol;
use zsync_pipelines::plan::{Work, plan};
use zsync_pipelines::spec::{Spec, StageSpec, TrackSpec};
use zsync_pipelines::stages::track::view;
use zsync_pipelines::tables::flow::{Counts, FlowView, Shown};

/// One worker's table.
#[derive(Debug)]
struct Table {
    stage: String,
    worker: u32,
    view: FlowView,
}

/// Which connections are asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    address: Option<RouteFilter>,
    rows: usize,
}

impl Daemon {
    /// Answers `show flows`.
    pub(super) fn show_flows(&self, show: &Show, reply: ReplyTo) {
        let workers = self.installation.layout.workers.len();
        let tracks = tracks(&self.config.spec, workers);
        let asked = ends_asked_for(show).and_then(|address| {
            known(show, "track", tracks.keys().copied())?;
            Ok(Asked { address, rows: show.rows() })
        });
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let mut tables = Vec::new();
        for (label, spec) in tracks {
            let Some(state) = self.states.state(label).filter(|_| is_asked(show, label)) else { continue };
            let views =
                (0..state.workers()).filter_map(|worker| Some((worker, view::view(spec, state, worker)?)));
            let table = |(worker, view)| Table { stage: label.to_owned(), worker: worker as u32, view };
            tables.extend(views.map(table));
        }
        self.looks.answer(reply, gather(tables, asked));
    }
}

/// The `track` stages, those too that the configuration does not name, by label.
fn tracks(spec: &Spec, workers: usize) -> BTreeMap<&str, &TrackSpec> {
    let places = plan(spec, workers).into_iter().flatten();
    places
        .filter_map(|place| match place.work {
            Work::Stage(StageSpec::Track(spec)) => Some((place.label, spec)),
            _ => None,
        })
        .collect()
}

/// The ends that are asked for.
pub(super) fn ends_asked_for(show: &Show) -> Result<Option<RouteFilter>, ApiError> {
    let parse = |text: &String| RouteFilter::parse(text).map_err(|what| ApiError::new(Code::BadParams, what));
    show.address.as_ref().map(parse).transpose()
}

/// Whether this stage is asked for.
pub(super) fn is_asked(show: &Show, label: &str) -> bool {
    show.stage.as_ref().is_none_or(|stage| stage == label)
}

/// Refuses a stage that there is not.
pub(super) fn known<'s>(
    show: &Show,
    kind: &str,
    labels: impl Iterator<Item = &'s str>,
) -> Result<(), ApiError> {
    let labels: Vec<&str> = labels.collect();
    match &show.stage {
        Some(stage) if !labels.contains(&stage.as_str()) => {
            let message = format!("there is no `{kind}` stage `{stage}`");
            Err(ApiError::unknown(Code::BadParams, message, stage, &labels))
        }
        _ => Ok(()),
    }
}

async fn gather(tables: Vec<Table>, asked: Asked) -> Answer {
    let mut answer = Flows::default();
    for Table { stage, worker, view } in &tables {
        note(&mut answer.tables, stage, view);
        slices(view.end(), |ids| {
            let now = monotonic();
            for flow in ids.filter_map(|id| view.flow(id)).filter(|flow| flow.life > now) {
                if !asked.address.is_none_or(|filter| touches(&flow, filter)) {
                    continue;
                }
                answer.matched += 1;
                if answer.flows.len() < asked.rows {
                    answer.flows.push(row(stage, *worker, &flow, now));
                }
            }
        })
        .await;
    }
    Answer::Flows(answer)
}

/// Adds a worker's table to its stage's.
fn note(tables: &mut Vec<FlowTable>, stage: &str, view: &FlowView) {
    if tables.last().is_none_or(|last| last.stage != stage) {
        tables.push(FlowTable { stage: stage.to_owned(), ..FlowTable::default() });
    }
    let Some(table) = tables.last_mut() else { return };
    let counts = view.counts();
    table.flows += u64::from(counts.flows);
    table.limit += u64::from(view.space().flows);
    table.weak += u64::from(counts.weak);
    table.half_open += u64::from(counts.half_open);
    table.translated += u64::from(counts.translations);
    for (event, count) in events(&counts).into_iter().filter(|(_, count)| *count > 0) {
        let sum = table.events.entry(event.to_owned()).or_default();
        *sum = sum.saturating_add(count);
    }
}

fn events(counts: &Counts) -> [(&'static str, u64); 8] {
    [
        ("expired", counts.expired),
        ("evicted-expired", counts.evicted_expired),
        ("evicted-weak", counts.evicted_weak),
        ("evicted-established", counts.evicted_established),
        ("evicted-half-open", counts.evicted_half_open),
        ("refused-full", counts.refused_full),
        ("refused-source", counts.refused_source),
        ("refused-half-open", counts.refused_half_open),
    ]
}

fn touches(flow: &Shown, filter: RouteFilter) -> bool {
    [flow.original, flow.reply].iter().any(|key| filter.has(key.source()) || filter.has(key.destination()))
}

fn row(stage: &str, worker: u32, flow: &Shown, now: u64) -> FlowRow {
    let (original, reply) = (&flow.original, &flow.reply);
    let number = original.protocol();
    let source = (original.source(), original.source_port());
    let destination = (original.destination(), original.destination_port());
    let (answers, to) =
        ((reply.source(), reply.source_port()), (reply.destination(), reply.destination_port()));
    let translated = match (source == to, destination == answers) {
        (true, true) => None,
        (false, true) => Some("source"),
        (true, false) => Some("destination"),
        (false, false) => Some("both"),
    };
    FlowRow {
        stage: stage.to_owned(),
        worker,
        protocol: protocol_name(number),
        from: end(source, number),
        to: end(destination, number),
        reply_from: end(answers, number),
        reply_to: end(to, number),
        translated: translated.map(str::to_owned),
        state: view::state(flow).to_owned(),
        mark: flow.mark,
        age_ms: view::began(flow).map(|began| now.saturating_sub(began) / 1_000_000),
        expires_ms: flow.life.saturating_sub(now) / 1_000_000,
    }
}

/// `tcp`, or the number of a protocol that has no name here.
pub(super) fn protocol_name(number: u8) -> String {
    let name = match number {
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::ICMP => "icmp",
        protocol::ICMPV6 => "icmpv6",
        protocol::SCTP => "sctp",
        protocol::DCCP => "dccp",
        protocol::UDP_LITE => "udplite",
        number => return number.to_string(),
    };
    name.to_owned()
}

/// An end of a connection: with its port, or the identifier of a ping, where the protocol has one.
pub(super) fn end((address, port): (IpAddr, u16), number: u8) -> String {
    match number {
        protocol::TCP
        | protocol::UDP
        | protocol::UDP_LITE
        | protocol::DCCP
        | protocol::SCTP
        | protocol::ICMP
        | protocol::ICMPV6 => SocketAddr::new(address, port).to_string(),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_packet::flow::{FlowKey, HashKey};
    use zsync_packet::region::Region;
    use zsync_pipelines::tables::flow::{FlowSpace, Flows as Table_, Limits, State, bit};

    const SPACE: FlowSpace = FlowSpace { flows: 5000, translations: 64 };

    fn key(n: u32) -> FlowKey {
        let [_, _, high, low] = n.to_be_bytes();
        if n.is_multiple_of(2) {
            FlowKey::v4(([10, 0, high, low].into(), 4000), ([192, 0, 2, 1].into(), 53), 17)
        } else {
            let client = [0xfd00, 0, 0, 0, 0, 0, 0, n as u16];
            FlowKey::v6((client.into(), 4000), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), 443), 6)
        }
    }

    fn table(flows: u32) -> (Table_, Table) {
        let region = Region::heap(SPACE.bytes());
        let table = Table_::open(region.clone(), SPACE, HashKey::from_seed(1)).unwrap();
        let life = monotonic() + 3_600_000_000_000;
        let limits = Limits { half_open: 600, per_source: 0 };
        for n in 0..flows {
            let state = State { bits: bit::WEAK, ..State::default() };
            let hash = table.hash(&key(n));
            table.create(&key(n), hash, &state, (1, life), &limits, |_| 1).unwrap();
        }
        let view = FlowView::open(region, SPACE).unwrap();
        (table, Table { stage: "track.flows".into(), worker: 0, view })
    }

    fn gathered(tables: Vec<Table>, address: Option<&str>, rows: usize) -> Flows {
        let address = address.map(|text| RouteFilter::parse(text).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match runtime.block_on(gather(tables, Asked { address, rows })) {
            Answer::Flows(flows) => flows,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_directions_of_a_translated_connection_are_shown() {
        let (flows, table) = table(3);
        let outside = FlowKey::v4(([192, 0, 2, 1].into(), 53), ([203, 0, 113, 9].into(), 1024), 17);
        let id = flows.find(&key(2), flows.hash(&key(2))).unwrap().0;
        flows.translate(id, &outside).unwrap();
        let shown = gathered(vec![table], Some("203.0.113.0/24"), 10);
        assert_eq!((shown.matched, shown.flows.len()), (1, 1));
        let row = &shown.flows[0];
        assert_eq!((row.from.as_str(), row.to.as_str()), ("10.0.0.2:4000", "192.0.2.1:53"));
        assert_eq!((row.reply_from.as_str(), row.reply_to.as_str()), ("192.0.2.1:53", "203.0.113.9:1024"));
        assert_eq!((row.protocol.as_str(), row.state.as_str()), ("udp", "unanswered"));
        assert_eq!((row.translated.as_deref(), row.stage.as_str()), (Some("source"), "track.flows"));
        assert!(row.expires_ms > 3_500_000 && row.age_ms.is_some());
        let table = &shown.tables[0];
        assert_eq!((table.flows, table.limit, table.weak, table.translated), (3, 5000, 3, 1));
    }

    #[test]
    fn rows_are_cut_and_all_are_counted() {
        let (_flows, one) = table(5000);
        let shown = gathered(vec![one], None, 7);
        assert_eq!((shown.matched, shown.flows.len()), (5000, 7));
        let row = &shown.flows[1];
        assert_eq!((row.from.as_str(), row.to.as_str()), ("[fd00::1]:4000", "[2001:db8::1]:443"));
        assert_eq!((row.translated.as_deref(), row.age_ms), (None, None));
        let (flows, first) = table(4);
        let (_flows, second) = table(4);
        flows.remove(flows.find(&key(0), flows.hash(&key(0))).unwrap().0);
        let shown = gathered(vec![first, second], Some("fd00::3"), 100);
        assert_eq!((shown.matched, shown.tables.len(), shown.tables[0].flows), (2, 1, 7));
    }

    #[test]
    fn ends_have_ports_where_there_are_any() {
        let address: IpAddr = [10, 0, 0, 1].into();
        assert_eq!(end((address, 7), 6), "10.0.0.1:7");
        assert_eq!(end(("::1".parse().unwrap(), 7), 58), "[::1]:7");
        assert_eq!((end((address, 0), 47), protocol_name(47)), ("10.0.0.1".to_owned(), "47".to_owned()));
    }
}
