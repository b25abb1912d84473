//! The JSON schema of the configuration, for editors. It is made from the tables of [`keys`](super::keys) that the
//! decoder reads too, so the two cannot drift apart.
//!
//! Draft 7, which editors' TOML plug-ins know. A schema cannot say that names must exist; the rest it says.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use super::keys::{Key, Section, sections};
use super::kind::{Kind, Text};
use super::names::NAME_PATTERN;

/// A name as C has it.
const SYMBOL_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]{0,127}$";

/// The schema of a configuration file.
#[must_use]
pub fn json_schema() -> Value {
    let properties: Map<String, Value> =
        sections().map(|section| (section.name.to_owned(), section_schema(section))).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "zsync configuration",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn section_schema(section: &Section) -> Value {
    let mut table = keys_schema(section.keys);
    match (section.named, &mut table) {
        (Some(limit), _) => json!({
            "description": section.about,
            "type": "object",
            "patternProperties": { NAME_PATTERN: table },
            "additionalProperties": false,
            "maxProperties": limit,
        }),
        (None, Value::Object(fields)) => {
            fields.insert("description".into(), section.about.into());
            table
        }
        (None, _) => table,
    }
}

/// A table with these keys.
fn keys_schema(keys: &[Key]) -> Value {
    let mut properties = Map::new();
    for key in keys {
        let mut schema = key.kind.schema();
        if let Value::Object(fields) = &mut schema {
            fields.insert("description".into(), key.about.into());
            if let Some(default) = key.default.and_then(|text| DeValue::parse(text).ok()) {
                fields.insert("default".into(), json_value(default.get_ref()));
            }
        }
        properties.insert(key.name.to_owned(), schema);
    }
    let required: Vec<&str> = keys.iter().filter(|key| key.default.is_none()).map(|key| key.name).collect();
    let mut table = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if let (Value::Object(fields), false) = (&mut table, required.is_empty()) {
        fields.insert("required".into(), required.into());
    }
    table
}

impl Kind {
    fn schema(&self) -> Value {
        match self {
            Kind::Switch => json!({ "type": "boolean" }),
            Kind::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Kind::PowerOfTwo { min, max } => {
                let powers = std::iter::successors(Some(*min), |power| power.checked_mul(2));
                json!({ "enum": powers.take_while(|power| power <= max).collect::<Vec<_>>() })
            }
            Kind::Size(sizes) => {
                let texts =
                    sizes.iter().filter(|size| *size % 1024 == 0).map(|size| format!("{}KiB", size / 1024));
                let all: Vec<Value> =
                    sizes.iter().map(|size| json!(size)).chain(texts.map(Value::from)).collect();
                json!({ "enum": all })
            }
            Kind::Word(words) => json!({ "enum": words }),
            Kind::Period { .. } => json!({ "type": "string", "pattern": "^[0-9]+ *(ms|s)$" }),
            Kind::Text(meaning) => match meaning {
                Text::Account => json!({ "type": "string", "pattern": "^[a-z_][a-z0-9_-]{0,31}$" }),
                Text::Netdev => json!({ "type": "string", "pattern": "^[^/:\\s]{1,15}$" }),
                Text::Port => json!({ "type": "string", "pattern": NAME_PATTERN }),
                Text::Stage => json!({ "type": "string", "pattern": "^[a-z-]+(\\.[a-z][a-z0-9_-]{0,31})?$" }),
                Text::Phrase(_) => json!({ "type": "string" }),
                Text::Prefix => json!({ "type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]{1,3}$" }),
                Text::Form(form) => json!({ "type": "string", "pattern": form.pattern }),
                Text::Path => json!({ "type": "string", "minLength": 1 }),
                Text::Symbol => json!({ "type": "string", "pattern": SYMBOL_PATTERN }),
                Text::PathAndSymbol => json!({ "type": "string", "pattern": "^.+:[A-Za-z_][A-Za-z0-9_]*$" }),
                Text::Checked { .. } => json!({ "type": "string" }),
                Text::Address => json!({ "type": "string", "pattern": "^[0-9a-fA-F:.]+$" }),
                Text::AbsolutePath => json!({ "type": "string", "pattern": "^/.*[^/]$" }),
                Text::Service => json!({ "type": "string", "pattern": "^(tcp|udp)/[0-9]{1,5}$" }),
                Text::Hosts => json!({ "type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$" }),
                Text::Services => {
                    json!({ "type": "string", "pattern": "^(tcp|udp)/[0-9]{1,5}(-[0-9]{1,5})?$" })
                }
                Text::Socket => json!({ "type": "string", "pattern": "^[][0-9a-fA-F:.]+:[0-9]{1,5}$" }),
                Text::Ports => json!({ "type": "string", "pattern": "^[0-9]{1,5}-[0-9]{1,5}$" }),
            },
            Kind::List { of, min, max } => json!({
                "type": "array", "items": of.schema(), "minItems": min, "maxItems": max,
                "uniqueItems": !matches!(of, Kind::Table(_)),
            }),
            Kind::ByPort(of) => json!({
                "type": "object", "patternProperties": { NAME_PATTERN: of.schema() }, "additionalProperties": false,
            }),
            Kind::ByName(of, max) => json!({
                "type": "object", "patternProperties": { SYMBOL_PATTERN: of.schema() }, "additionalProperties": false,
                "maxProperties": max,
            }),
            Kind::ByNumber { of, .. } => json!({
                "type": "object", "patternProperties": { "^(0x[0-9a-fA-F]+|[0-9]+)$": of.schema() },
                "additionalProperties": false,
            }),
            Kind::OneKey(keys) => {
                let properties: Map<String, Value> =
                    keys.iter().map(|(name, kind)| ((*name).to_owned(), kind.schema())).collect();
                json!({
                    "type": "object", "properties": properties, "additionalProperties": false,
                    "minProperties": 1, "maxProperties": 1,
                })
            }
            Kind::Table(keys) => keys_schema(keys),
            Kind::Either(forms) => json!({ "anyOf": forms.iter().map(Kind::schema).collect::<Vec<_>>() }),
        }
    }
}

/// The TOML that defaults are written in, as JSON.
fn json_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => json!(text),
        DeValue::Integer(number) => json!(number.as_str().parse::<u64>().ok()),
        DeValue::Boolean(on) => json!(on),
        DeValue::Array(items) => items.iter().map(|item| json_value(item.get_ref())).collect(),
        DeValue::Table(table) if table.is_empty() => json!({}),
        DeValue::Table(_) | DeValue::Float(_) | DeValue::Datetime(_) => Value::Null,
    }
}
