//! A document: its blocks, the commands in them, and which of them have figures.
//!
//! Knows as much of Markdown as the documents use: headings, fenced code, tables, paragraphs, code between backticks.

use crate::command::Command;

/// What follows a number that somebody measured.
const UNITS: [&str; 14] = [
    "M packets",
    "k packets",
    "packets/s",
    "packets per",
    "packets lost",
    "Mpps",
    "kpps",
    "ns",
    "µs",
    "ms",
    "clocks",
    "instructions",
    "Mbit/s",
    "%",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Heading,
    Paragraph,
    Table,
    /// Fenced; not of a language that is told, such as TOML.
    Code,
    /// Fenced, of a language.
    Listing,
}

#[derive(Debug)]
pub struct Block {
    pub kind: Kind,
    /// Its first line's number.
    pub line: usize,
    pub lines: Vec<String>,
}

#[derive(Debug)]
pub struct Document {
    pub name: String,
    pub blocks: Vec<Block>,
}

impl Document {
    pub fn parse(name: &str, text: &str) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        let (mut fenced, mut fresh) = (false, true);
        for (at, line) in text.lines().enumerate() {
            let mut begin = |kind| blocks.push(Block { kind, line: at + 1, lines: Vec::new() });
            if let Some(language) = line.trim_start().strip_prefix("```") {
                if !fenced {
                    begin(if language.is_empty() { Kind::Code } else { Kind::Listing });
                }
                (fenced, fresh) = (!fenced, true);
                continue;
            }
            let kind = match line {
                _ if fenced => None,
                _ if line.trim().is_empty() => {
                    fresh = true;
                    continue;
                }
                _ if line.starts_with('#') => Some(Kind::Heading),
                _ if line.starts_with('|') => Some(Kind::Table),
                _ => Some(Kind::Paragraph),
            };
            if let Some(kind) = kind {
                if fresh || kind == Kind::Heading {
                    begin(kind);
                }
                fresh = kind == Kind::Heading;
            }
            if let Some(block) = blocks.last_mut() {
                block.lines.push(line.to_owned());
            }
        }
        assert!(!fenced, "{name}: a fence stays open");
        Self { name: name.to_owned(), blocks }
    }

    /// All of its commands, with where they stand.
    pub fn commands(&self) -> Vec<Command> {
        self.blocks.iter().flat_map(|block| block.commands(&self.name)).collect()
    }

    /// Figures that have no command. A section's first figure stands in the block of a command or behind one; a table with a
    /// column of commands has one in each row; what a program printed has its command in the block before it, or its own.
    pub fn figures_without_commands(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut known = false;
        for (at, block) in self.blocks.iter().enumerate() {
            if block.kind == Kind::Heading && block.lines[0].starts_with("## ") {
                known = false;
            }
            let own = !block.commands(&self.name).is_empty();
            known |= own;
            let place = format!("{}:{}", self.name, block.line);
            if block.has_figure() && !known {
                found.push(format!("{place}: a figure, and no command in its section before it"));
            }
            let before = at.checked_sub(1).map(|before| &self.blocks[before]);
            if block.kind == Kind::Code
                && block.has_figure()
                && !own
                && before.is_none_or(|before| before.commands(&self.name).is_empty())
            {
                found.push(format!("{place}: an output, and no command in the block before it"));
            }
            if block.kind == Kind::Table && block.lines[0].trim_end().ends_with("| command |") {
                let rows = block.lines.iter().enumerate().skip(2);
                let bare = rows.filter(|(_, row)| {
                    let cell = row.trim_end().trim_end_matches('|').rsplit(" | ").next().unwrap_or_default();
                    spans(cell).all(|span| Command::parse("", &span).is_none())
                });
                let line =
                    |row: usize| format!("{}:{}: a row without its command", self.name, block.line + row);
                found.extend(bare.map(|(row, _)| line(row)));
            }
        }
        found
    }
}

impl Block {
    fn commands(&self, document: &str) -> Vec<Command> {
        let named =
            |(at, text): (usize, String)| Command::parse(&format!("{document}:{}", self.line + at), &text);
        match self.kind {
            Kind::Code => {
                // The fence is the first line.
                let lines = self.lines.join("\n").replace("\\\n", " ");
                lines
                    .lines()
                    .map(str::to_owned)
                    .enumerate()
                    .map(|(at, l)| (at + 1, l))
                    .filter_map(named)
                    .collect()
            }
            Kind::Listing => Vec::new(),
            Kind::Table => {
                let each = self.lines.iter().enumerate();
                each.flat_map(|(at, line)| spans(line).map(move |span| (at, span)))
                    .filter_map(named)
                    .collect()
            }
            Kind::Heading | Kind::Paragraph => {
                let text = self.lines.join("\n");
                spans(&text)
                    .map(|span| {
                        let at = text.find(&span).map_or(0, |from| text[..from].matches('\n').count());
                        (at, span.replace('\n', " "))
                    })
                    .filter_map(named)
                    .collect()
            }
        }
    }

    fn has_figure(&self) -> bool {
        match self.kind {
            Kind::Table => self.lines.iter().skip(2).any(|row| row.contains(|c: char| c.is_ascii_digit())),
            Kind::Listing | Kind::Heading => false,
            Kind::Paragraph | Kind::Code => measured(&self.lines.join(" ")),
        }
    }
}

/// Whether a number with a unit that can be measured is in it.
fn measured(text: &str) -> bool {
    let ends = text.char_indices().filter(|(_, c)| *c == ' ').map(|(at, _)| at);
    ends.filter(|&at| text[..at].ends_with(|c: char| c.is_ascii_digit()))
        .any(|at| UNITS.iter().any(|unit| is_unit(&text[at + 1..], unit)))
}

fn is_unit(text: &str, unit: &str) -> bool {
    text.strip_prefix(unit).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
}

/// What stands between backticks.
fn spans(text: &str) -> impl Iterator<Item = String> {
    let parts: Vec<String> = text.split('`').map(str::to_owned).collect();
    let whole = parts.len() / 2;
    parts.into_iter().skip(1).step_by(2).take(whole)
}

#[test]
fn a_figure_without_a_command_is_found_wherever_it_stands() {
    let missing = |text: &str| Document::parse("x", text).figures_without_commands();
    for text in [
        "## A\n\nIt makes 3 M packets/s.\n\n`zsync-bench run fib`\n",
        "`zsync-bench run fib`\n\n## B\n\n| a | b |\n|---|---|\n| c | 7 |\n",
        "| a | command |\n|---|---|\n| 7 | `zsync-bench run fib` |\n| 8 | no |\n",
        "`zsync-bench run fib`\n\nAs it was:\n\n```\nit took 7 ns\n```\n",
        "With `zsync-bench` alone: 7 clocks\n",
    ] {
        assert_eq!(missing(text).len(), 1, "{text}");
    }
    for text in [
        "## A\n\n`zsync-bench run fib` makes 3 M packets/s.\n\n| a | b |\n|---|---|\n| c | 7 |\n",
        "## A\n\nA load of 7, in `cargo build`.\n\n```toml\ngrace = 7 ms\n```\n",
        "```\nscripts/demo  # 7 ms\n```\n",
    ] {
        assert_eq!(missing(text), [""; 0], "{text}");
    }
}

#[test]
fn commands_are_found_with_their_lines_in_text_in_tables_and_in_code() {
    let text = "a `zsync-bench run\nacl`, `x`\n\n| `cargo build` |\n\n```\n$ sudo A=b ./target/zsync-bench list | head # c\n\nzsync-bench run \\\n  fib\n```\n";
    let found: Vec<String> = Document::parse("x", text).commands().iter().map(Command::to_string).collect();
    assert_eq!(
        found,
        ["x:1: zsync-bench run acl", "x:4: cargo build", "x:7: zsync-bench list", "x:9: zsync-bench run fib"]
    );
}
