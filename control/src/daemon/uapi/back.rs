//! Peers that `wg` says are where they are configured to be, and that have gone elsewhere since.
//!
//! No configuration changes by that, but their records: the workers that own them are asked to, and heed it within 0.2 s. Keeps true:
//! nobody waits for a data plane that does not run.

use super::super::looks::slices;
use super::super::wireguard::look;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use zsync_pipelines::spec::wireguard::WireguardSpec;
use zsync_pipelines::spec::wireguard::uapi::Change;
use zsync_wireguard::book::Book;
use zsync_wireguard::key::PublicKey;

/// How long a data plane may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked at.
const STEP: Duration = Duration::from_millis(10);

/// Who is to be called.
pub(super) struct Back {
    peers: HashMap<PublicKey, SocketAddr>,
}

/// Who was called: their slots.
pub(super) struct Called {
    book: Option<Book>,
    slots: Vec<u32>,
}

impl Back {
    /// What `change` says of peers of `end` that is so already.
    pub(super) fn of(change: &Change, end: &WireguardSpec) -> Self {
        let said: HashMap<_, _> =
            change.peers.iter().filter_map(|peer| Some((peer.public_key, peer.endpoint?))).collect();
        let is_said = |key: &PublicKey, at: &SocketAddr| said.get(key) == Some(at);
        let peers = end.peers.iter().filter_map(|peer| Some((peer.public_key, peer.endpoint?)));
        Self { peers: peers.filter(|(key, at)| is_said(key, at)).collect() }
    }

    /// Calls those that are elsewhere, as `book` has it.
    pub(super) async fn call(self, book: Option<Book>) -> Called {
        let Self { peers } = self;
        let mut slots = Vec::new();
        if let Some(book) = book.as_ref().filter(|_| !peers.is_empty()) {
            slices(book.slots(), |range| {
                for slot in range {
                    let Some((key, seen)) = look(book, slot) else { continue };
                    let elsewhere =
                        peers.get(&key).is_some_and(|at| seen.endpoint.is_some_and(|is| is != *at));
                    if let Some(record) = book.record(slot).filter(|_| elsewhere) {
                        record.call_back();
                        slots.push(slot);
                    }
                }
            })
            .await;
        }
        Called { book, slots }
    }
}

impl Called {
    /// Waits until they were heeded, or nobody seems to be there who would.
    pub(super) async fn heeded(self) {
        let Self { book, slots } = self;
        let Some(book) = book else { return };
        let waits =
            || slots.iter().any(|slot| book.record(*slot).is_some_and(|record| record.is_called_back()));
        let _ = timeout(PATIENCE, async {
            while waits() {
                sleep(STEP).await;
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_packet::flow::HashKey;
    use zsync_packet::region::Region;
    use zsync_pipelines::spec::parse;
    use zsync_pipelines::spec::wireguard::ends;
    use zsync_pipelines::spec::wireguard::uapi::{Reader, Request};
    use zsync_wireguard::book::Peer;
    use zsync_wireguard::key::Secret;
    use zsync_wireguard::record::Endpoint;

    fn key(byte: u8) -> PublicKey {
        Secret::new([byte; 32]).public()
    }

    /// Which of three peers are called when `wg` says this of the second, whose record says `heard`.
    fn called(said: &str, heard: &str) -> Vec<u32> {
        let peer = |n: u8| format!("{{ public-key = \"{}\", endpoint = \"192.0.2.{n}:5{n}\" }}", key(n));
        let source = format!(
            "[port.a]\nnetdev = \"a\"\n[pipeline.p]\ninput = [\"a\"]\nstages = [\"wireguard-open.w\", \"wireguard-seal.w\", \"route\"]\n\
             [wireguard.w]\nprivate-key-file = \"k\"\npeers = [{}, {}, {}]\n",
            peer(1),
            peer(2),
            peer(3)
        );
        let spec = parse(&source, "w.toml").unwrap().spec;
        let end = ends(&spec)["w"];
        let region = Region::heap(Book::bytes(end.max_peers));
        let book = Book::open(region, end.max_peers, &HashKey::from_seed(7), key(9)).unwrap();
        let of = |n| Peer { public: key(n), preshared: Secret::new([0; 32]), endpoint: None, keepalive: 0 };
        let peers = book.enrol([1, 2, 3].map(of).into(), None).unwrap();
        (0..book.slots()).for_each(|slot| _ = book.settle(slot, &peers, true));
        let at = |n: u8, remote: &str| {
            let record = peers.record(&book, peers.slot(&key(n)).unwrap()).unwrap();
            record.set_endpoint(Endpoint { remote: remote.parse().unwrap(), local: [192, 0, 2, 9].into() });
        };
        at(1, "198.51.100.1:1");
        at(2, heard);
        let mut reader = Reader::default();
        let text =
            format!("set=1\npublic_key={}\n{said}\n\n", key(2).0.map(|byte| format!("{byte:02x}")).concat());
        let request = text.lines().find_map(|line| reader.line(line.as_bytes())).unwrap().unwrap();
        let Request::Set(change) = request else { panic!("{request:?}") };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let called = runtime.block_on(Back::of(&change, end).call(Some(book.clone())));
        let open = |slot: &u32| book.record(*slot).unwrap().is_called_back();
        assert!(called.slots.iter().all(open) && (0..3).filter(open).count() == called.slots.len());
        called.slots
    }

    #[test]
    fn only_who_is_elsewhere_than_was_said_and_configured_is_called() {
        const NOBODY: [u32; 0] = [];
        assert_eq!(called("endpoint=192.0.2.2:52", "198.51.100.2:2"), [1]);
        assert_eq!(called("endpoint=192.0.2.2:52", "192.0.2.2:52"), NOBODY);
        // This is a change of the configuration.
        assert_eq!(called("endpoint=192.0.2.7:52", "198.51.100.2:2"), NOBODY);
        assert_eq!(called("persistent_keepalive_interval=5", "198.51.100.2:2"), NOBODY);
    }

    #[test]
    fn nobody_waits_for_who_is_not_there() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let region = Region::heap(Book::bytes(1));
        let book = Book::open(region, 1, &HashKey::from_seed(7), key(9)).unwrap();
        book.record(0).unwrap().call_back();
        runtime.block_on(Called { book: Some(book), slots: vec![0] }.heeded());
    }
}
