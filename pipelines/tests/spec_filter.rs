//! `[filter.NAME]` and `[set.NAME]`: what is read, what is refused and in which words, and that the text comes back.

use zsync_pipelines::spec::{
    FilterAction, FilterAddresses, FilterSpec, Spec, StageSpec, Style, parse, report,
};

const HEAD: &str = r#"[port.wan]
netdev = "eth0"
[port.lan]
netdev = "eth1"
[pipeline.in]
input = ["wan"]
stages = ["filter.edge", "route"]
[pipeline.out]
input = ["lan"]
stages = ["route"]
[set.office]
prefixes = ["192.0.2.0/24", "2001:db8::/32"]
[filter.edge]
"#;

fn filter(spec: &Spec) -> &FilterSpec {
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let mut filters = stages.filter_map(|stage| match &stage.spec {
        StageSpec::Filter(filter) => Some(filter),
        _ => None,
    });
    filters.next().expect("there is one")
}

/// What is wrong with one rule: the messages, and the help of the first.
fn errors(rule: &str) -> String {
    let source = format!("{HEAD}rules = [\n  {rule},\n]\n");
    match parse(&source, "f.toml") {
        Ok(_) => String::new(),
        Err(errors) => report(&errors, &source, Style::Plain),
    }
}

#[test]
fn rules_read_like_sentences_and_come_back_the_same() {
    let source = format!(
        "{HEAD}{}",
        r#"default = "reject"
rules = [
  { accept = true, state = ["established", "related"] },
  { drop = true, from = "10.0.0.0/8", to-port = "80..443", protocol = "tcp" },
  { count = "dns", protocol = ["tcp", "udp"], to-port = [53, "853-854"], from = "set.office" },
  { mark = "0x10/0xf0", marked = 7, input = ["wan", "lan"], vlan = ["none", 7], dscp = [46, 0] },
  { goto = "out", protocol = "icmpv6", icmp = "echo-request", family = "ipv6" },
  { reject = true, protocol = "tcp", flags = "syn,!ack", fragment = "first", sample = 10 },
  { accept = true, protocol = 89, to = ["203.0.113.0/24", "203.0.115.0/24"] },
]
"#
    );
    let parsed = parse(&source, "f.toml")
        .unwrap_or_else(|errors| panic!("{}", report(&errors, &source, Style::Plain)));
    let spec = filter(&parsed.spec);
    assert_eq!(spec.rules.len(), 7);
    assert_eq!(spec.default, FilterAction::Reject);
    assert_eq!(spec.rules[0].state, 0b1100);
    assert_eq!((spec.rules[1].to_port[0], spec.rules[1].protocol[0]), ((80, 443), 6));
    assert_eq!(spec.rules[2].from, FilterAddresses::Set(0));
    assert_eq!(spec.rules[2].to_port, [(53, 53), (853, 854)]);
    assert_eq!((spec.rules[3].mark, spec.rules[3].marked), (Some((0x10, 0xf0)), Some((7, u32::MAX))));
    assert_eq!(spec.rules[4].icmp, Some((128, None)));
    assert_eq!(spec.rules[5].flags, Some((0b10, 0b1_0010)));
    assert_eq!(spec.counters, ["dns"]);
    let text = parsed.spec.to_toml();
    let again =
        parse(&text, "again").unwrap_or_else(|errors| panic!("{}", report(&errors, &text, Style::Plain)));
    assert_eq!(filter(&again.spec), spec);
    assert_eq!(again.spec.to_toml(), text);
}

#[test]
fn a_rule_that_contradicts_itself_is_refused_in_words() {
    for (rule, words) in [
        ("{ accept = true, from = \"10.0.0.0/8\", to = \"2001:db8::/32\" }", "of different families"),
        ("{ accept = true, from = \"10.0.0.0/8\", family = \"ipv6\" }", "`family` is IPv6"),
        ("{ accept = true, to-port = 80 }", "`to-port` needs a protocol that has ports"),
        ("{ accept = true, to-port = 80, protocol = [\"tcp\", \"gre\"] }", "`to-port` needs a protocol"),
        ("{ accept = true, to-port = \"443..80\", protocol = \"tcp\" }", "did you mean \"80..443\"?"),
        ("{ accept = true, to-port = 65536, protocol = \"tcp\" }", "cannot be 65536"),
        ("{ accept = true, icmp = 8 }", "`icmp` needs a protocol"),
        ("{ accept = true, icmp = \"echo-reqest\", protocol = \"icmp\" }", "did you mean \"echo-request\"?"),
        ("{ accept = true, flags = \"syn\", protocol = \"udp\" }", "`flags` are TCP's"),
        ("{ accept = true, flags = \"sin\", protocol = \"tcp\" }", "is not TCP flags"),
        ("{ accept = true, protocol = \"tpc\" }", "did you mean \"tcp\"?"),
        ("{ accept = true, protocol = \"icmp\", from = \"2001:db8::/32\" }", "ICMP is of IPv4"),
        ("{ accept = true, from = \"set.ofice\" }", "did you mean \"set.office\"?"),
        ("{ accept = true, from = \"10.0.0.1/8\" }", "did you mean \"10.0.0.0/8\"?"),
        ("{ accept = true, from = \"10.0.0.1\" }", "did you mean \"10.0.0.1/32\"?"),
        ("{ accept = true, input = \"wam\" }", "did you mean \"wan\"?"),
        ("{ accept = true, output = \"wan\" }", "a filter cannot ask for the output port"),
        ("{ goto = \"oot\" }", "did you mean \"out\"?"),
        ("{ goto = \"in\" }", "round in circles"),
        ("{ accept = true, drop = true }", "cannot both `accept` and `drop`"),
        ("{ accept = false }", "says nothing"),
        ("{ from = \"10.0.0.0/8\" }", "does nothing"),
        ("{ count = \"No\" }", "cannot name a counter"),
        ("{ mark = \"0x1f/0x10\" }", "its mask leaves out"),
        ("{ accept = true, state = \"establised\" }", "did you mean \"established\"?"),
        ("{ accpt = true }", "did you mean `accept`?"),
        ("{ accept = true, sample = 0 }", "cannot be 0"),
        ("{ accept = true, dscp = 64 }", "cannot be 64"),
    ] {
        let said = errors(rule);
        assert!(said.contains(words), "{rule}:\n{said}");
        assert!(
            said.contains("f.toml:15:") || words.contains("circles"),
            "{rule}: not where it stands:\n{said}"
        );
    }
    assert_eq!(errors("{ accept = true }"), "");
}

#[test]
fn no_goto_leads_from_a_wire_to_a_router_and_a_wire_translates_nothing() {
    let source = |wire: &str, lan: &str| {
        format!(
            "[port.wan]\nnetdev = \"eth0\"\n[port.lan]\nnetdev = \"eth1\"\n[port.far]\nnetdev = \"eth2\"\n\
             [pipeline.wire]\ninput = [\"wan\", \"lan\"]\nstages = [{wire}, \"patch.w\"]\n[pipeline.far]\n\
             input = [\"far\"]\nstages = [{lan}]\n[patch.w]\npairs = {{ wan = \"lan\", lan = \"wan\", far = \"far\" }}\n\
             [filter.f]\nrules = [{{ goto = \"far\", protocol = 4 }}]\n[nat.n]\nmasquerade = [{{ output = \"wan\" }}]\n"
        )
    };
    let said = |wire: &str, lan: &str| match parse(&source(wire, lan), "f.toml") {
        Ok(_) => String::new(),
        Err(errors) => report(&errors, &source(wire, lan), Style::Plain),
    };
    assert_eq!(said("\"filter.f\"", "\"patch.w\""), "");
    let crossed = said("\"filter.f\"", "\"route\"");
    assert!(crossed.contains("\"wire\" takes frames, and \"far\" IP packets"), "{crossed}");
    assert!(crossed.contains("f.toml:9:11"), "{crossed}");
    let translated = said("\"nat.n\"", "\"route\"");
    assert!(translated.contains("[nat.n] translates addresses"), "{translated}");
}
