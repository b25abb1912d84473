//! The program itself: what it prints where, and how it exits.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::{Value, json};
use zsync_control::api::{Answer, ApiError, Applied, Code, Reply, Request, Status};

const GOOD: &str = "[port.wan]\nnetdev = \"eth1\"\n[port.lan]\nnetdev = \"eth2\"\n\
                    [pipeline.forward]\ninput = [\"wan\", \"lan\"]\nstages = [\"route\"]\n";

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("zsync-ctl-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn socket(&self) -> PathBuf {
        self.0.join("api.sock")
    }

    /// Runs it in the folder.
    fn run(&self, line: &str) -> Ran {
        self.run_with(line, "")
    }

    fn run_with(&self, line: &str, stdin: &str) -> Ran {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>(), stdin)
    }

    fn run_words(&self, words: &[&str], stdin: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_zsyncctl"))
            .args(words)
            .current_dir(&self.0)
            .env("ZSYNC_SOCKET", self.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        Ran::from(child.wait_with_output().unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Answers each request of one connection, and returns what was asked.
fn daemon(
    socket: &Path,
    answer: impl Fn(&Request) -> Result<Answer, ApiError> + Send + 'static,
) -> thread::JoinHandle<Vec<Request>> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let (id, request) = Request::read(&line).unwrap();
            let _ = lines.get_mut().write_all(&Reply::line(Some(id), answer(&request)));
            asked.push(request);
            line.clear();
        }
        asked
    })
}

#[test]
fn check_tells_good_from_bad() {
    let folder = Folder::new();
    folder.file("good.toml", GOOD);
    folder.file(
        "bad.toml",
        GOOD.replace("\"lan\"]", "\"lna\"]").replace("netdev = \"eth2\"", "netdve = \"eth2\""),
    );
    let ran = folder.run("check good.toml");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "good.toml: ok, 2 ports, 1 pipeline\n"), "{ran:?}");

    let ran = folder.run("check bad.toml good.toml");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "good.toml: ok, 2 ports, 1 pipeline\n"), "{ran:?}");
    for says in ["bad.toml:4:1", "did you mean `netdev`?", "bad.toml:6:17", "did you mean \"lan\"?", "error"]
    {
        assert!(ran.err.contains(says), "{says}: {}", ran.err);
    }
    assert!(!ran.err.contains('\x1b'), "no colour but for a terminal");

    let ran = folder.run("check --json good.toml bad.toml missing.toml");
    let all: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    assert_eq!([&all[0]["ok"], &all[1]["ok"], &all[2]["ok"]], [&json!(true), &json!(false), &json!(false)]);
    let lines: Vec<_> =
        all[1]["diagnostics"].as_array().unwrap().iter().map(|d| d["line"].as_u64()).collect();
    assert!(lines.contains(&Some(4)) && lines.contains(&Some(6)), "{lines:?}");
    assert!(all[2]["unreadable"].as_str().unwrap().starts_with("missing.toml: "));

    let ran = folder.run_with("check -", GOOD);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "<stdin>: ok, 2 ports, 1 pipeline\n"));
}

#[test]
fn check_reads_the_files_of_sets_and_tells_of_rules_that_no_packet_meets() {
    let folder = Folder::new();
    let rules = "[set.blocked]\nfile = \"blocked.txt\"\n[filter.f]\nrules = [\n  { drop = true, from = \"set.blocked\" },\n  \
                 { accept = true, protocol = \"tcp\" },\n  { drop = true, protocol = \"tcp\", to-port = 22 },\n]\n";
    let filter = GOOD.replace("stages = [", "stages = [\"filter.f\", ") + rules;
    assert_ne!(filter, GOOD.to_owned() + rules, "the example has another form");
    folder.file("filter.toml", &filter);
    folder.file("blocked.txt", "198.51.100.0/24\n2001:db8::1 # a host\n");
    let ran = folder.run("check filter.toml");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "filter.toml: ok, 2 ports, 1 pipeline\n"), "{ran:?}");
    let at = |word: &str| filter.lines().position(|line| line.contains(word)).unwrap() + 1;
    let (never, cover) = (at("to-port = 22"), at("{ accept = true, protocol"));
    let says =
        format!("no packet meets this rule of [filter.f]: the one in line {cover} takes all of its packets");
    assert!(ran.err.contains(&says) && ran.err.contains(&format!("filter.toml:{never}:3")), "{}", ran.err);
    assert!(ran.err.ends_with("1 warning\n"), "{}", ran.err);
    folder.file("blocked.txt", "198.51.100.0/24\n198.51.100.1/24\nnobody\n");
    let ran = folder.run("check filter.toml");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    for says in ["blocked.txt:2:1", "did you mean `198.51.100.0/24`?", "blocked.txt:3:1", "2 errors"] {
        assert!(ran.err.contains(says), "{says}: {}", ran.err);
    }
}

#[test]
fn files_that_are_none_of_ours() {
    let folder = Folder::new();
    folder.file("latin.toml", b"# \xe9\n");
    folder.file("large.toml", "#".repeat((32 << 20) + 1));
    for (file, says) in [
        ("latin.toml", "byte 2"),
        ("large.toml", "33554432"),
        ("missing.toml", "No such file"),
        (".", "directory"),
    ] {
        for command in ["check", "plan", "apply"] {
            let ran = folder.run(&format!("{command} {file}"));
            assert_eq!(ran.code, Some(1), "{command} {file}: {ran:?}");
            assert!(ran.err.contains(says) && ran.out.is_empty(), "{command} {file}: {ran:?}");
        }
    }
}

#[test]
fn the_shipped_examples_are_valid() {
    let folder = Folder::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/examples");
    let mut files = Vec::new();
    for file in fs::read_dir(examples).unwrap().map(|file| file.unwrap()) {
        let name = file.file_name().into_string().unwrap();
        if name.ends_with(".toml") {
            folder.file(&name, fs::read(file.path()).unwrap());
            files.push(name);
        }
    }
    assert!(!files.is_empty());
    // What one of them tells its reader to make.
    let key = folder.run("wireguard genkey");
    assert_eq!(key.code, Some(0), "{key:?}");
    folder.file("gateway.key", &key.out);
    let path = folder.0.join("gateway.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let check = format!("check {}", files.join(" "));
    let ran = folder.run(&check);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");

    // A key that everybody may read is refused, and not shown.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = folder.run(&check);
    assert!(ran.code == Some(1) && ran.err.contains("chmod 600"), "{ran:?}");
    assert!(!format!("{ran:?}").contains(key.out.trim()), "{ran:?}");
}

#[test]
fn no_daemon() {
    let folder = Folder::new();
    let ran = folder.run("status");
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.err.contains("is not running: there is no socket") && ran.err.contains("--socket"),
        "{ran:?}"
    );

    drop(UnixListener::bind(folder.socket()).unwrap());
    let ran = folder.run("show ports");
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("nobody listens"), "{ran:?}");

    folder.file("plain", "");
    let ran = folder.run("--socket plain confirm");
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("plain is no socket"), "{ran:?}");

    fs::remove_file(folder.socket()).unwrap();
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let closes = thread::spawn(move || drop(listener.accept()));
    let ran = folder.run("rollback");
    closes.join().unwrap();
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("has ended the connection"), "{ran:?}");
}

#[test]
fn answers_are_printed_and_refusals_explained() {
    let folder = Folder::new();
    let status = |_: &Request| Ok(Answer::Status(Status { version: "9.9".into(), ..Status::default() }));
    let asked = daemon(&folder.socket(), status);
    let ran = folder.run("status --json");
    let value: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &value["status"]["version"]), (Some(0), &json!("9.9")), "{ran:?}");
    assert_eq!(asked.join().unwrap(), [Request::Status]);

    fs::remove_file(folder.socket()).unwrap();
    let busy =
        |_: &Request| Err(ApiError::new(Code::Conflict, "nothing waits").remedy("apply with --confirm"));
    let asked = daemon(&folder.socket(), busy);
    let ran = folder.run("confirm");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert_eq!(ran.err, "error: nothing waits\nhelp: apply with --confirm\n");
    assert_eq!(asked.join().unwrap(), [Request::Confirm]);
}

#[test]
fn apply_sends_the_file_and_shows_what_is_wrong_with_it() {
    let folder = Folder::new();
    folder.file("r.toml", GOOD);
    let applied = |_: &Request| Ok(Answer::Applied(Applied { number: 5, ..Applied::default() }));
    let asked = daemon(&folder.socket(), applied);
    let ran = folder.run("apply r.toml --confirm 60s");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "configuration 5 is in force, epoch 0\n"), "{ran:?}");
    let asked = asked.join().unwrap();
    let [Request::Apply(source)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((source.config.as_str(), source.confirm_ms), (GOOD, Some(60_000)));
    assert!(Path::new(&source.file).is_absolute() && source.file.ends_with("/r.toml"), "{}", source.file);

    fs::remove_file(folder.socket()).unwrap();
    folder.file("r.toml", GOOD.replace("eth2", "eth1"));
    let checked = |request: &Request| {
        let Request::Plan(source) = request else { panic!("{request:?}") };
        Err(ApiError::invalid_config(zsync_pipelines::spec::parse(&source.config, &source.file).unwrap_err()))
    };
    let asked = daemon(&folder.socket(), checked);
    let ran = folder.run("plan r.toml");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.contains("--> r.toml:4:"), "the name that the user gave: {}", ran.err);
    assert!(
        ran.err.contains("4 | netdev = \"eth1\"") && ran.err.contains("nothing has changed"),
        "{}",
        ran.err
    );
    asked.join().unwrap();
}

#[test]
fn without_a_daemon_too() {
    let folder = Folder::new();
    let ran = folder.run("schema");
    let schema: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(ran.code == Some(0) && schema.is_object());
    for shell in ["bash", "zsh", "fish"] {
        let ran = folder.run(&format!("completions {shell}"));
        assert!(ran.code == Some(0) && ran.out.contains("restart-dataplane"), "{shell}");
    }
    for line in ["", "show", "show prots", "show ports 10.0.0.0/8", "apply x --confirm 5", "frobnicate"] {
        let ran = folder.run(line);
        assert!(ran.code == Some(2) && ran.out.is_empty(), "{line}: {ran:?}");
    }
    assert!(folder.run("show prots").err.contains("ports"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = Folder::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_zsyncctl"))
        .arg("schema")
        .current_dir(&folder.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// A wire, one end of which has a VLAN that is a port.
const WIRE: &str = "[port.a]\nnetdev = \"zsyncnone1\"\nvlans = { office = { id = 7 } }\n[port.b]\nnetdev = \"zsyncnone2\"\n\
                    [pipeline.wire]\ninput = [\"a\", \"b\", \"office\"]\nstages = [\"patch.w\"]\n\
                    [patch.w]\npairs = { a = \"b\", b = \"a\", office = \"b\" }\n";

/// A capture as tcpdump writes it, of this link type.
fn capture(link: u32, frames: &[Vec<u8>], cut: usize) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65535, link] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        let len = frame.len() as u32;
        for word in [0, 0, len - cut as u32, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&frame[..frame.len() - cut]);
    }
    file
}

#[test]
fn packets_and_captures_are_explained_without_a_daemon() {
    let folder = Folder::new();
    folder.file("wire.toml", WIRE);
    let packet = "udp 10.0.0.1:1 -> 10.0.0.2:2 vlan=7";
    let ran = folder.run_words(&["explain", "--config", "wire.toml", "--input", "a", "--packet", packet], "");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(
        ran.out,
        "in at office, worker 0\n  port a: arrives\n      udp 10.0.0.1:1 -> 10.0.0.2:2 vlan=7\n      tag 7; VLANs here: 7\n      \
         udp 10.0.0.1:1 -> 10.0.0.2:2\n      it comes in at port office\n  wire: patch.w — transmit by b\n      \
         the wire of the port that it came in at\n  port b: leaves — transmit by b\n      udp 10.0.0.1:1 -> 10.0.0.2:2\n\
         => transmit by b\n"
    );

    let frame = |text: &str| zsync_control::explain::PacketText::parse(text).unwrap().frame([2; 6]);
    let frames = [packet, "tcp [fd00::1]:1 -> [fd00::2]:2", "icmp 10.0.0.1 -> 10.0.0.2 vlan=9"].map(frame);
    folder.file("a.pcap", capture(1, &frames, 0));
    let ran = folder.run("explain --json --config wire.toml --input a --pcap a.pcap");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let value: Value = serde_json::from_str(&ran.out).unwrap();
    let verdicts: Vec<_> = (0..3).map(|n| value["explained"][n]["verdict"].as_str()).collect();
    let port = Some("transmit by b");
    assert_eq!(verdicts, [port, port, Some("drop: vlan-unknown")], "{value}");
    let said = value["explained"][1]["steps"][0]["matched"][0].as_str();
    assert_eq!(said, Some("tcp [fd00::1]:1 -> [fd00::2]:2 flags=syn"));

    folder.file("any.pcap", capture(113, &frames, 0));
    folder.file("cut.pcap", capture(1, &frames, 5));
    folder.file("none.pcap", "no capture at all, but some text");
    for (line, says) in [
        ("--pcap any.pcap", "any.pcap: it holds packets of link type LINUX_SLL, not of Ethernet"),
        ("--pcap cut.pcap", "cut.pcap: packet 1 is cut off after 73 of its 78 bytes"),
        ("--pcap none.pcap", "none.pcap: "),
        ("--pcap missing.pcap", "missing.pcap: No such file"),
        ("--pcap a.pcap --input c", "there is no port `c`; the ports are a, b, office"),
    ] {
        let ran = folder.run(&format!("explain --config wire.toml {line}"));
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{line}: {ran:?}");
        assert!(ran.err.starts_with(&format!("error: {says}")), "{line}: {}", ran.err);
    }
    let wrong = ["explain", "--config", "wire.toml", "--packet", "udp 10.0.0.1:1 -> 10.0.0.2:2 ttl=300"];
    let ran = folder.run_words(&wrong, "");
    assert_eq!(ran.code, Some(1));
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines[0], "error: --packet, column 34, `300`: ttl is a number from 0 to 255");
    assert_eq!(lines[2].find('^'), lines[1].find("300"), "{}", ran.err);
}
