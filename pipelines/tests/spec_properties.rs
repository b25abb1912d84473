//! What holds for every input: nothing panics, every place is a place, and what is read can be written and read again.

use proptest::prelude::*;
use zsync_pipelines::spec::{Diagnostic, Spec, Style, diff, fingerprint, parse, report};

const GOOD: &str = include_str!("../examples/router.toml");

/// Parses, and checks what any diagnostic must hold.
fn survive(source: &str) {
    let found: Vec<Diagnostic> = match parse(source, "f.toml") {
        Ok(parsed) => {
            round_trip(&parsed.spec);
            parsed.warnings
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            errors
        }
    };
    let mut last = 0;
    for each in &found {
        assert!(each.span.start >= last, "not in order");
        last = each.span.start;
        assert!(source.get(each.span.clone()).is_some(), "{:?}", each.span);
        let before = &source[..each.span.start];
        assert_eq!(each.line as usize, before.matches('\n').count() + 1);
        let line = before.rsplit('\n').next().unwrap_or_default();
        assert_eq!(each.column as usize, line.chars().count() + 1);
        assert!(!each.render(source).contains(|c: char| c.is_control() && c != '\n'));
    }
    assert_eq!(report(&found, source, Style::Ansi).is_empty(), found.is_empty());
}

fn round_trip(spec: &Spec) {
    let json = serde_json::to_string(spec).unwrap();
    assert_eq!(&serde_json::from_str::<Spec>(&json).unwrap(), spec);
    let bytes = postcard::to_stdvec(spec).unwrap();
    assert_eq!(&postcard::from_bytes::<Spec>(&bytes).unwrap(), spec);
    let text = spec.to_toml();
    let again =
        parse(&text, "again").unwrap_or_else(|errors| panic!("{}", report(&errors, &text, Style::Plain)));
    assert_eq!(diff(spec, &again.spec), [], "{text}");
    let mut sorted = spec.clone();
    sorted.ports.sort_by(|a, b| a.name.cmp(&b.name));
    sorted.pipelines.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(again.spec, sorted);
    assert_eq!(fingerprint(again.spec.to_toml()), fingerprint(&text));
}

/// Pieces of configurations, right and wrong, in any order.
fn fragments() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ",",
        ".",
        "\"",
        "'",
        "\"\"\"",
        "\n",
        "\r\n",
        "\t",
        "#",
        " ",
        "\\",
        "é",
        "\u{202e}",
        "[engine]\n",
        "[control]\n",
        "[port.wan]\n",
        "[port.lan]\n",
        "[pipeline.p]\n",
        "[route.main]\n",
        "[patch.w]\n",
        "[wireguard.g]\n",
        "[\"wireguard-open.g\", \"wireguard-seal.g\", \"route\"]\n",
        "private-key-file = ",
        "peers = ",
        "[{ public-key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\", allowed-ips = [\"::/0\"] }]\n",
        "endpoint = ",
        "[port]\n",
        "[drop.x]\n",
        "workers = ",
        "frames = ",
        "frame-size = ",
        "netdev = ",
        "steer = ",
        "block = ",
        "xdp = ",
        "object = ",
        "params = ",
        "[\"a.o:b\"]\n",
        "[{ object = \"a.o\", program = \"b\", params = { c = 1 } }]\n",
        "grace = ",
        "ring-size = ",
        "mode = ",
        "input = ",
        "stages = ",
        "pairs = ",
        "table = ",
        "by-mark = ",
        "{ 7 = 9, 0x7 = 1 }\n",
        "prefixes = ",
        "ports = ",
        "\"auto\"\n",
        "\"eth1\"\n",
        "[\"wan\", \"lan\"]\n",
        "[[\"wan\", \"lan\"]]\n",
        "{ wan = \"lan\" }\n",
        "[\"route.main\"]\n",
        "[\"patch.w\"]\n",
        "[\"macswap\", \"patch.w\"]\n",
        "[\"10.0.0.0/8\", \"::/0\"]\n",
        "\"250ms\"\n",
        "4096\n",
        "-1\n",
        "0x10\n",
        "1e400\n",
        "nan\n",
        "1979-05-27\n",
        "true\n",
        "[]\n",
        "{}\n",
        "99999999999999999999\n",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

prop_compose! {
    fn port(name: &'static str, netdev: &'static str)(
        queues in prop::option::of(1u32..=64),
        steer in prop::sample::select(vec![
            "", "steer = \"all\"", "steer = { prefixes = [\"10.0.0.0/8\", \"2001:db8::/32\"] }", "steer = { ports = [\"udp/53\"] }",
        ]),
        block in prop::collection::btree_set(any::<(u32, bool)>(), 0..5),
        xdp in prop::sample::select(vec![
            "", "xdp = []", "xdp = ['we\"ird:name.o:scrub', '/lib/a.o:b']",
            "xdp = [{ object = 'a.o', program = 'b' }, { object = 'a.o', program = 'b', params = { z = 0, a_9 = 9223372036854775807, on = true } }]",
        ]),
        closed in any::<bool>(),
        grace in 10u64..=60_000,
        mode in prop::sample::select(vec!["auto", "zero-copy", "copy", "generic"]),
        ring in 6u32..=15,
        flags in any::<[bool; 3]>(),
    ) -> String {
        let block: Vec<String> = block.into_iter().map(|(bits, v6)| match v6 {
            false => format!("\"{}/32\"", std::net::Ipv4Addr::from_bits(bits)),
            true => format!("\"{}/32\"", std::net::Ipv6Addr::from_bits(u128::from(bits) << 96)),
        }).collect();
        let queues = queues.map_or("\"auto\"".to_owned(), |queues| queues.to_string());
        let failover = if closed { "closed" } else { "open" };
        format!(
            "[port.{name}]\nnetdev = '{netdev}'\nqueues = {queues}\n{steer}\n{xdp}\nblock = [{}]\nfailover = \"{failover}\"\n\
             grace = \"{grace}ms\"\nmode = \"{mode}\"\nring-size = {}\nbusy-poll = {}\nreplace = {}\npromiscuous = {}\n",
            block.join(", "), 1u32 << ring, flags[0], flags[1], flags[2],
        )
    }
}

prop_compose! {
    fn configuration()(
        wan in port("wan", "eth1"),
        lan in port("lan", "we\"ird\\"),
        workers in prop::sample::select(vec!["\"auto\"", "1", "32", "[0]", "[3, 1, 8191]"]),
        frames in prop::option::of(1024u32..=4_194_304),
        wan_first in any::<bool>(),
        pipelines in prop::sample::select(vec![
            "",
            "[pipeline.p]\ninput = [\"lan\", \"wan\"]\nstages = [\"route.r\"]\n[route.r]\ntable = 7\nby-mark = { 0x10 = 9, 4 = 7, 0 = 254 }\n",
            "[pipeline.p]\ninput = [\"wan\"]\nstages = [\"patch.w\"]\n[patch.w]\npairs = [[\"wan\", \"lan\"]]\n",
            "[pipeline.p]\ninput = [\"lan\"]\nstages = [\"reassemble\", \"decap.g\", \"vlan.v\", \"encap.g\", \"route\"]\n\
             [decap.g]\ntunnel = \"gre\"\nlocal = \"2001:db8::1\"\nremote = \"2001:db8::2\"\n\
             [encap.g]\ntunnel = { gre = 7 }\nlocal = \"192.0.2.1\"\nremote = \"192.0.2.2\"\nmtu = 1400\n\
             [vlan.v]\naction = \"pop\"\nof = 7\n",
            "[pipeline.p]\ninput = [\"lan\"]\nstages = [\"mirror.a\", \"mirror.b\", \"encap.v\", \"route\"]\n\
             [mirror.a]\nto = \"wan\"\n[mirror.b]\nto = { file = '/tmp/we\"ird.pcap' }\none-in = 9\n\
             [encap.v]\ntunnel = { vxlan = 0 }\nlocal = \"2001:DB8::1\"\nremote = \"2001:db8::2\"\n",
            "[pipeline.p]\ninput = [\"lan\"]\nstages = [\"wireguard-open.g\", \"wireguard-seal.g\", \"wireguard-seal.h\", \"route\"]\n\
             [wireguard.g]\nprivate-key-file = '/etc/we\"ird key'\nlocal = [\"2001:DB8::1\", \"192.0.2.1\"]\ndscp = 0\n\
             peers = [{ public-key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\", endpoint = \"[2001:DB8::2]:1\", keepalive = \"2m\" },\n\
             { public-key = \"TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=\", preshared-key-file = 'p\\s', allowed-ips = [\"::/0\", \"10.0.0.1\", \"10.0.0.0/8\"] }]\n\
             [wireguard.h]\nprivate-key-file = \"h\"\nlisten-port = 1\nmax-peers = 262144\n",
            "[pipeline.z]\ninput = [\"wan\"]\nstages = [\"route\"]\n[pipeline.a]\ninput = [\"lan\"]\nstages = [\"punt\"]\n",
            "[pipeline.p]\ninput = [\"lan\"]\nstages = [\"patch.w\"]\n[patch.w]\npairs = { lan = \"lan\" }\n[route.unused]\n",
        ]),
    ) -> String {
        let frames = frames.map_or("\"auto\"".to_owned(), |frames| frames.to_string());
        let (first, second) = if wan_first { (wan, lan) } else { (lan, wan) };
        format!("[engine]\nworkers = {workers}\nframes = {frames}\n{first}{second}{pipelines}")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(source in any::<String>()) {
        survive(&source);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn pieces_of_configurations(source in fragments()) {
        survive(&source);
    }

    #[test]
    fn a_good_file_with_a_hole(cut in 0..GOOD.len(), length in 0usize..20, put in "[\\PC\n]{0,4}") {
        let end = (cut + length).min(GOOD.len());
        let (cut, end) = (GOOD.floor_char_boundary(cut), GOOD.ceil_char_boundary(end));
        survive(&format!("{}{put}{}", &GOOD[..cut], &GOOD[end..]));
    }

    #[test]
    fn what_is_read_can_be_written_and_read_again(source in configuration()) {
        let parsed = parse(&source, "c.toml").unwrap_or_else(|errors| panic!("{}", report(&errors, &source, Style::Plain)));
        round_trip(&parsed.spec);
    }
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", "{a=", "a."] {
        let source = format!("x = {}", open.repeat(10_000));
        survive(&source);
        survive(&open.repeat(10_000));
    }
}

/// A megabyte of mistakes in one line takes no time that grows with its square.
#[test]
fn a_long_line_of_mistakes_is_quick() {
    let started = std::time::Instant::now();
    let items: Vec<String> =
        (0..60_000u32).map(|n| format!("\"{}/8\"", std::net::Ipv4Addr::from_bits(n))).collect();
    let source = format!("[port.a]\nnetdev = \"a\"\nblock = [{}]\n", items.join(", "));
    let errors = parse(&source, "long.toml").unwrap_err();
    assert!(errors.len() > 9_000);
    let keys: String = (0..60_000).map(|n| format!("[port.p{n}]\nx = 1\n")).collect();
    assert!(parse(&keys, "keys.toml").is_err());
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}
