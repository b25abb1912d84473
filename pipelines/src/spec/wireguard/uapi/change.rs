//! What `set=1` asks for, and what comes of it.
//!
//! Keeps true: a change of a checked section is one whose keys and prefixes are again of one peer each. An allowed IP that another
//! peer has moves, as in the kernel (allowedips.c); our own key is no peer's. What stays as it was is the same value as before, in the same
//! place, so that a request that changes nothing gives an equal section.

use crate::spec::address::Prefix;
use crate::spec::wireguard::{KeyFile, PeerSpec, WireguardSpec};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use zsync_wireguard::key::{PublicKey, Secret};

/// What `set=1` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Who we are from now on.
    pub private_key: Option<Secret>,
    /// Our UDP port.
    pub listen_port: Option<u16>,
    /// No peers but those that follow.
    pub replace_peers: bool,
    /// In order; a peer may come more than once.
    pub peers: Vec<PeerChange>,
}

/// What is asked for of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerChange {
    /// Who it is.
    pub public_key: PublicKey,
    /// It is no peer any more; all else does not count.
    pub remove: bool,
    /// Only if it is a peer already.
    pub update_only: bool,
    /// Its preshared key, or that it has none.
    pub preshared: Option<Option<Secret>>,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0: never.
    pub keepalive: Option<u16>,
    /// No allowed IPs but those that follow.
    pub replace_allowed_ips: bool,
    /// In order; true: taken from it.
    pub allowed_ips: Vec<(Prefix, bool)>,
}

impl PeerChange {
    pub(super) fn of(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared: None,
            endpoint: None,
            keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }
}

/// A key that came by the socket and is in no file yet: the file's name is empty.
fn unfiled(secret: Secret) -> KeyFile {
    KeyFile { path: String::new(), secret: Some(secret) }
}

/// Peers while they are changed. Prefixes are kept by prefix, each with its peer's turn: those of a turn before are gone.
#[derive(Default)]
struct Draft {
    peers: Vec<Option<(PeerSpec, u32)>>,
    by_key: HashMap<PublicKey, usize>,
    owners: HashMap<Prefix, (usize, u32, usize)>,
    given: usize,
}

impl Draft {
    /// The place of a peer, which is made if need be.
    fn place(&mut self, public_key: PublicKey) -> usize {
        *self.by_key.entry(public_key).or_insert_with(|| {
            let fresh = PeerSpec {
                public_key,
                preshared: None,
                endpoint: None,
                allowed_ips: Vec::new(),
                keepalive: 0,
            };
            self.peers.push(Some((fresh, 0)));
            self.peers.len() - 1
        })
    }

    fn remove(&mut self, public_key: &PublicKey) {
        if let Some(at) = self.by_key.remove(public_key) {
            self.peers[at] = None;
        }
    }

    fn give(&mut self, prefix: Prefix, to: usize, turn: u32) {
        let owner = self.owners.entry(prefix).or_insert((to, turn, usize::MAX));
        if (owner.0, owner.1) != (to, turn) || owner.2 == usize::MAX {
            *owner = (to, turn, self.given);
            self.given += 1;
        }
    }

    fn take(&mut self, prefix: Prefix, from: usize, turn: u32) {
        if self.owners.get(&prefix).is_some_and(|owner| (owner.0, owner.1) == (from, turn)) {
            self.owners.remove(&prefix);
        }
    }

    fn change(&mut self, change: PeerChange) {
        if change.remove {
            self.remove(&change.public_key);
            return;
        }
        if change.update_only && !self.by_key.contains_key(&change.public_key) {
            return;
        }
        let at = self.place(change.public_key);
        let Some((peer, turn)) = &mut self.peers[at] else { return };
        if let Some(preshared) = change.preshared {
            peer.preshared = preshared.map(unfiled);
        }
        peer.endpoint = change.endpoint.or(peer.endpoint);
        peer.keepalive = change.keepalive.unwrap_or(peer.keepalive);
        *turn += u32::from(change.replace_allowed_ips);
        let turn = *turn;
        for (prefix, remove) in change.allowed_ips {
            if remove { self.take(prefix, at, turn) } else { self.give(prefix, at, turn) }
        }
    }

    /// The peers in the order in which they came, with what is theirs.
    fn finish(mut self) -> Vec<PeerSpec> {
        let mut owners: Vec<_> = self.owners.into_iter().collect();
        owners.sort_unstable_by_key(|(_, owner)| owner.2);
        for (prefix, (at, turn, _)) in owners {
            if let Some((peer, now)) = &mut self.peers[at]
                && *now == turn
            {
                peer.allowed_ips.push(prefix);
            }
        }
        self.peers.into_iter().flatten().map(|(peer, _)| peer).collect()
    }
}

impl Change {
    /// What becomes of `end`. Keys that are new have a [`KeyFile`] without a name.
    #[must_use]
    pub fn apply(self, end: &WireguardSpec) -> WireguardSpec {
        let mut new = WireguardSpec { peers: Vec::new(), ..end.clone() };
        if let Some(secret) = self.private_key.filter(|key| Some(key) != end.private_key.secret.as_ref()) {
            new.private_key = unfiled(secret);
        }
        new.listen_port = self.listen_port.unwrap_or(end.listen_port);
        let own = new.private_key.secret.as_ref().map(Secret::public);

        let mut draft = Draft::default();
        if !self.replace_peers {
            for peer in end.peers.iter().filter(|peer| Some(peer.public_key) != own) {
                let at = draft.place(peer.public_key);
                peer.allowed_ips.iter().for_each(|prefix| draft.give(*prefix, at, 0));
                draft.peers[at] = Some((PeerSpec { allowed_ips: Vec::new(), ..peer.clone() }, 0));
            }
        }
        // Nobody is a peer of itself: that is passed over, as the kernel does (netlink.c, set_peer).
        for peer in self.peers.into_iter().filter(|peer| Some(peer.public_key) != own) {
            draft.change(peer);
        }
        new.peers = draft.finish();
        as_before(&end.peers, &mut new.peers);
        new
    }
}

/// Where a peer has the key or the allowed IPs that it had, they are said as they were; and who was there before comes first.
fn as_before(before: &[PeerSpec], peers: &mut [PeerSpec]) {
    let places: HashMap<PublicKey, usize> =
        before.iter().enumerate().map(|(n, peer)| (peer.public_key, n)).collect();
    let set = |prefixes: &[Prefix]| prefixes.iter().copied().collect::<BTreeSet<_>>();
    for peer in &mut *peers {
        let Some(was) = places.get(&peer.public_key).map(|n| &before[*n]) else { continue };
        if let (Some(is), Some(had)) = (&mut peer.preshared, &was.preshared)
            && is.secret == had.secret
        {
            *is = had.clone();
        }
        if peer.allowed_ips != was.allowed_ips && set(&peer.allowed_ips) == set(&was.allowed_ips) {
            peer.allowed_ips.clone_from(&was.allowed_ips);
        }
    }
    peers.sort_by_key(|peer| places.get(&peer.public_key).copied().unwrap_or(usize::MAX));
}
