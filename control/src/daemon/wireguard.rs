//! What `show wireguard` shows: ends and their peers, by the configuration and by the memory that the workers write.
//!
//! Only reads. Keeps true: what is shown of a peer was read while the record was its own; keys that are secret are not looked at,
//! but for the private one that the public one comes of.

use super::core::{Daemon, ReplyTo};
use super::flows::{is_asked, known};
use super::looks::slices;
use crate::api::{Answer, Show, Wireguard, WireguardEnd, WireguardPeer};
use std::collections::HashMap;
use zsync_packet::flow::HashKey;
use zsync_pipelines::spec::wireguard::uapi::Seen;
use zsync_pipelines::spec::wireguard::{WireguardSpec, ends};
use zsync_pipelines::state::State;
use zsync_wireguard::book::{Book, Count};
use zsync_wireguard::key::{PublicKey, Secret};
use zsync_wireguard::record::Fact;

/// An end, and its records where there are any.
#[derive(Debug)]
struct End {
    row: WireguardEnd,
    peers: Vec<(PublicKey, WireguardPeer)>,
    book: Option<Book>,
}

impl Daemon {
    /// Answers `show wireguard`.
    pub(super) fn show_wireguard(&self, show: &Show, reply: ReplyTo) {
        let specs = ends(&self.config.spec);
        let labels: Vec<String> = specs.values().map(|spec| spec.label()).collect();
        if let Err(error) = known(show, "wireguard", labels.iter().map(String::as_str)) {
            let _ = reply.send(Err(error));
            return;
        }
        let asked = specs.values().filter(|spec| is_asked(show, &spec.label()));
        let ends = asked.map(|spec| {
            let mut end = End::new(spec, self.states.state(&spec.label()));
            end.row.refused = self.wg.refused(&spec.name);
            end
        });
        let ends = ends.collect();
        self.looks.answer(reply, gather(ends, show.rows()));
    }
}

impl End {
    fn new(spec: &WireguardSpec, state: Option<&State>) -> Self {
        let public = spec.private_key.secret.as_ref().map(Secret::public);
        let book = book(spec, state);
        let peers = spec.peers.iter().map(|peer| {
            let row = WireguardPeer {
                name: spec.name.clone(),
                public_key: peer.public_key.to_string(),
                endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
                allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
                keepalive_s: peer.keepalive,
                preshared: peer.preshared.is_some(),
                ..WireguardPeer::default()
            };
            (peer.public_key, row)
        });
        let row = WireguardEnd {
            name: spec.name.clone(),
            public_key: public.map(|key| key.to_string()),
            listen_port: spec.listen_port,
            peers: spec.peers.len() as u64,
            limit: spec.max_peers.into(),
            counts: book.iter().flat_map(counts).collect(),
            ..WireguardEnd::default()
        };
        Self { row, peers: peers.collect(), book }
    }
}

async fn gather(ends: Vec<End>, rows: usize) -> Answer {
    let mut answer = Wireguard::default();
    for End { row, peers, book } in ends {
        let mut seen = HashMap::new();
        if let Some(book) = &book {
            slices(book.slots(), |slots| seen.extend(slots.filter_map(|slot| look(book, slot)))).await;
        }
        answer.matched += peers.len() as u64;
        let left = rows.saturating_sub(answer.peers.len());
        answer.peers.extend(peers.into_iter().take(left).map(|(public, peer)| match seen.get(&public) {
            None => peer,
            Some(seen) => WireguardPeer {
                endpoint: seen.endpoint.map(|endpoint| endpoint.to_string()).or(peer.endpoint),
                handshake_ms: Some(seen.handshake_ns / 1_000_000).filter(|ms| *ms > 0),
                rx_bytes: seen.rx,
                tx_bytes: seen.tx,
                ..peer
            },
        }));
        answer.ends.push(row);
    }
    Answer::Wireguard(answer)
}

/// What became of handshakes, as far as something did.
fn counts(book: &Book) -> impl Iterator<Item = (String, u64)> {
    let counts = Count::ALL.into_iter().map(|count| (count.label().to_owned(), book.counted(count)));
    counts.filter(|(_, count)| *count > 0)
}

/// The records of an end's peers, to read.
pub(super) fn book(spec: &WireguardSpec, state: Option<&State>) -> Option<Book> {
    let region = state.and_then(State::shared)?;
    // To read, nobody needs our key or the boot's secret: records say themselves whose they are.
    Book::open(region, spec.max_peers, &HashKey::from_seed(0), PublicKey([0; 32]))
}

/// The peer in a slot, and what is known of it; nothing of one that changes hands meanwhile.
pub(super) fn look(book: &Book, slot: u32) -> Option<(PublicKey, Seen)> {
    let record = book.record(slot)?;
    let tag = record.tag();
    let public = record.public();
    let seen = Seen {
        endpoint: record.endpoint().map(|endpoint| endpoint.remote),
        handshake_ns: record.fact(Fact::Handshake),
        rx: record.fact(Fact::RxBytes),
        tx: record.fact(Fact::TxBytes),
    };
    (tag != 0 && record.tag() == tag && record.public() == public).then_some((public, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_pipelines::spec::parse;
    use zsync_pipelines::state::StateSize;
    use zsync_wireguard::book::Peer;
    use zsync_wireguard::record::Endpoint;

    #[test]
    fn peers_are_shown_with_what_their_records_say() {
        let key = |byte: u8| Secret::new([byte; 32]).public();
        let source = format!(
            "[port.a]\nnetdev = \"a\"\n[pipeline.p]\ninput = [\"a\"]\nstages = [\"wireguard-open.w\", \"wireguard-seal.w\", \"route\"]\n\
             [wireguard.w]\nprivate-key-file = \"k\"\npeers = [{{ public-key = \"{}\", endpoint = \"192.0.2.1:1\", allowed-ips = [\"10.0.0.0/8\"] }}, \
             {{ public-key = \"{}\", endpoint = \"192.0.2.2:2\", allowed-ips = [\"::/0\"], keepalive = \"25s\" }}]\n",
            key(1),
            key(2)
        );
        let mut spec = parse(&source, "w.toml").unwrap().spec;
        let mut own = ends(&spec)["w"].clone();
        own.private_key.secret = Some(Secret::new([9; 32]));
        spec.pipelines.clear();

        let size = StateSize { shared: Book::bytes(own.max_peers), each: 0 };
        let state = State::heap(size, 2);
        let book =
            Book::open(state.shared().unwrap(), own.max_peers, &HashKey::from_seed(7), key(9)).unwrap();
        let preshared = Secret::new([0; 32]);
        let peer =
            |byte| Peer { public: key(byte), preshared: preshared.clone(), endpoint: None, keepalive: 0 };
        // One that the configuration does not have any more is not shown.
        let peers = book.enrol(vec![peer(3), peer(2)], None).unwrap();
        // As the workers do.
        (0..book.slots()).for_each(|slot| _ = book.settle(slot, &peers, true));
        let record = peers.record(&book, peers.slot(&key(2)).unwrap()).unwrap();
        [Count::Done, Count::Forged, Count::Forged].into_iter().for_each(|count| book.count(count));
        record.set(Fact::Handshake, 1_700_000_000_123_456_789);
        record.set(Fact::RxBytes, 1000);
        record.add(Fact::TxBytes, 2000);
        let local = [192, 0, 2, 9].into();
        record.set_endpoint(Endpoint { remote: "[2001:db8::7]:7".parse().unwrap(), local });

        let run = |rows| {
            let ends = vec![End::new(&own, Some(&state))];
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            match runtime.block_on(gather(ends, rows)) {
                Answer::Wireguard(answer) => answer,
                other => panic!("{other:?}"),
            }
        };
        let answer = run(1000);
        let end = &answer.ends[0];
        assert_eq!((end.public_key.clone(), end.peers, end.limit), (Some(key(9).to_string()), 2, 64));
        let counts = [("done".to_owned(), 1), ("forged".to_owned(), 2)];
        assert_eq!(end.counts, counts.into());
        let [first, second] = answer.peers.as_slice() else { panic!("{answer:?}") };
        assert_eq!(
            (first.endpoint.as_deref(), first.handshake_ms, first.rx_bytes),
            (Some("192.0.2.1:1"), None, 0)
        );
        assert_eq!(second.endpoint.as_deref(), Some("[2001:db8::7]:7"));
        assert_eq!(
            (second.handshake_ms, second.rx_bytes, second.tx_bytes),
            (Some(1_700_000_000_123), 1000, 2000)
        );
        assert_eq!((second.keepalive_s, second.allowed_ips.as_slice()), (25, &["::/0".to_owned()][..]));
        let cut = run(1);
        assert_eq!((cut.peers.len(), cut.matched), (1, 2));
        let json = serde_json::to_string(&Answer::Wireguard(answer)).unwrap();
        assert!(!json.contains(&Secret::new([9; 32]).expose_text()[..10]), "{json}");
    }
}
