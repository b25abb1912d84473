use super::*;
use crate::spec::keys::{ABSENT, Reach};

const KEYS: &[Key] = &[
    Key {
        name: "from",
        kind: Kind::Text(Text::Prefix),
        default: ABSENT,
        reach: Reach::Live,
        about: "Source.",
    },
    Key { name: "accept", kind: Kind::Switch, default: None, reach: Reach::Live, about: "Action." },
    Key {
        name: "times",
        kind: Kind::Whole { min: 1, max: 9 },
        default: Some("3"),
        reach: Reach::Live,
        about: "N.",
    },
];
static RULES: Kind = Kind::List { of: &Kind::Table(KEYS), min: 1, max: 3 };

fn check(text: &str) -> (Option<Datum>, usize) {
    let mut out = Findings::new(text, "");
    let value = DeValue::parse(text).unwrap();
    (RULES.check(&value, "filter.edge.rules", &mut out).map(|placed| placed.value), out.errors())
}

#[test]
fn a_list_of_tables_has_each_with_its_keys_and_defaults() {
    let (rules, errors) =
        check("[{ accept = true, from = \"10.0.0.0/8\" }, { accept = true }, { accept = true }]");
    let rules = rules.unwrap();
    assert_eq!((rules.items().len(), errors), (3, 0));
    let fields = rules.items()[0].value.fields().unwrap();
    assert!(fields.switch("accept") && fields.at("from").is_some() && fields.number("times") == 3);
    assert!(rules.items()[1].value.fields().unwrap().at("from").is_none());
}

#[test]
fn every_mistake_in_a_table_is_told() {
    assert_eq!(
        check("[{ from = \"10.0.0.1/8\", times = 0, acept = true }]").1,
        4,
        "two values, a key, and one that is missing"
    );
    assert_eq!(check("[]").1, 1);
    assert_eq!(check("[true]").1, 1);
}
