//! Names: what a name may be, and the ports by name.

use std::collections::BTreeMap;
use std::ops::Range;

use super::datum::Placed;
use super::findings::Findings;
use super::kind::one_of;
use super::model::PortId;
use super::nearest::nearest;

/// What a name is, as a regular expression (for the schema).
pub(crate) const NAME_PATTERN: &str = "^[a-z][a-z0-9_-]{0,31}$";

/// Whether a text can name a port, a pipeline or a stage's table.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
        && text.len() <= 32
}

/// Reports a name that cannot be one.
pub(crate) fn check_name(name: &Placed<String>, what: &str, out: &mut Findings<'_>) {
    if is_name(&name.value) {
        return;
    }
    let small = name.value.to_ascii_lowercase();
    out.error(&name.span, format!("\"{}\" cannot name a {what}", name.value))
        .expected("a small letter, then at most 31 small letters, digits, `-` and `_`")
        .suggest(Some(small).filter(|small| is_name(small)));
}

/// What a table may refer to by name.
pub(crate) struct Names {
    pub(crate) ports: PortNames,
    pub(crate) sets: Vec<super::filter::FilterSet>,
    /// In the order of the file: a pipeline's place is its number.
    pub(crate) pipelines: Vec<String>,
}

impl Names {
    /// The number of a pipeline; reports one that there is not.
    pub(crate) fn pipeline(&self, name: &str, span: &Range<usize>, out: &mut Findings<'_>) -> Option<u16> {
        let number = self.pipelines.iter().position(|known| known == name);
        if number.is_none() {
            let names = || self.pipelines.iter().map(String::as_str);
            out.error(span, format!("there is no pipeline \"{name}\""))
                .expected(one_of(&names().map(|name| format!("\"{name}\"")).collect::<Vec<_>>()))
                .suggest(nearest(name, names()).map(|name| format!("\"{name}\"")));
        }
        number.and_then(|number| u16::try_from(number).ok())
    }
}

/// The ports of a configuration by name, and their ids.
pub(crate) struct PortNames {
    ids: BTreeMap<String, PortId>,
}

impl PortNames {
    pub(crate) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut ids: BTreeMap<String, PortId> = names.map(|name| (name.to_owned(), PortId(0))).collect();
        for (index, id) in ids.values_mut().enumerate() {
            *id = PortId(u16::try_from(index).unwrap_or(u16::MAX));
        }
        Self { ids }
    }

    /// Adds the names of VLANs, whose ids follow those of the others; gives those that were taken.
    pub(crate) fn add_vlans<'n>(
        &mut self,
        names: impl Iterator<Item = &'n Placed<String>>,
    ) -> Vec<&'n Placed<String>> {
        let mut taken = Vec::new();
        let mut new: BTreeMap<&str, &Placed<String>> = BTreeMap::new();
        for name in names {
            if self.ids.contains_key(&name.value) || new.insert(&name.value, name).is_some() {
                taken.push(name);
            }
        }
        for (name, _) in new {
            let id = u16::try_from(self.ids.len()).unwrap_or(u16::MAX);
            self.ids.insert(name.to_owned(), PortId(id));
        }
        taken
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn id(&self, name: &str) -> Option<PortId> {
        self.ids.get(name).copied()
    }

    pub(crate) fn name(&self, id: PortId) -> &str {
        self.ids.iter().find(|(_, known)| **known == id).map_or("", |(name, _)| name.as_str())
    }

    /// The port of a name that stands as text in the file; reports one that there is not.
    pub(crate) fn known(&self, name: &str, span: &Range<usize>, out: &mut Findings<'_>) -> Option<PortId> {
        self.look(name, span, "\"", out)
    }

    /// [`known`](Self::known) for a name that stands as a key in the file.
    pub(crate) fn known_key(
        &self,
        name: &str,
        span: &Range<usize>,
        out: &mut Findings<'_>,
    ) -> Option<PortId> {
        self.look(name, span, "", out)
    }

    fn look(&self, name: &str, span: &Range<usize>, quote: &str, out: &mut Findings<'_>) -> Option<PortId> {
        let id = self.id(name);
        if id.is_none() {
            let names = || self.ids.keys().map(String::as_str);
            let found = out
                .error(span, format!("there is no port \"{name}\""))
                .suggest(nearest(name, names()).map(|name| format!("{quote}{name}{quote}")));
            if self.ids.is_empty() {
                found.help(format!("add a table [port.{}]", if is_name(name) { name } else { "NAME" }));
            } else {
                found.expected(one_of(&names().map(|name| format!("\"{name}\"")).collect::<Vec<_>>()));
            }
        }
        id
    }
}
