//! One policy in the kernel, by nftables, and in zsync: the same traffic meets the same verdicts, but for the
//! [differences](DIFFERENCES) that are listed here, with the reason for each.
//!
//! All of the traffic goes through a kernel that forwards between two cables, and through the compiled policy in this process,
//! datagram by datagram and at the same times. A part of it then goes through a whole zsync on the same cables.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use zsync_tests::lab::skip;
use zsync_tests::{Control, Lab, Shape, in_lab};

#[path = "nftables/policy.rs"]
mod policy;
#[path = "nftables/sides.rs"]
mod sides;
#[path = "nftables/traffic.rs"]
mod traffic;

use sides::{Fate, Inside, Outside};
use traffic::Datagram;

/// What may differ.
struct Difference {
    /// Of datagrams of this kind.
    kind: &'static str,
    /// What the kernel does with them, and what zsync does.
    kernel: &'static [&'static str],
    ours: &'static [&'static str],
    /// Why that is so, and right.
    why: &'static str,
}

/// Either family's "port unreachable", and what becomes of a packet under the policy.
const JUDGED: &[&str] = &["dropped", "forwarded", "error 3/3", "error 1/4"];

const DIFFERENCES: &[Difference] = &[
    Difference {
        kind: "wrong checksum",
        kernel: &["dropped"],
        ours: JUDGED,
        why: "nf_conntrack verifies the checksums of TCP, UDP and ICMP (net.netfilter.nf_conntrack_checksum) and calls a \
              packet invalid where it is wrong. zsync does not read payloads: the ends verify them, and so do NICs.",
    },
    Difference {
        kind: "no hop left",
        kernel: &["error 11/0", "error 3/0"],
        ours: &["dropped", "error 3/3", "error 1/4"],
        why: "ip_forward looks at the time to live ahead of the forward hook, so the kernel tells the sender of a packet that \
              the policy refuses where it expired. In zsync that is done by route, behind the filter: nothing is told to \
              those whom the policy tells nothing.",
    },
    Difference {
        kind: "later fragment missing",
        kernel: &["dropped"],
        ours: &["forwarded", "error 3/3", "error 1/4"],
        why: "The kernel keeps fragments until the datagram is whole (nf_defrag). zsync sends them on as they come, under the \
              verdict of the first one, and keeps only those that come ahead of it.",
    },
    Difference {
        kind: "overlapping fragments",
        kernel: &["dropped"],
        ours: &["forwarded", "error 3/3", "error 1/4"],
        why: "As above: what came before the overlap was seen has had its verdict. From then on all of the datagram is \
              dropped (RFC 5722), so it is never whole behind zsync either.",
    },
    Difference {
        kind: "other alone",
        kernel: &["dropped"],
        ours: &["error 3/13", "error 1/1"],
        why: "To reject, the kernel first takes the checksum over what the packet carries as if it were TCP, UDP or ICMP, \
              whatever the protocol (nf_reject_verify_csum), and tells the sender nothing where it is not zero. The other \
              protocols here have no such checksum; zsync tells their senders.",
    },
    Difference {
        kind: "sctp chunk",
        kernel: &["dropped"],
        ours: &["forwarded"],
        why: "nf_conntrack follows SCTP's associations, and calls a chunk invalid whose INIT it did not see. zsync tracks \
              SCTP, as all other protocols but TCP, UDP and ICMP, by its addresses: the policy lets it through.",
    },
    Difference {
        kind: "authentication header",
        kernel: &["dropped", "error 1/1"],
        ours: JUDGED,
        why: "nftables takes IPv6's authentication header for the transport (ipv6_find_hdr, IP6_FH_F_AUTH), although \
              nf_conntrack looks behind it. It is an extension header (RFC 4302 §3.1.1): zsync's rules see what is behind \
              it, which is not encrypted, as its tracking does.",
    },
    Difference {
        kind: "error about tcp",
        kernel: &["forwarded"],
        ours: &["dropped"],
        why: "nf_conntrack believes an error that quotes the addresses and ports of a connection. zsync asks, too, that the \
              quoted sequence number can be under way (RFC 5927 §4.1), so that who makes an error up has to guess it.",
    },
    Difference {
        kind: "options of IPv4",
        kernel: &["forwarded"],
        ours: &["punted"],
        why: "No difference in the end: what the filter lets through goes to the kernel behind it, which deals with the \
              options and forwards.",
    },
];

impl Difference {
    fn is(&self, datagram: &Datagram, kernel: &Fate, ours: &Fate) -> bool {
        let name = |fate: &Fate| fate.name();
        self.kind == datagram.kind
            && self.kernel.contains(&name(kernel).as_str())
            && self.ours.contains(&name(ours).as_str())
    }
}

/// One that makes all that may differ.
const SEED: u64 = 3;
/// Of how many conversations one goes through the whole zsync.
const THROUGH_ALL: usize = 4;

#[test]
fn nftables_and_zsync_decide_the_same() {
    in_lab(Shape::router(), |lab| {
        let file = lab.folder().join("policy.nft");
        std::fs::write(&file, policy::nftables())?;
        let mut outside = Outside::of(lab)?;
        if let Err(error) = lab.router.output(Command::new("nft").arg("-f").arg(&file)) {
            skip(&format!("nftables: {error:#}"));
            return Ok(());
        }
        let traffic = traffic::traffic(SEED, outside.macs());
        let fates = compare(&mut outside, &traffic)?;
        lab.router.output(Command::new("nft").args(["flush", "ruleset"]))?;
        through_all(lab, &mut outside, &traffic, &fates)
    });
}

/// The kernel and the compiled policy; what either says of each datagram.
fn compare(kernel: &mut Outside, traffic: &[Datagram]) -> Result<Vec<(Fate, Fate)>> {
    let mut inside = Inside::new(kernel.macs())?;
    let start = Instant::now();
    let mut differences: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut verdicts, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    let (mut fates, mut wrong) = (Vec::new(), Vec::new());
    for datagram in traffic {
        let theirs = kernel.send(datagram).with_context(|| format!("{datagram:02x?}"))?;
        let (ours, said) = inside.send(datagram, 1 + start.elapsed().as_nanos() as u64)?;
        *verdicts.entry(theirs.name()).or_insert(0) += 1;
        *kinds.entry(datagram.kind).or_insert(0) += 1;
        if !theirs.agrees(&ours) {
            match DIFFERENCES.iter().find(|difference| difference.is(datagram, &theirs, &ours)) {
                Some(difference) => *differences.entry(difference.kind).or_insert(0) += 1,
                None => wrong.push((datagram, theirs.name(), ours.name(), said)),
            }
        }
        fates.push((theirs, ours));
    }
    println!("{} datagrams of {} kinds in {:?}: {kinds:?}", traffic.len(), kinds.len(), start.elapsed());
    println!("the kernel's verdicts: {verdicts:?}");
    for difference in DIFFERENCES {
        let times = differences.get(difference.kind).copied().unwrap_or(0);
        println!("{times} × {}: {}", difference.kind, difference.why);
        ensure!(times > 0, "{} does not differ any more: take it off the list", difference.kind);
    }
    if let Some((datagram, ..)) = wrong.first() {
        // All of its conversation, for what came before.
        let said = traffic.iter().zip(&fates);
        for (said, (theirs, ours)) in said.filter(|(said, _)| said.conversation == datagram.conversation) {
            let (kind, side, theirs, ours) = (said.kind, said.side, theirs.name(), ours.name());
            println!("{kind} from side {side}, kernel {theirs}, ours {ours}: {:02x?}", said.frames);
        }
    }
    for (datagram, theirs, ours, said) in &wrong {
        let (kind, conversation) = (datagram.kind, datagram.conversation);
        println!("{kind} in conversation {conversation}: kernel {theirs}, ours {ours}: {said}");
    }
    ensure!(wrong.is_empty(), "{} differences that are not listed", wrong.len());
    ensure!(traffic.len() >= 10_000 && verdicts.len() >= 8, "too little to compare");
    Ok(fates)
}

/// A whole zsync does with a part of the traffic what the compiled policy does.
fn through_all(lab: &Lab, outside: &mut Outside, traffic: &[Datagram], fates: &[(Fate, Fate)]) -> Result<()> {
    let _control = Control::start(lab, &policy::toml())?;
    outside.wait()?;
    let start = Instant::now();
    let (mut sent, mut limited, mut wrong) = (0, 0, 0);
    let part = traffic.iter().zip(fates).filter(|(datagram, _)| datagram.conversation % THROUGH_ALL == 0);
    for (datagram, (_, inside)) in part {
        let got = outside.send(datagram).with_context(|| format!("{datagram:02x?}"))?;
        sent += 1;
        if matches!(inside, Fate::Error(..)) {
            // A worker sends 1000 of them a second.
            thread::sleep(Duration::from_millis(2));
        }
        // What is handed to the kernel, the kernel forwards: it has no policy any more.
        let is_same = got.agrees(inside) || (*inside == Fate::Punted && got.name() == "forwarded");
        if matches!(inside, Fate::Error(..)) && got == Fate::Dropped {
            limited += 1;
        } else if !is_same {
            wrong += 1;
            println!("{}: all of zsync {}, its policy {}", datagram.kind, got.name(), inside.name());
        }
    }
    println!("{sent} datagrams through a whole zsync in {:?}, {limited} errors limited", start.elapsed());
    ensure!(wrong == 0 && sent >= 1000, "{wrong} of {sent} differ");
    // A worker tells a station 6 times at once, and then once a second, as the kernel does where it is not told otherwise.
    ensure!(limited * 100 < sent, "{limited} of {sent} were not told why");
    Ok(())
}
