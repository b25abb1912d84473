//! Round trips, and everything that a peer could send instead.

use super::*;
use proptest::prelude::*;
use proptest::sample::select;

fn layout() -> impl Strategy<Value = Layout> {
    let core = prop::option::of(any::<u32>()).prop_map(|core| WorkerPlan { core });
    let workers = prop::collection::vec(core, 1..=MAX_WORKERS);
    let idle = prop_oneof![Just(Idle::Spin), Just(Idle::Adaptive), Just(Idle::Block)];
    let ids = (1..=u32::MAX, 1..=u32::MAX);
    (any::<bool>(), 1..=u32::MAX, workers, idle, ids, any::<bool>(), any::<[[u8; 32]; 2]>()).prop_map(
        |(large, frames, workers, idle, (uid, gid), takeover, secret)| Layout {
            frame_size: if large { 4096 } else { 2048 },
            frames,
            workers,
            idle,
            uid,
            gid,
            takeover,
            secret,
        },
    )
}

fn rings_of() -> impl Strategy<Value = (u32, u32, u32)> {
    let entries = || (0u32..=15).prop_map(|power| 1 << power);
    (entries(), entries(), entries())
}

fn to_dataplane() -> impl Strategy<Value = ToDataplane> {
    let ring = || (0u32..=15).prop_map(|power| 1 << power);
    let rings = (ring(), ring(), ring(), ring());
    // Without a scope: an address of the whole host.
    let local = (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
    let offloads = select(vec![TunOffload::None, TunOffload::Tcp, TunOffload::TcpUdp]);
    prop_oneof![
        layout().prop_map(|layout| ToDataplane::Hello { version: VERSION, layout }),
        (
            (
                0u16..64,
                "[a-z][a-z0-9.-]{0,14}",
                1..=u32::MAX,
                any::<[u8; 6]>(),
                68u32..=65_535,
                any::<bool>()
            ),
            any::<(Option<Ipv4Addr>, Option<Ipv6Addr>)>()
        )
            .prop_map(|((id, name, ifindex, mac, mtu, partial_checksums), (v4, v6))| {
                ToDataplane::Port { id, name, ifindex, mac, mtu, partial_checksums, v4, v6 }
            }),
        (0u16..64, any::<u16>(), 0u8..128, rings, any::<bool>(), any::<bool>()).prop_map(
            |(port, queue, worker, (rx, tx, fill, completion), zero_copy, busy_poll)| ToDataplane::Queue {
                port,
                queue,
                worker,
                rx,
                tx,
                fill,
                completion,
                zero_copy,
                busy_poll
            }
        ),
        (0u16..64, any::<u16>(), 0u8..128).prop_map(|(port, queue, worker)| ToDataplane::Packet {
            port,
            queue,
            worker
        }),
        (0u16..64, any::<u16>(), 0u8..128, offloads, any::<bool>()).prop_map(
            |(port, queue, worker, offload, frames)| ToDataplane::Tun {
                port,
                queue,
                worker,
                offload,
                frames
            }
        ),
        (0u16..64, any::<u16>(), 0u8..128, local).prop_map(|(port, queue, worker, local)| ToDataplane::Udp {
            port,
            queue,
            worker,
            local
        }),
        ((0u16..64, any::<u16>(), 3..i32::MAX), rings_of(), any::<[[u32; 4]; 2]>()).prop_map(
            |((port, queue, fd), (submissions, completions, buffers), [submission, completion])| {
                let layout = RingLayout { submissions, completions, buffers, submission, completion };
                ToDataplane::Ring { port, queue, fd, layout }
            }
        ),
        Just(ToDataplane::Punt),
        (any::<u64>(), any::<u32>(), 1..=isize::MAX as u64)
            .prop_map(|(epoch, table, len)| ToDataplane::Fib { epoch, table, len }),
        ("[a-z]{1,20}\\.[a-z]{1,20}", 0..1u64 << 40, 0..1u64 << 40).prop_map(|(label, shared, each)| {
            ToDataplane::State { label, shared, each, len: shared + each + 4096 }
        }),
        (any::<u64>(), 1..=isize::MAX as u64).prop_map(|(epoch, len)| ToDataplane::Snapshot { epoch, len }),
        Just(ToDataplane::Start),
        any::<u32>().prop_map(|id| ToDataplane::Audit { id }),
        Just(ToDataplane::Replay),
        Just(ToDataplane::Stop),
        any::<u32>().prop_map(|id| ToDataplane::Tasks { id }),
    ]
}

fn task() -> impl Strategy<Value = WorkerTask> {
    let doing = select(vec![Doing::Runs, Doing::Ready, Doing::Waits]);
    let waits = prop::collection::vec((0usize..1000, any::<String>()), 0..2 * MAX_WAITS);
    (0usize..1000, any::<String>(), doing, any::<u64>(), waits).prop_map(
        |(depth, place, doing, since, waits)| {
            WorkerTask::new(depth, place, (doing, since), waits.into_iter())
        },
    )
}

fn audit() -> impl Strategy<Value = WorkerAudit> {
    (any::<u8>(), any::<[u32; 8]>(), any::<u64>(), any::<u32>()).prop_map(
        |(worker, owners, misplaced, leaked)| {
            let [pool, fill, rx, burst, tx, completion, held, remote] = owners;
            WorkerAudit { worker, pool, fill, rx, burst, tx, completion, held, remote, misplaced, leaked }
        },
    )
}

fn from_dataplane() -> impl Strategy<Value = FromDataplane> {
    prop_oneof![
        (any::<u32>(), any::<bool>()).prop_map(|(pid, sandboxed)| FromDataplane::Ready { pid, sandboxed }),
        Just(FromDataplane::Started),
        any::<u64>().prop_map(|epoch| FromDataplane::Adopted { epoch }),
        (any::<u32>(), prop::collection::vec(audit(), 0..=MAX_WORKERS))
            .prop_map(|(id, workers)| FromDataplane::Audit { id, workers }),
        to_dataplane().prop_map(FromDataplane::Replayed),
        Just(FromDataplane::ReplayEnd),
        any::<String>().prop_map(FromDataplane::failed),
        Just(FromDataplane::Stopped),
        (any::<u32>(), 0u8..128, prop::collection::vec(task(), 0..=PART), any::<u32>(), any::<u64>())
            .prop_map(|(id, worker, tasks, left_out, late)| FromDataplane::Tasks {
                id,
                worker,
                tasks,
                left_out,
                late
            }),
        any::<u32>().prop_map(|id| FromDataplane::TasksEnd { id }),
    ]
}

fn encoded<M: Message>(message: &M) -> Vec<u8> {
    let mut bytes = vec![0xff; 3];
    encode(message, &mut bytes).unwrap();
    bytes
}

/// Everything that holds for any message `M`.
fn holds<M: Message + PartialEq + std::fmt::Debug>(message: &M) -> Result<(), TestCaseError> {
    let bytes = encoded(message);
    let fds = message.descriptors();
    prop_assert!(bytes.len() <= MAX_MESSAGE && fds <= MAX_FDS);
    prop_assert_eq!(M::KINDS[bytes[0] as usize], message.kind());
    prop_assert_eq!(&decode::<M>(&bytes, fds).unwrap(), message);
    let wrong = decode::<M>(&bytes, fds + 1).unwrap_err();
    prop_assert_eq!(wrong, MessageError::Descriptors { kind: message.kind(), have: fds + 1, want: fds });
    let mut longer = bytes.clone();
    longer.push(0);
    let extra = decode::<M>(&longer, fds).unwrap_err();
    prop_assert_eq!(extra, MessageError::Trailing { kind: message.kind(), extra: 1 });
    for len in 0..bytes.len() {
        prop_assert!(decode::<M>(&bytes[..len], fds).is_err(), "accepted when cut to {} bytes", len);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_message_to_the_data_plane_comes_back(message in to_dataplane()) {
        holds(&message)?;
    }

    #[test]
    fn a_message_from_the_data_plane_comes_back(message in from_dataplane()) {
        holds(&message)?;
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), fds in 0usize..9) {
        if let Ok(message) = decode::<ToDataplane>(&bytes, fds) {
            prop_assert!(message.check().is_ok());
        }
        if let Ok(message) = decode::<FromDataplane>(&bytes, fds) {
            prop_assert!(message.check().is_ok());
        }
    }

    #[test]
    fn a_flipped_bit_is_a_message_or_an_error(message in from_dataplane(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = encoded(&message);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = decode::<FromDataplane>(&bytes, message.descriptors()) {
            prop_assert!(other.check().is_ok());
        }
    }
}

#[test]
fn every_variant_has_its_name_at_its_tag() {
    // The strategies reach each variant; here, that the tables are as long as the enums are.
    let last = encoded(&ToDataplane::Tasks { id: 0 });
    assert_eq!(last, [(ToDataplane::KINDS.len() - 1) as u8, 0]);
    let last = encoded(&FromDataplane::TasksEnd { id: 0 });
    assert_eq!(last, [(FromDataplane::KINDS.len() - 1) as u8, 0]);
    let replayed = encoded(&FromDataplane::Replayed(ToDataplane::Stop));
    assert_eq!(replayed[0], 4, "the tag that `screen` looks for");
}

#[test]
fn the_longest_messages_fit() {
    let worst = WorkerAudit {
        worker: 255,
        pool: u32::MAX,
        fill: u32::MAX,
        rx: u32::MAX,
        burst: u32::MAX,
        tx: u32::MAX,
        completion: u32::MAX,
        held: u32::MAX,
        remote: u32::MAX,
        misplaced: u64::MAX,
        leaked: u32::MAX,
    };
    let audit = FromDataplane::Audit { id: u32::MAX, workers: vec![worst; MAX_WORKERS] };
    assert!(encoded(&audit).len() <= MAX_MESSAGE / 2);
    let mut bytes = Vec::new();
    let error = encode(&FromDataplane::Audit { id: 0, workers: vec![worst; MAX_WORKERS + 1] }, &mut bytes);
    assert!(matches!(error, Err(MessageError::Field { kind: "Audit", field: "workers", .. })));
    let text = || "ü".repeat(MAX_PLACE);
    let waits = || (0..2 * MAX_WAITS).map(|_| (1000, text()));
    let task = WorkerTask::new(1000, text(), (Doing::Waits, u64::MAX), waits());
    let tasks = |count| {
        let tasks = vec![task.clone(); count];
        FromDataplane::Tasks { id: u32::MAX, worker: 127, tasks, left_out: u32::MAX, late: u64::MAX }
    };
    assert!(encoded(&tasks(PART)).len() <= MAX_MESSAGE * 7 / 8);
    let error = encode(&tasks(PART + 1), &mut bytes);
    assert!(matches!(error, Err(MessageError::Field { kind: "Tasks", field: "tasks", .. })));
    let long = "ü".repeat(MAX_TEXT);
    assert!(encode(&FromDataplane::Failed { what: long.clone() }, &mut bytes).is_err());
    let FromDataplane::Failed { what } = FromDataplane::failed(long) else { panic!("not a failure") };
    assert_eq!(what.len(), MAX_TEXT);
}

#[test]
fn what_is_wrong_is_named() {
    let error = |bytes: &[u8], fds| decode::<ToDataplane>(bytes, fds).unwrap_err();
    assert_eq!(error(&[], 0), MessageError::NoTag);
    assert_eq!(error(&[0x80], 0), MessageError::NoTag);
    assert_eq!(error(&[99], 0), MessageError::Unknown { tag: 99, last: 15 });
    assert_eq!(error(&vec![0; MAX_MESSAGE + 1], 0), MessageError::Oversize { len: MAX_MESSAGE + 1 });
    assert_eq!(error(&[12], 0), MessageError::Truncated { kind: "Audit" });
    let unknown_replay = decode::<FromDataplane>(&[4, 99], 0).unwrap_err();
    assert_eq!(unknown_replay, MessageError::Unknown { tag: 99, last: 15 });

    // Another version may lay out everything after its number differently.
    let theirs = MessageError::Version { theirs: VERSION + 1 };
    assert_eq!(error(&[0, (VERSION + 1) as u8, 0xff], 4), theirs);
    assert_eq!(decode::<FromDataplane>(&[4, 0, (VERSION + 1) as u8, 0xff], 4).unwrap_err(), theirs);
}

#[test]
fn fields_out_of_range_are_refused_on_both_sides() {
    let queue = |worker, rx| ToDataplane::Queue {
        port: 1,
        queue: 0,
        worker,
        rx,
        tx: 1,
        fill: 1,
        completion: 1,
        zero_copy: false,
        busy_poll: false,
    };
    let port = |id, name: &str, mtu| ToDataplane::Port {
        id,
        name: name.into(),
        ifindex: 1,
        mac: [0; 6],
        mtu,
        partial_checksums: true,
        v4: None,
        v6: None,
    };
    let hello = |frame_size, workers, uid| ToDataplane::Hello {
        version: VERSION,
        layout: Layout {
            frame_size,
            frames: 1,
            workers: vec![WorkerPlan { core: None }; workers],
            idle: Idle::Block,
            uid,
            gid: 1,
            takeover: false,
            secret: [[0xab; 32]; 2],
        },
    };
    let shown = format!("{:?}", hello(2048, 1, 1));
    assert!(shown.contains("frame_size: 2048") && !shown.contains("171"), "the secret is shown: {shown}");
    let cases = [
        (queue(128, 64), "worker"),
        (queue(0, 63), "rx"),
        (queue(0, 0), "rx"),
        (queue(0, MAX_RING * 2), "rx"),
        (port(64, "eth0", 1500), "port"),
        (port(0, "", 1500), "name"),
        (port(0, "../eth0", 1500), "name"),
        (port(0, "a name\n", 1500), "name"),
        (port(0, "sixteen-letters-", 1500), "name"),
        (port(0, "eth0", 67), "mtu"),
        (hello(2049, 1, 1), "frame_size"),
        (hello(2048, 0, 1), "workers"),
        (hello(2048, MAX_WORKERS + 1, 1), "workers"),
        (hello(2048, 1, 0), "uid"),
        (ToDataplane::Snapshot { epoch: 1, len: 0 }, "len"),
    ];
    for (message, wrong) in cases {
        let refused = |error| matches!(error, MessageError::Field { field, .. } if field == wrong);
        assert!(refused(encode(&message, &mut Vec::new()).unwrap_err()), "{message:?} was encoded");
        let bytes = postcard::to_stdvec(&message).unwrap();
        assert!(
            refused(decode::<ToDataplane>(&bytes, message.descriptors()).unwrap_err()),
            "{message:?} was decoded"
        );
        let replayed = postcard::to_stdvec(&FromDataplane::Replayed(message.clone())).unwrap();
        assert!(
            refused(decode::<FromDataplane>(&replayed, message.descriptors()).unwrap_err()),
            "{message:?}"
        );
    }
}
