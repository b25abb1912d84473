//! A command of a document, and its short form: the one place that says what a test may change of it.

use std::fmt;

/// A command that this repository has: a program of its own, a script, or cargo.
#[derive(Clone, Debug)]
pub struct Command {
    /// Document and line.
    pub origin: String,
    /// The program without its path, and its arguments.
    pub words: Vec<String>,
}

/// What is short of a run: each takes a moment, and is a whole one.
const ROUNDS: &[(&str, &str)] = &[("--rounds", "1"), ("--seconds", "1")];
const PACKETS: &[(&str, &str)] = &[("--seconds", "1")];
/// Rates that every machine makes, so that no trial waits for more than is there; and that both engines make, of which one
/// has a least rate.
const SEARCH: &[(&str, &str)] = &[
    ("--trial", "0.1"),
    ("--repeats", "1"),
    ("--time", "5"),
    ("--min-rate", "25000"),
    ("--max-rate", "40000"),
];
/// Packets per second that every machine makes.
const RATE: &str = "rate=2k";
/// A case of the gate that takes a moment; tests/gate.rs has all of them.
const CASE: &str = "pool/64/1000/hot";

impl Command {
    /// The command that this line or span is, if it is one; `None` for one without arguments, which is only a name.
    pub fn parse(origin: &str, text: &str) -> Option<Self> {
        let mut words = split(text);
        let ahead = |word: &String| {
            matches!(word.as_str(), "$" | "#" | "sudo")
                || word.split_once('=').is_some_and(|(name, _)| {
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
                })
        };
        words.drain(..words.iter().take_while(|word| ahead(word)).count());
        let end = words.iter().position(|word| {
            matches!(word.as_str(), "|" | ">" | ">>" | "2>" | "&" | "&&" | ";") || word.starts_with('#')
        });
        words.truncate(end.unwrap_or(words.len()));
        let program = words.first_mut()?;
        let name = program.rsplit('/').next().unwrap_or_default().to_owned();
        let is_script = program.starts_with("scripts/") || program.starts_with("./scripts/");
        match name.as_str() {
            "zsync-bench" | "cargo" => *program = name,
            _ if is_script => *program = program.trim_start_matches("./").to_owned(),
            _ => return None,
        }
        (is_script || words.len() > 1).then(|| Self { origin: origin.to_owned(), words })
    }

    /// Whether it is one of zsync-bench.
    pub fn is_bench(&self) -> bool {
        self.words[0] == "zsync-bench"
    }

    /// What zsync-bench is to do.
    pub fn action(&self) -> &str {
        &self.words[1]
    }

    /// Its arguments behind that which are no options, nor values of options.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let mut words = self.words.iter().skip(2).map(String::as_str).peekable();
        while let Some(word) = words.next() {
            match word {
                _ if FLAGS.contains(&word) => {}
                _ if word.starts_with('-') && word.contains('=') => {}
                _ if word.starts_with('-') => drop(words.next()),
                _ => names.push(word),
            }
        }
        names
    }

    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == name)?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// The same with an option set, behind all else: two that are the same are written alike then.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let prefix = format!("{name}=");
        self.words.retain(|word| !word.starts_with(&prefix));
        if let Some(at) = self.words.iter().position(|word| word == name) {
            self.words.drain(at..(at + 2).min(self.words.len()));
        }
        self.words.extend([name.to_owned(), value.to_owned()]);
        self
    }

    fn with_flag(mut self, name: &str) -> Self {
        if !self.words.iter().any(|word| word == name) {
            self.words.push(name.to_owned());
        }
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.words.retain(|word| word != name);
        self
    }

    /// As the test runs it: as long as it must be, and no core that is not there.
    pub fn shortened(self) -> Self {
        let all = |command: Self, options: &[(&str, &str)]| {
            options.iter().fold(command, |command, (name, value)| command.with(name, value))
        };
        let mut short = match self.action() {
            "run" | "compare" => all(self, ROUNDS),
            "search" => all(self.with_flag("--quick"), SEARCH),
            "generate" | "receive" => all(self, PACKETS),
            "peers" => self.without("--install"),
            "gate" => {
                let gate = self.without("--update").without("--ratios");
                if gate.names().is_empty() {
                    Self { words: [&gate.words[..], &[CASE.to_owned()]].concat(), ..gate }
                } else {
                    gate
                }
            }
            _ => self,
        };
        if short.action() == "generate" {
            let rates = short.words.iter_mut().filter(|word| word.starts_with("rate="));
            rates.for_each(|word| *word = RATE.to_owned());
        }
        let there = std::thread::available_parallelism().map_or(1, usize::from);
        for name in ["--cores", "--reader-cores"] {
            let Some(cores) = short.option(name) else { continue };
            let cores: Vec<String> = cores
                .split(',')
                .map(|core| {
                    (core.parse::<usize>().unwrap_or_else(|e| panic!("{short}: {e}")) % there).to_string()
                })
                .collect();
            short = short.with(name, &cores.join(","));
        }
        short
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.words.join(" "))
    }
}

/// Options without a value.
const FLAGS: &[&str] = &[
    "--json",
    "--full",
    "--quick",
    "--read",
    "--large",
    "--install",
    "--update",
    "--ratios",
    "--cold",
    "--release",
];

/// Words as a shell has them, as far as the documents use it: quotes keep spaces.
fn split(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn a_command_is_made_short_and_stays_itself() {
    let short = |text: &str| Command::parse("x", text).unwrap().shortened().words.join(" ");
    assert_eq!(
        short("zsync-bench run memory-patch --seconds 20 --rounds=7"),
        "zsync-bench run memory-patch --rounds 1 --seconds 1"
    );
    assert_eq!(
        short("zsync-bench generate --netdev eth1 --cores 64 size=imix rate=3M"),
        "zsync-bench generate --netdev eth1 size=imix rate=2k --seconds 1 --cores 0"
    );
    assert!(short("zsync-bench gate --update").ends_with(&format!("gate {CASE}")));
    assert_eq!(short("zsync-bench peers --install"), "zsync-bench peers");
    let command = Command::parse("x", "zsync-bench compare fib --json --peer 'a b'").unwrap();
    assert_eq!((command.names(), command.option("--peer")), (vec!["fib"], Some("a b")));
}
