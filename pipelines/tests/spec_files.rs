//! Files that a configuration names: sets of prefixes, what is wrong in them, and rules that no packet meets.

use std::fmt::Write as _;

use zsync_pipelines::spec::{
    Parsed, Prefix, Spec, StageSpec, Style, TextFile, diff, parse, parse_with, report, unmet,
};

const SOURCE: &str = r#"[port.a]
netdev = "eth1"
[port.b]
netdev = "eth2"
[pipeline.p]
input = ["a", "b"]
stages = ["filter.f", "route"]
[set.blocked]
prefixes = ["192.0.2.0/24"]
file = "blocked.txt"
[filter.f]
rules = [{ drop = true, from = "set.blocked" }]
"#;

/// Reads a source whose one file has this in it; else what is said of it.
fn read(source: &str, file: &str) -> Result<Parsed, String> {
    let mut reader = |path: &str| match path {
        "blocked.txt" => Ok(TextFile { name: "/etc/zsync/blocked.txt".to_owned(), text: file.into() }),
        _ => Err("no such file".to_owned()),
    };
    parse_with(source, "f.toml", &mut reader).map_err(|errors| report(&errors, source, Style::Plain))
}

fn set(spec: &Spec) -> Vec<String> {
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let mut sets = stages.filter_map(|stage| match &stage.spec {
        StageSpec::Filter(filter) => filter.sets.first(),
        _ => None,
    });
    sets.next().expect("there is one").all().map(|prefix: Prefix| prefix.to_string()).collect()
}

#[test]
fn a_set_has_the_prefixes_of_its_file_too() {
    let file = "# a list\n\n2001:db8::/32 # a network\n198.51.100.7\r\n\t10.0.0.0/8\n10.0.0.0/8\n2001:db8::1";
    let spec = read(SOURCE, file).unwrap().spec;
    let expected = ["192.0.2.0/24", "10.0.0.0/8", "198.51.100.7/32", "2001:db8::/32", "2001:db8::1/128"];
    assert_eq!(set(&spec), expected);
    assert_eq!(Spec::from_bytes(&spec.to_bytes()), Ok(spec.clone()), "what the data plane reads");
    let text = spec.to_toml();
    assert_eq!(read(&text, file).unwrap().spec.to_toml(), text);
    assert_eq!(set(&read(SOURCE, "").unwrap().spec), expected[..1], "a list may be empty");
}

#[test]
fn all_that_is_wrong_in_a_file_is_said_with_its_place() {
    let said = read(SOURCE, "10.0.0.0/8\n10.0.0.1/8\n  hosts # here\n::/129\n").unwrap_err();
    for words in [
        "/etc/zsync/blocked.txt:2:1\n",
        "did you mean `10.0.0.0/8`?",
        "/etc/zsync/blocked.txt:3:3\n  |\n3 |   hosts # here\n  |   ^^^^^\n",
        "/etc/zsync/blocked.txt:4:1\n",
        "3 errors",
    ] {
        assert!(said.contains(words), "{words} in:\n{said}");
    }
    let many: String = (0..1000).map(|line| format!("line{line}\n")).collect();
    let said = read(SOURCE, &many).unwrap_err();
    assert!(said.contains("980 more lines are neither") && said.ends_with("21 errors\n"), "{said}");
    let said = read(&SOURCE.replace("blocked.txt", "other.txt"), "").unwrap_err();
    assert!(said.contains("the file of [set.blocked] cannot be read: no such file"), "{said}");
    assert!(said.contains("f.toml:10:8"), "{said}");
    let none = SOURCE.replace("prefixes = [\"192.0.2.0/24\"]\nfile = \"blocked.txt\"\n", "");
    assert!(read(&none, "").unwrap_err().contains("[set.blocked] has neither `prefixes` nor `file`"));
    assert!(parse(SOURCE, "f.toml").is_err(), "who reads no files says so");
}

#[test]
fn who_may_not_read_the_file_is_told_where_and_not_what() {
    let errors = parse_with(SOURCE, "f.toml", &mut |_| {
        Ok(TextFile { name: "list".to_owned(), text: "root:secret\n10.9.9.1/8\n".into() })
    });
    let errors: Vec<_> = errors.unwrap_err().into_iter().map(|error| error.discreet()).collect();
    let said = report(&errors, SOURCE, Style::Plain);
    assert!(said.contains("list:1:1") && said.contains("list:2:1"), "{said}");
    assert!(!said.contains("secret") && !said.contains("10.") && !said.contains("port.a"), "{said}");
}

#[test]
fn a_file_with_other_contents_is_a_change_and_long_lists_are_not_written_down() {
    let with = |file: &str| read(SOURCE, file).unwrap().spec;
    let told = |old: &Spec, new: &Spec| -> Vec<String> {
        diff(old, new).iter().map(|change| format!("{change} | {}", change.effect)).collect()
    };
    let (old, new) = (with("10.0.0.0/8\n10.1.1.1\n"), with("10.1.1.1\n10.2.0.0/16\n"));
    assert_eq!(told(&old, &new), ["~ set.blocked.file: blocked.txt: -10.0.0.0/8, +10.2.0.0/16 | live"]);
    assert_eq!(told(&old, &with("10.1.1.1\n10.0.0.0/8")), [""; 0], "the order of a file is none");

    let rules = |rules: &[&str]| {
        read(&SOURCE.replace("\"set.blocked\" }", &format!("\"set.blocked\" }}, {}", rules.join(", "))), "")
    };
    let (a, b) = ("{ drop = true, to = \"10.0.0.0/8\" }", "{ accept = true }");
    let (ab, ba) = (rules(&[a, b]).unwrap().spec, rules(&[b, a]).unwrap().spec);
    assert_eq!(told(&ab, &ba), ["~ filter.f.rules: in another order | live"]);
    assert_eq!(told(&ab, &rules(&[a]).unwrap().spec), ["~ filter.f.rules: -{ accept = true } | live"]);
    let many: Vec<String> = (0..9).map(|n| format!("{{ drop = true, to = \"10.{n}.0.0/16\" }}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let told = told(&rules(&[a]).unwrap().spec, &rules(&many).unwrap().spec);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("~ filter.f.rules: -{ drop = true, to = \"10.0.0.0/8\" }, +{ drop"),
        "{told:?}"
    );
    assert!(told[0].ends_with("+5 more | live"), "{told:?}");
}

#[test]
fn a_rule_behind_one_that_takes_all_of_its_packets_is_warned_of() {
    let source = format!(
        "{}{}",
        SOURCE.replace("file = \"blocked.txt\"\n", "").split("rules").next().unwrap(),
        "rules = [\n  { drop = true, from = \"10.0.0.0/8\", protocol = \"tcp\" },\n  \
         { accept = true, from = \"10.1.0.0/16\", protocol = \"tcp\", to-port = 80 },\n  \
         { accept = true, from = \"10.1.0.0/16\", protocol = \"udp\", to-port = 80 },\n  \
         { count = \"all\" },\n  { accept = true },\n  { drop = true, to = \"2001:db8::/32\" },\n]\n"
    );
    let parsed = parse(&source, "f.toml").unwrap();
    let said = report(&unmet(&parsed, &source, "f.toml"), &source, Style::Plain);
    for words in [
        "no packet meets this rule of [filter.f]: the one in line 12 takes all of its packets",
        "f.toml:13:3",
        "line 12 says { drop = true, from = \"10.0.0.0/8\", protocol = \"tcp\" }",
        "f.toml:17:3",
        "2 warnings",
    ] {
        assert!(said.contains(words), "{words} in:\n{said}");
    }
}

#[test]
fn a_hundred_thousand_rules_are_looked_through() {
    let mut source =
        SOURCE.split("rules").next().unwrap().replace("file = \"blocked.txt\"\n", "") + "rules = [\n";
    for rule in 0..100_000 {
        let (a, b) = (rule >> 8 & 0xff, rule & 0xff);
        // Each of the last ones is like one a good way ahead.
        let _ = writeln!(
            source,
            "{{ drop = true, from = \"10.{}.{a}.{b}/32\", to-port = 80, protocol = \"tcp\" }},",
            (rule >> 16) % 2
        );
    }
    source += "{ accept = true, from = \"10.0.7.9/32\", protocol = \"tcp\", to-port = 80 },\n]\n";
    let parsed = parse(&source, "f.toml").unwrap();
    let found = unmet(&parsed, &source, "f.toml");
    assert_eq!(found.len(), 1, "{:?}", found.first());
    assert!(found[0].message.contains(&format!("line {}", 12 + 7 * 256 + 9)), "{:?}", found[0]);
}
