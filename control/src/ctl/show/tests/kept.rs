//! What stages keep: rules, flows, mappings, peers.

use super::*;

#[test]
fn filters() {
    let stage = |pipeline: &str| FilterStage {
        pipeline: pipeline.into(),
        stage: "filter.edge".into(),
        packets: 12_345,
        drops: 45,
        rules: 3,
        default: "drop".into(),
    };
    let rule = |rule, text: &str, count: Option<(&str, u64, u64)>| RuleRow {
        stage: "filter.edge".into(),
        rule,
        text: text.into(),
        count: count.map(|(name, ..)| name.into()),
        packets: count.map(|(_, packets, _)| packets),
        bytes: count.map(|(.., bytes)| bytes),
    };
    let filters = Filters {
        stages: vec![stage("edge"), stage("guests")],
        rules: vec![
            rule(1, "{ accept = true, state = \"established\" }", None),
            rule(3, "{ drop = true, count = \"bad\", to-port = 9 }", Some(("bad", 45, 2_700))),
        ],
        matched: 3,
    };
    shows(
        &Answer::Filters(filters),
        "\
PIPELINE  STAGE        PACKETS  DROPS  RULES  DEFAULT
edge      filter.edge    12.3k     45      3  drop
guests    filter.edge    12.3k     45      3  drop

STAGE        RULE  COUNT  PACKETS  BYTES  TEXT
filter.edge     1  -            -      -  { accept = true, state = \"established\" }
filter.edge     3  bad         45   2700  { drop = true, count = \"bad\", to-port = 9 }

2 of 3 rules are shown; see --limit, or name a --stage
",
    );
}

#[test]
fn flows() {
    let flow = FlowRow {
        stage: "track.main".into(),
        protocol: "udp".into(),
        from: "10.1.0.5:40000".into(),
        to: "192.0.2.7:53".into(),
        reply_from: "192.0.2.7:53".into(),
        reply_to: "203.0.113.1:1024".into(),
        translated: Some("source".into()),
        state: "answered".into(),
        age_ms: Some(3_200),
        expires_ms: 27_000,
        ..FlowRow::default()
    };
    let other = FlowRow {
        worker: 1,
        protocol: "tcp".into(),
        from: "[fd01::5]:40000".into(),
        to: "[2001:db8::7]:443".into(),
        reply_from: "[2001:db8::7]:443".into(),
        reply_to: "[fd01::5]:40000".into(),
        translated: None,
        state: "established".into(),
        mark: 7,
        age_ms: None,
        expires_ms: 431_999_000,
        ..flow.clone()
    };
    let table = FlowTable {
        stage: "track.main".into(),
        flows: 9,
        limit: 262_144,
        weak: 2,
        half_open: 1,
        translated: 4,
        events: BTreeMap::from([("expired".into(), 12_345), ("refused-full".into(), 1)]),
    };
    let flows = Flows { tables: vec![table.clone()], flows: vec![flow, other], matched: 9 };
    shows(
        &Answer::Flows(flows),
        "\
STAGE       FLOWS  LIMIT  WEAK  HALF OPEN  TRANSLATED  SINCE ITS START
track.main      9   262k     2          1           4  12.3k expired, 1 refused-full

STAGE       WORKER  PROTOCOL  FROM             TO                 ANSWERED FROM      ANSWERED TO       STATE        TRANSLATED  MARK  AGE  ENDS IN
track.main       0  udp       10.1.0.5:40000   192.0.2.7:53       192.0.2.7:53       203.0.113.1:1024  answered     source             3s      27s
track.main       1  tcp       [fd01::5]:40000  [2001:db8::7]:443  [2001:db8::7]:443  [fd01::5]:40000   established                 7        4d 23h

2 of 9 connections are shown; see --limit, or name an address with --match
",
    );
    let none = Flows { tables: vec![FlowTable { events: BTreeMap::new(), ..table }], ..Flows::default() };
    let text = render(&Answer::Flows(none), plain());
    assert!(text.ends_with("\nno connection matches\n"), "{text}");
}

#[test]
fn mappings() {
    let row = |internal: &str, external: &str, flows| MappingRow {
        stage: "nat.edge".into(),
        worker: 0,
        protocol: "tcp".into(),
        internal: internal.into(),
        external: external.into(),
        flows,
    };
    let address = |address: &str, mappings, blocks| AddressRow {
        stage: "nat.edge".into(),
        address: address.into(),
        mappings,
        blocks: Some(blocks),
        blocks_limit: Some(1024),
    };
    let table =
        MappingTable { stage: "nat.edge".into(), mappings: 20_000, limit: 65_536, block: 64, log_lost: 3 };
    let mut mappings = Mappings {
        tables: vec![table],
        addresses: vec![address("203.0.113.1", 19_999, 400), address("2001:db8::1", 1, 1)],
        addresses_matched: 2,
        mappings: vec![
            row("10.1.0.5:40000", "203.0.113.1:40000", 2),
            row("[fd01::5]:40000", "[2001:db8::1]:1030", 1),
        ],
        matched: 20_000,
    };
    shows(
        &Answer::Mappings(mappings.clone()),
        "\
STAGE     MAPPINGS  LIMIT  BLOCK OF PORTS  LOG LOST
nat.edge     20.0k  65.5k              64         3

STAGE     ADDRESS      MAPPINGS  BLOCKS    OF
nat.edge  203.0.113.1     19.9k     400  1024
nat.edge  2001:db8::1         1       1  1024

STAGE     WORKER  PROTOCOL  INSIDE           OUTSIDE             FLOWS
nat.edge       0  tcp       10.1.0.5:40000   203.0.113.1:40000       2
nat.edge       0  tcp       [fd01::5]:40000  [2001:db8::1]:1030      1

2 of 20,000 mappings are shown; see --limit, or name an address with --match
",
    );
    mappings.addresses_matched = 3;
    let text = render(&Answer::Mappings(mappings), plain());
    assert!(text.contains("\n2 of 3 addresses are shown; see --limit\n"), "{text}");
}

#[test]
fn wireguard() {
    let end = WireguardEnd {
        name: "office".into(),
        public_key: Some("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=".into()),
        listen_port: 51_820,
        peers: 3,
        limit: 64,
        counts: [("done".to_owned(), 12), ("forged".to_owned(), 3456)].into(),
        refused: [("invalid".to_owned(), 2)].into(),
    };
    let first = WireguardPeer {
        name: "office".into(),
        public_key: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=".into(),
        endpoint: Some("[2001:db8::2]:51820".into()),
        allowed_ips: vec!["10.8.0.0/24".into(), "2001:db8:8::/64".into()],
        handshake_ms: Some(1000),
        rx_bytes: 20_000,
        tx_bytes: 7,
        ..WireguardPeer::default()
    };
    let second = WireguardPeer {
        name: "office".into(),
        public_key: "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=".into(),
        ..WireguardPeer::default()
    };
    let answer = Wireguard { ends: vec![end], peers: vec![first, second], matched: 3 };
    let text = render(&Answer::Wireguard(answer), plain());
    for line in [
        "NAME    PUBLIC KEY                                     PORT  PEERS  LIMIT",
        "office  hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=  51820      3     64",
        "NAME    HANDSHAKES  COUNT",
        "office  done           12",
        "NAME    REFUSED OF WG  COUNT",
        "office  invalid            2",
        "2 of 3 peers are shown; see --limit, or name an end",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip(4)
        .take(2)
        .map(|row| row.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
        .collect();
    assert_eq!(rows[0][2..3], ["[2001:db8::2]:51820"], "{text}");
    assert!(rows[0][3].starts_with("1970-01-01 00:00:01Z"), "{text}");
    assert_eq!(rows[0][4..], ["20.0k", "7", "10.8.0.0/24, 2001:db8:8::/64"], "{text}");
    assert_eq!(rows[1][2..], ["-", "-", "0", "0"], "{text}");
}
