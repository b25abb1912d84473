//! What each answer looks like, to the last space.

use std::time::{Duration, UNIX_EPOCH};

use zsync_pipelines::spec::{diff, parse};

use super::*;
use crate::api::{
    AddressRow, Applied, ConfigInfo, DataplaneInfo, DataplaneState, FailoverState, Fib, FibTable,
    FilterStage, Filters, Flow, FlowRow, FlowTable, Flows, HistoryRow, HistoryState, HopRow, KernelDrops,
    Ledger, LedgerRow, MappingRow, MappingTable, Mappings, Offload, Plan, RouteRow, RouteTarget, RuleRow,
    RxEquals, SocketMode, StageRow, Usage, Wireguard, WireguardEnd, WireguardPeer, WorkerState, XdpMode,
};

mod kept;

fn plain() -> View {
    View { exact: false, colour: false, now: UNIX_EPOCH + Duration::from_secs(1_750_000_100) }
}

#[track_caller]
fn shows(answer: &Answer, expected: &str) {
    let text = render(answer, plain());
    assert!(text == expected, "got:\n{text}\nexpected:\n{expected}");
}

fn port() -> PortRow {
    PortRow {
        name: "wan".into(),
        netdev: "eth1".into(),
        ifindex: 3,
        mac: "02:00:00:00:00:01".into(),
        mtu: 1500,
        link_up: true,
        driver: None,
        kind: Some("veth".into()),
        mode: SocketMode::Copy,
        offload: Offload::None,
        split: 0,
        merged: 0,
        xdp: XdpMode::Native,
        queues: 2,
        failover: FailoverState::Serving,
        pipeline: Some("forward".into()),
        rx: Flow { packets: 1_234_567, bytes: 98_765_432 },
        tx: Flow { packets: 9_999, bytes: 12_345 },
        drops: BTreeMap::from([("tx-ring-full".into(), 12)]),
        kernel: KernelDrops { rx_ring_full: 3, fill_ring_empty: 1, ..KernelDrops::default() },
        xdp_counters: BTreeMap::from([("redirected".into(), Flow { packets: 1_234_570, bytes: 98_765_672 })]),
        warnings: vec!["GRO is on: `ethtool -K eth1 gro off`".into()],
    }
}

#[test]
fn ports() {
    let lan = PortRow {
        name: "lan".into(),
        netdev: "eth2".into(),
        mtu: 9000,
        queues: 1,
        failover: FailoverState::Closed,
        ..PortRow::default()
    };
    let host = PortRow {
        name: "host".into(),
        netdev: "host0".into(),
        mtu: 1420,
        queues: 1,
        mode: SocketMode::Tun,
        offload: Offload::TcpUdp,
        split: 12_345,
        merged: 7,
        xdp: XdpMode::None,
        ..PortRow::default()
    };
    shows(
        &Answer::Ports(vec![port(), lan, host]),
        "\
PORT  NETDEV  LINK   MTU  QUEUES  SOCKETS  XDP     STATE    PIPELINE     RX    TX  RX BYTES  TX BYTES  DROPS
wan   eth1    up    1500       2  copy     native  serving  forward   1.23M  9999     98.7M     12.3k     15
lan   eth2    down  9000       1  copy     native  closed   -             0     0         0         0      0
host  host0   down  1420       1  tun      none    serving  -             0     0         0         0      0

PORT  OFFLOAD  SPLIT  MERGED
host  tcp-udp  12.3k       7

PORT  BY      CAUSE            PACKETS  BYTES
wan   engine  tx-ring-full          12
wan   kernel  rx-ring-full           3
wan   kernel  fill-ring-empty        1
wan   xdp     redirected         1.23M  98.7M

warning: wan: GRO is on: `ethtool -K eth1 gro off`
",
    );
    let exact = render(&Answer::Ports(vec![port()]), View { exact: true, ..plain() });
    assert!(exact.contains("1,234,567"), "{exact}");
}

#[test]
fn xdp_programs() {
    let row = XdpRow {
        port: "wan".into(),
        slot: 1,
        object: "/etc/zsync/ddos.o".into(),
        program: "scrub".into(),
        params: BTreeMap::from([("limit".into(), 100), ("small".into(), 1)]),
        entered: 10_000,
        passed_on: 9_000,
        dropped: 1_000,
        ..XdpRow::default()
    };
    let forgets = XdpRow {
        slot: 2,
        program: "count".into(),
        params: BTreeMap::new(),
        passed_on: 0,
        dropped: 0,
        entered: 9_000,
        to_kernel: 8_999,
        no_verdict: 1,
        ..row.clone()
    };
    shows(
        &Answer::Xdp(vec![row, forgets]),
        "\
PORT  SLOT  PROGRAM                                    ENTERED  PASSED ON  DROPPED  TO KERNEL  SENT BACK  REDIRECTED  ABORTED  NO VERDICT
wan      1  /etc/zsync/ddos.o:scrub limit=100 small=1    10.0k       9000     1000          0          0           0        0           0
wan      2  /etc/zsync/ddos.o:count                       9000          0        0       8999          0           0        0           1

warning: wan: count: none of 9000 packets was passed on, so nothing behind it sees any; what is to go on must end in `return zsync_pass_on(ctx);`
warning: wan: count: 1 packets were dropped: what it returned is no verdict
",
    );
}

#[test]
fn nothing_there() {
    assert_eq!(render(&Answer::Ports(Vec::new()), plain()), NO_PORTS);
    let text = render(&Answer::Fib(Fib::default()), plain());
    assert!(text.ends_with("no route matches\n"), "{text}");
}

const NO_PORTS: &str =
    "PORT  NETDEV  LINK  MTU  QUEUES  SOCKETS  XDP  STATE  PIPELINE  RX  TX  RX BYTES  TX BYTES  DROPS\n";

#[test]
fn colour_is_only_where_it_is_asked_for() {
    let answer = Answer::Ports(vec![port()]);
    let colour = render(&answer, View { colour: true, ..plain() });
    assert!(colour.starts_with("\x1b[1mPORT") && colour.contains("\x1b[1;33mwarning\x1b[0m: wan"));
    assert!(!render(&answer, plain()).contains('\x1b'));
}

#[test]
fn nothing_of_an_answer_reaches_the_terminal_as_a_command() {
    let mut evil = port();
    (evil.name, evil.netdev) = ("\x1b[2J".into(), "a\nb".into());
    evil.warnings = vec!["\x1b]0;owned\x07".into()];
    let status = Status {
        config: ConfigInfo { file: "\x1b[2J\n".into(), ..ConfigInfo::default() },
        ..Status::default()
    };
    for answer in [Answer::Ports(vec![evil]), Answer::Status(status)] {
        let text = render(&answer, plain());
        assert!(!text.contains(['\x1b', '\x07']), "{text}");
    }
}

#[test]
fn status() {
    let status = Status {
        version: "0.1.0".into(),
        pid: 100,
        config: ConfigInfo {
            number: 7,
            time: 1_750_000_000_000,
            hash: "6c62272e07bb014262b821756295c58d".into(),
            file: "/etc/zsync/router.toml".into(),
        },
        dataplane: DataplaneInfo {
            pid: Some(200),
            state: DataplaneState::Respawned,
            restarts: 1,
            last_exit: Some("signal 9".into()),
            uptime_ms: Some(3_725_000),
            sandboxed: true,
        },
        pending_confirm_ms: Some(45_500),
    };
    shows(
        &Answer::Status(status),
        "\
zsync-control  0.1.0, process 100
configuration  7 from /etc/zsync/router.toml
               accepted 2025-06-15 15:06:40Z (1m 40s ago), hash 6c62272e07bb014262b821756295c58d
               taken back in 45s unless `zsyncctl confirm` comes first
data plane     respawned, process 200, up 1h 2m, sandboxed
               restarted once, last exit: signal 9
",
    );
}

#[test]
fn workers() {
    let first = WorkerRow {
        number: 0,
        core: Some(2),
        thread: Some(4242),
        state: WorkerState::Running,
        epoch: 3,
        heartbeat_age_us: Some(85),
        passes: 12_345_678,
        busy_percent: Some(12.34),
        rx: 20_000,
        tx: 19_990,
        punted: 6,
        drops: 4,
        wakeups: 17,
        queues: vec!["wan:0".into(), "lan:0".into()],
        ..WorkerRow::default()
    };
    let second = WorkerRow { number: 1, ..WorkerRow::default() };
    shows(
        &Answer::Workers(vec![first, second]),
        "\
WORKER  CORE  THREAD  STATE     EPOCH  BEAT   BUSY  PASSES  WAKEUPS     RX     TX  PUNTED  DROPS  QUEUES
     0     2    4242  running       3  85µs  12.3%   12.3M       17  20.0k  19.9k       6      4  wan:0 lan:0
     1     -       -  starting      0     -      -       0        0      0      0       0      0
",
    );
}

#[test]
fn counters() {
    let counters = Counters {
        totals: BTreeMap::from([("rx-packets".into(), 100), ("pool-empty".into(), 0)]),
        drops: BTreeMap::from([("ttl-expired".into(), 5)]),
        stages: vec![StageRow {
            pipeline: "forward".into(),
            stage: "route.main".into(),
            packets: 100,
            drops: 5,
        }],
        ..Counters::default()
    };
    let text = "\
COUNTER     COUNT
rx-packets    100

DROP REASON  COUNT
ttl-expired      5

PIPELINE  STAGE       PACKETS  DROPS
forward   route.main      100      5

";
    shows(&Answer::Counters(counters.clone()), &format!("{text}every packet is accounted for\n"));
    let off = Counters { balance: -2, ..counters };
    shows(&Answer::Counters(off), &format!("{text}-2 packets are on their way, or not accounted for\n"));
}

#[test]
fn fib() {
    let hop = |port: &str, gateway: Option<&str>, mac: Option<&str>, weight| HopRow {
        port: port.into(),
        gateway: gateway.map(Into::into),
        mac: mac.map(Into::into),
        weight,
    };
    let route = |prefix: &str, target, hops| RouteRow { prefix: prefix.into(), target, hops };
    let usage = |what: &str, used, retired| Usage { what: what.into(), used, retired, limit: 65_536 };
    let fib = Fib {
        tables: vec![FibTable {
            table: 254,
            epoch: 9,
            routes: 4,
            usage: vec![usage("v4-groups", 1, 2), usage("next-hops", 1, 0)],
        }],
        routes: vec![
            route(
                "0.0.0.0/0",
                RouteTarget::Forward,
                vec![
                    hop("wan", Some("192.0.2.1"), Some("02:00:00:00:00:01"), 2),
                    hop("dmz", Some("192.0.2.9"), None, 1),
                ],
            ),
            route("10.0.0.7/32", RouteTarget::Forward, vec![hop("lan", None, Some("02:00:00:00:00:07"), 1)]),
            route("2001:db8::1/128", RouteTarget::Local, Vec::new()),
        ],
        matched: 4000,
    };
    shows(
        &Answer::Fib(fib),
        "\
TABLE  EPOCH  ROUTES  USED
  254      9       4  v4-groups 1+2/65.5k, next-hops 1/65.5k

PREFIX           TARGET
0.0.0.0/0        wan via 192.0.2.1 (02:00:00:00:00:01) weight 2, dmz via 192.0.2.9 (unresolved) weight 1
10.0.0.7/32      lan (02:00:00:00:00:07)
2001:db8::1/128  local

3 of 4,000 routes are shown; see --limit, or name a prefix
",
    );
}

#[test]
fn ledger() {
    let row = |worker, pool, leaked| LedgerRow { worker, pool, fill: 2048, leaked, ..LedgerRow::default() };
    let packets = RxEquals { rx: 1000, tx: 990, drops: 7, punted: 3, exact: true, ..RxEquals::default() };
    let mut ledger = Ledger {
        frames: 16_384,
        workers: vec![row(Some(0), 14_336, 0)],
        total: row(None, 14_336, 0),
        exact: true,
        rx_equals: packets,
    };
    shows(
        &Answer::Ledger(ledger.clone()),
        "\
WORKER    POOL   FILL  RX  BURST  TX  COMPLETION  HELD  REMOTE  MISPLACED  LEAKED
0       14,336  2,048   0      0   0           0     0       0          0       0
all     14,336  2,048   0      0   0           0     0       0          0       0

frames: 16,384, exact
packets: 1,000 rx = 990 tx + 7 drops + 3 punted, exact
",
    );
    (ledger.exact, ledger.rx_equals.exact, ledger.rx_equals.lost_in_crash) = (false, false, 2);
    let text = render(&Answer::Ledger(ledger), plain());
    assert!(text.contains("frames: 16,384, NOT EXACT\n"), "{text}");
    assert!(
        text.contains("1,000 rx ≠ 990 tx + 7 drops + 3 punted + 2 lost in crashes, NOT EXACT\n"),
        "{text}"
    );
}

#[test]
fn history() {
    let row = |number, state| HistoryRow {
        number,
        time: 1_750_000_000_000,
        hash: "6c62272e07bb014262b821756295c58d".into(),
        file: "/etc/zsync/router.toml".into(),
        by_uid: 1000,
        state,
    };
    shows(
        &Answer::History(vec![row(10, HistoryState::Pending), row(9, HistoryState::Superseded)]),
        "\
NUMBER  STATE       ACCEPTED                            UID  HASH          FILE
    10  pending     2025-06-15 15:06:40Z (1m 40s ago)  1000  6c62272e07bb  /etc/zsync/router.toml
     9  superseded  2025-06-15 15:06:40Z (1m 40s ago)  1000  6c62272e07bb  /etc/zsync/router.toml
",
    );
}

#[test]
fn plan_and_applied() {
    let config = |text: &str| parse(text, "f.toml").unwrap().spec;
    let old = "[port.wan]\nnetdev = \"eth1\"\n[port.lan]\nnetdev = \"eth2\"\n\
               [pipeline.p]\ninput = [\"wan\"]\nstages = [\"drop\"]\n";
    let new = old.replace("netdev = \"eth1\"", "netdev = \"eth1\"\ngrace = \"500ms\"\nring-size = 1024");
    let changes = diff(&config(old), &config(&new));
    let summary = "2 changes; port wan is opened anew".to_owned();
    let plan = Plan { changes: changes.clone(), warnings: Vec::new(), summary };
    let text = render(&Answer::Plan(plan), plain());
    assert!(text.contains("~ port.wan.grace: 250ms → 500ms\n"), "{text}");
    assert!(text.contains("  (reopens port wan)\n"), "{text}");
    assert!(text.ends_with("\n2 changes; port wan is opened anew\n"), "{text}");

    let applied = Applied {
        number: 8,
        epoch: 4,
        adopted_us: Some(1234),
        respawned: true,
        confirm_ms: Some(60_000),
        ..Applied::default()
    };
    shows(
        &Answer::Applied(applied),
        "\
configuration 8 is in force, epoch 4, adopted by every worker after 1.2ms; the data plane was started again
taken back in 1m 0s unless `zsyncctl confirm` comes first
",
    );
}
