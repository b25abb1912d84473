//! The server beside a daemon that is none, and clients that behave or don't.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("zsync-api-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("run/api.sock")
    }

    /// Groups that nobody of this machine is in.
    fn groups(&self) -> Groups {
        Groups::new("admins", "readers").in_folder(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Patience of a test with an answer that should come.
const SOON: Duration = Duration::from_secs(20);

struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &[u8]) {
        // The server may have closed: what it said before is what matters.
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// The next reply; none when the server has closed.
    fn reply(&mut self) -> Option<Reply> {
        let mut line = Vec::new();
        let read = self.0.read_until(b'\n', &mut line);
        let closed = matches!(&read, Ok(0))
            || read.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
        (!closed).then(|| serde_json::from_slice(&line).unwrap_or_else(|e| panic!("{e}: {read:?} {line:?}")))
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, ApiError> {
        self.send(&request.line(7));
        let reply = self.reply().expect("a reply");
        assert!(matches!(reply.id, Some(7) | None));
        reply.into_result()
    }

    fn code(&mut self, line: &[u8]) -> Code {
        self.send(line);
        self.reply().expect("a reply").into_result().unwrap_err().code
    }
}

/// Answers as a daemon would, each method with an answer of its own.
fn answer(request: &Request) -> Result<Answer, ApiError> {
    Ok(match request {
        Request::Status => Answer::Status(Status { pid: 1, ..Status::default() }),
        Request::Show(show) => match show.what {
            What::Ports => Answer::Ports(vec![PortRow { name: "wan".into(), ..PortRow::default() }]),
            What::Workers => {
                Answer::Workers(vec![WorkerRow { busy_percent: Some(1.5), ..WorkerRow::default() }])
            }
            What::Counters => {
                let totals = BTreeMap::from([("rx-packets".to_owned(), u64::MAX)]);
                Answer::Counters(Counters { totals, balance: i64::MIN, ..Counters::default() })
            }
            What::Fib => Answer::Fib(Fib { matched: show.rows() as u64, ..Fib::default() }),
            What::Ledger => Answer::Ledger(Ledger { exact: true, ..Ledger::default() }),
            What::Xdp => Answer::Xdp(vec![XdpRow::default()]),
            What::Backends => Answer::Backends(vec![BackendRow::default()]),
            What::Filters => {
                Answer::Filters(Filters { rules: vec![RuleRow::default()], ..Filters::default() })
            }
            What::Flows => Answer::Flows(Flows { flows: vec![FlowRow::default()], ..Flows::default() }),
            What::Mappings => {
                Answer::Mappings(Mappings { mappings: vec![MappingRow::default()], ..Mappings::default() })
            }
            What::Wireguard => {
                Answer::Wireguard(Wireguard { peers: vec![WireguardPeer::default()], ..Wireguard::default() })
            }
            What::History => Answer::History(vec![HistoryRow::default()]),
        },
        Request::Plan(source) => {
            let parsed = zsync_pipelines::spec::parse(&source.config, &source.file);
            let warnings = parsed.map_err(ApiError::invalid_config)?.warnings;
            Answer::Plan(Plan { warnings, ..Plan::default() })
        }
        Request::Apply(source) => {
            Answer::Applied(Applied { confirm_ms: source.confirm_ms, ..Applied::default() })
        }
        Request::Confirm => Answer::Confirmed(Confirmed { number: 3 }),
        Request::Rollback(to) => {
            Answer::Applied(Applied { number: to.to.unwrap_or(1), ..Applied::default() })
        }
        Request::Explain(_) => Answer::Explained(vec![ExplainedPacket::default()]),
        Request::RestartDataplane => Answer::Restarted(Restarted { pid: 9, gap_us: Some(8) }),
        Request::Drain(drain) => Answer::Drained(Drained { drained: !drain.undo, ..Drained::default() }),
    })
}

fn show(what: What) -> Request {
    Request::Show(Show { what, ..Show::default() })
}

fn source(config: &str) -> Source {
    Source { config: config.into(), file: "f.toml".into(), confirm_ms: None }
}

/// One request for each method, and for each table.
fn every() -> Vec<Request> {
    let mut all = vec![
        Request::Status,
        Request::Plan(source("")),
        Request::Apply(Source { confirm_ms: Some(60_000), ..source("") }),
        Request::Confirm,
        Request::Rollback(Rollback { to: Some(4) }),
        Request::RestartDataplane,
        Request::Drain(Drain { backend: "10.0.0.1".into(), ..Drain::default() }),
    ];
    all.extend(
        [
            What::Ports,
            What::Workers,
            What::Counters,
            What::Filters,
            What::Flows,
            What::Mappings,
            What::Wireguard,
            What::Backends,
            What::Fib,
            What::Xdp,
            What::Ledger,
            What::History,
        ]
        .map(show),
    );
    all
}

const QUICK: Limits = Limits {
    connections: 64,
    readers: 48,
    idle: SOON,
    transfer: Duration::from_millis(400),
    answer: SOON,
    line: 4096,
};

/// Runs `clients` on a thread of its own while a server and `daemon` run here.
fn served<T: Send>(
    limits: Limits,
    role: impl Fn(Credentials) -> Option<Role> + Send + Sync + 'static,
    daemon: impl Fn(Call),
    clients: impl FnOnce(&Path) -> T + Send,
) -> T {
    let folder = Folder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let path = folder.socket();
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    thread::scope(|scope| {
        let server = {
            let _inside = runtime.enter();
            Server::bind(&path, &folder.groups()).unwrap().with_limits(limits)
        };
        let clients = scope.spawn(|| {
            let result = clients(&path);
            drop(done);
            result
        });
        let (calls, mut inbox) = mpsc::channel(4);
        runtime.block_on(async {
            tokio::select! {
                () = server.serve(calls, role) => panic!("the server has ended"),
                () = async { while let Some(call) = inbox.recv().await { daemon(call) } } => {}
                _ = finished => {}
            }
        });
        drop(server);
        assert!(!path.exists(), "the socket's file goes with it");
        clients.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn dutiful(call: Call) {
    let result = answer(&call.request);
    let _ = call.reply.send(result);
}

fn admin(_: Credentials) -> Option<Role> {
    Some(Role::Admin)
}

#[test]
fn each_method_goes_round() {
    served(QUICK, admin, dutiful, |path| {
        let mut client = Client::connect(path);
        for request in every() {
            assert_eq!(client.ask(&request), answer(&request), "{request:?}");
        }
        let bad = Request::Plan(source("[prot.wan]\n"));
        let error = client.ask(&bad).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig);
        assert_eq!(error.diagnostics, answer(&bad).unwrap_err().diagnostics);
        assert!(!error.diagnostics.is_empty());
    });
}

#[test]
fn requests_sent_at_once_are_answered_in_order() {
    served(QUICK, admin, dutiful, |path| {
        let mut client = Client::connect(path);
        let lines: Vec<u8> = (0..50).flat_map(|id| every()[id as usize % 12].line(id)).collect();
        client.send(&lines);
        for id in 0..50 {
            let reply = client.reply().unwrap();
            assert_eq!(reply.id, Some(id));
            assert_eq!(reply.into_result(), answer(&every()[id as usize % 12]));
        }
    });
}

#[test]
fn who_may_do_what() {
    let looks = |request: &Request| matches!(request.method(), "status" | "show" | "plan");
    // The daemon sees who asks, and nothing that its peer may not ask for.
    let me = rustix::process::geteuid().as_raw();
    for role in [Role::Admin, Role::Reader] {
        let watchful = move |call: Call| {
            assert_eq!((call.who.role, call.who.uid), (role, me));
            assert_eq!(call.who.pid, i32::try_from(std::process::id()).ok());
            assert!(role == Role::Admin || looks(&call.request), "{:?}", call.request);
            dutiful(call);
        };
        served(
            QUICK,
            move |_| Some(role),
            watchful,
            |path| {
                let mut client = Client::connect(path);
                for request in every() {
                    let got = client.ask(&request);
                    if role == Role::Admin || looks(&request) {
                        assert_eq!(got, answer(&request));
                    } else {
                        let error = got.unwrap_err();
                        assert_eq!(error.code, Code::Forbidden);
                        assert!(error.remedy.unwrap().contains("admin-group"));
                    }
                }
            },
        );
    }
    served(
        QUICK,
        |_| None,
        |call| panic!("{call:?}"),
        |path| {
            let mut client = Client::connect(path);
            assert_eq!(client.code(&Request::Status.line(1)), Code::Forbidden);
            assert!(client.reply().is_none(), "closed");
        },
    );
}

#[test]
fn what_is_no_request_is_refused_and_the_next_one_served() {
    served(QUICK, admin, dutiful, |path| {
        let mut client = Client::connect(path);
        assert_eq!(client.code(b"\n"), Code::Malformed);
        assert_eq!(client.code(b"\xff\xfe\0\n"), Code::Malformed);
        assert_eq!(client.code(b"{\"id\":1,\"method\":\"status\"} {}\n"), Code::Malformed);
        assert_eq!(client.code(b"{\"id\":1,\"method\":\"stats\"}\n"), Code::UnknownMethod);
        assert_eq!(
            client.code(b"{\"id\":1,\"method\":\"show\",\"params\":{\"what\":\"x\"}}\n"),
            Code::BadParams
        );
        assert!(client.ask(&Request::Status).is_ok());
    });
}

#[test]
fn a_long_line_is_refused_and_one_at_the_limit_served() {
    served(QUICK, admin, dutiful, |path| {
        let mut line = Request::Apply(source("")).line(1);
        let missing = QUICK.line + 1 - line.len();
        line = Request::Apply(source(&"x".repeat(missing))).line(1);
        assert_eq!(line.len(), QUICK.line + 1, "the line break does not count");
        let mut client = Client::connect(path);
        client.send(&line);
        assert!(client.reply().unwrap().into_result().is_ok());
        line.insert(0, b' ');
        assert_eq!(client.code(&line), Code::TooLarge);
        assert!(client.reply().is_none(), "closed");
        // Also when it never ends.
        let mut endless = Client::connect(path);
        assert_eq!(endless.code(&vec![b'x'; 1 << 20]), Code::TooLarge);
    });
}

#[test]
fn slow_and_half_open_clients_hold_nobody_up() {
    let limits = Limits { idle: Duration::from_secs(1), line: MAX_LINE, ..QUICK };
    // An answer that no socket's buffer takes at once.
    let large = |call: Call| {
        let row = PortRow { name: "x".repeat(1 << 20), ..PortRow::default() };
        let _ = call.reply.send(Ok(Answer::Ports(vec![row; 8])));
    };
    served(limits, admin, large, |path| {
        let start = Instant::now();
        let mut half = Client::connect(path);
        half.send(b"{\"id\":1,");
        let mut deaf = Client::connect(path);
        deaf.send(&Request::Status.line(1));
        let mut silent = Client::connect(path);
        let gone = Client::connect(path);
        gone.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
        let mut closed = Client::connect(path);
        closed.send(&Request::Status.line(1));
        drop(closed);

        assert!(Client::connect(path).ask(&Request::Status).is_ok());
        let error = half.reply().unwrap().into_result().unwrap_err();
        assert_eq!(error.code, Code::Timeout);
        assert!(half.reply().is_none() && silent.reply().is_none());
        let waited = start.elapsed();
        assert!(waited >= limits.idle && waited < SOON, "{waited:?}");
        // The server gave up on the answer that was not taken: it ends early.
        let mut taken = Vec::new();
        let _ = deaf.0.read_to_end(&mut taken);
        assert!(taken.len() < 8 << 20, "{}", taken.len());
    });
}

#[test]
fn as_many_connections_as_there_are_seats() {
    // Every second connection is a reader's.
    let limits = Limits { readers: 16, ..QUICK };
    let count = AtomicU32::new(0);
    let role = move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0..20 => Some(Role::Reader),
        _ => Some(Role::Admin),
    };
    served(limits, role, dutiful, |path| {
        // One after the other, so that it is known who is who.
        let sit = || {
            let mut client = Client::connect(path);
            let result = client.ask(&Request::Status);
            (client, result.map(drop).map_err(|error| error.code))
        };
        let readers: Vec<_> = (0..20).map(|_| sit()).collect();
        assert!(readers[..16].iter().all(|(_, result)| result.is_ok()));
        assert!(
            readers[16..].iter().all(|(_, result)| *result == Err(Code::Busy)),
            "readers leave seats free"
        );
        let mut admins: Vec<_> = (0..48).map(|_| sit()).collect();
        assert!(admins.iter().all(|(_, result)| result.is_ok()));
        assert_eq!(sit().1, Err(Code::Busy));
        // All 64 are served still, at once.
        let seated = readers.into_iter().take(16).chain(admins.drain(..));
        let mut seated: Vec<Client> = seated.map(|(client, _)| client).collect();
        seated.iter_mut().for_each(|client| client.send(&Request::Status.line(2)));
        assert!(seated.iter_mut().all(|client| client.reply().unwrap().into_result().is_ok()));
        // A seat that becomes free is given again.
        drop(seated);
        let start = Instant::now();
        while sit().1.is_err() {
            assert!(start.elapsed() < SOON, "no seat has become free");
            thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn a_daemon_that_does_not_answer() {
    let limits = Limits { answer: Duration::from_millis(200), ..QUICK };
    let kept = std::cell::RefCell::new(Vec::new());
    let daemon = |call: Call| match call.request {
        Request::Confirm => drop(call),
        _ => kept.borrow_mut().push(call),
    };
    served(limits, admin, daemon, |path| {
        let mut client = Client::connect(path);
        assert_eq!(client.ask(&Request::Confirm).unwrap_err().code, Code::Internal);
        assert_eq!(client.ask(&Request::Status).unwrap_err().code, Code::Timeout);
        assert_eq!(client.ask(&Request::Confirm).unwrap_err().code, Code::Internal, "the connection goes on");
    });
}

#[tokio::test(flavor = "current_thread")]
async fn the_server_ends_with_the_daemon() {
    let folder = Folder::new();
    let server = Server::bind(&folder.socket(), &folder.groups()).unwrap();
    let (calls, inbox) = mpsc::channel(1);
    drop(inbox);
    tokio::time::timeout(SOON, server.serve(calls, admin)).await.expect("it ends");
}

#[tokio::test(flavor = "current_thread")]
async fn a_path_has_one_server() {
    let folder = Folder::new();
    let (path, groups) = (folder.socket(), folder.groups());
    let first = Server::bind(&path, &groups).unwrap();
    let error = Server::bind(&path, &groups).unwrap_err();
    let me = i32::try_from(std::process::id()).ok();
    assert!(matches!(&error, BindError::InUse { pid, .. } if *pid == me), "{error}");
    assert!(path.exists(), "a failed attempt leaves the other's socket");

    // A process that was killed leaves its socket behind.
    fs::rename(&path, folder.0.join("aside")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let second = Server::bind(&path, &groups).unwrap();
    fs::rename(folder.0.join("aside"), folder.0.join("other")).unwrap();
    drop(first);
    assert!(path.exists(), "the first one's end leaves its successor's socket");
    drop(second);
    assert!(!path.exists());

    fs::write(&path, "dear diary").unwrap();
    let error = Server::bind(&path, &groups).unwrap_err();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"dear diary");
    let error = Server::bind(&folder.0.join("no/such/api.sock"), &groups).unwrap_err();
    assert!(matches!(error, BindError::Folder { .. }), "{error}");
}

#[tokio::test(flavor = "current_thread")]
async fn the_file_is_for_both_groups() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "another group's file needs root");
        println!("SKIPPED: giving a file to another group needs root");
        return;
    }
    let folder = Folder::new();
    let (path, groups) = (folder.socket(), folder.groups());
    let server = Server::bind(&path, &groups).unwrap();
    let mode =
        |path: &Path| fs::metadata(path).map(|file| (file.permissions().mode() & 0o777, file.gid())).unwrap();
    assert_eq!(mode(&path), (0o660, rustix::process::getegid().as_raw()), "no groups: the owner's alone");
    fs::write(folder.0.join("group"), "admins:x:60001:\nreaders:x:60002:\n").unwrap();
    server.permit(&groups).unwrap();
    assert_eq!(mode(&path), (0o660, 60_001));

    let mut acl = vec![0; 256];
    match rustix::fs::getxattr(&path, "system.posix_acl_access", &mut acl) {
        Ok(length) => {
            let entries: Vec<&[u8]> = acl[4..length].chunks(8).collect();
            let group = [8, 0, 6, 0, 0x62, 0xea, 0, 0]; // ACL_GROUP, rw, 60002
            assert!(entries.contains(&group.as_slice()), "{entries:?}");
        }
        Err(error) => println!("no access control lists in {}: {error}", folder.0.display()),
    }
    // Said twice, it is the same.
    server.permit(&groups).unwrap();
    assert_eq!(mode(&path), (0o660, 60_001));
}

proptest! {
    /// No bytes make it panic, and whatever it takes for a request is one that it would write.
    #[test]
    fn any_bytes_are_a_request_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Request::read(&bytes);
    }

    #[test]
    fn broken_requests_are_refused_or_read(which in 0..12_usize, at in any::<prop::sample::Index>(), byte: u8) {
        let mut line = every()[which].line(1);
        let at = at.index(line.len());
        line[at] = byte;
        if let Ok((id, request)) = Request::read(&line) {
            let again = Request::read(&request.line(id)).unwrap();
            prop_assert_eq!(again, (id, request));
        }
    }
}
