//! Memory for peers, across changes of the configuration.

use super::files::{ends, ends_mut};
use crate::spec::{Parsed, Spec};

/// Lets ends of `parsed` whose `max-peers` is "auto" have the memory that they have in `running`, as long as their peers fit: into
/// other memory all that is known of them would have to move.
pub fn keep_room(parsed: &mut Parsed, running: &Spec) {
    let had = ends(running);
    let Parsed { spec, roomy, .. } = parsed;
    for end in ends_mut(spec).filter(|end| roomy.contains(&end.name)) {
        let fits = |slots: &u32| end.peers.len() <= *slots as usize;
        if let Some(slots) = had.get(end.name.as_str()).map(|was| was.max_peers).filter(fits) {
            end.max_peers = slots;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse;

    fn parsed(more: &str, peers: usize) -> Parsed {
        let peer = |n: usize| {
            let mut bytes = [7; 32];
            bytes[0] = n as u8;
            let key = zsync_wireguard::key::PublicKey(bytes);
            format!("{{ public-key = \"{key}\", allowed-ips = [\"10.0.0.{n}\"] }}")
        };
        let peers: Vec<String> = (0..peers).map(peer).collect();
        let source = format!(
            "[port.a]\nnetdev = \"a\"\n[pipeline.p]\ninput = [\"a\"]\nstages = [\"wireguard-open.w\", \"wireguard-seal.w\", \"route\"]\n\
             [wireguard.w]\nprivate-key-file = \"k\"\n{more}peers = [{}]\n",
            peers.join(", ")
        );
        parse(&source, "w.toml").unwrap()
    }

    #[test]
    fn memory_stays_as_long_as_the_peers_fit() {
        let slots = |from: &Parsed, mut to: Parsed| {
            keep_room(&mut to, &from.spec);
            ends(&to.spec)["w"].max_peers
        };
        let (few, some, many) = (parsed("", 1), parsed("", 33), parsed("", 65));
        assert_eq!((ends(&few.spec)["w"].max_peers, ends(&some.spec)["w"].max_peers), (64, 128));
        assert_eq!(slots(&some, few.clone()), 128, "it does not shrink");
        assert_eq!(slots(&few, some.clone()), 64, "it does not grow while there is room");
        assert_eq!(slots(&few, many), 256);
        // What is said counts.
        assert_eq!(slots(&some, parsed("max-peers = 70\n", 1)), 70);
        assert_eq!(slots(&parsed("max-peers = 70\n", 1), some), 70);
    }
}
