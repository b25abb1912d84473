//! A server in a folder of its own, a daemon that answers, and a client.

use super::*;

/// A folder that goes with the test.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("zsync-api-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("run/api.sock")
    }

    /// Groups that nobody of this machine is in.
    pub(super) fn groups(&self) -> Groups {
        Groups::new("admins", "readers").in_folder(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Patience of a test with an answer that should come.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) struct Client(pub(super) BufReader<UnixStream>);

impl Client {
    pub(super) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        // The server may have closed: what it said before is what matters.
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// The next reply; none when the server has closed.
    pub(super) fn reply(&mut self) -> Option<Reply> {
        let mut line = Vec::new();
        let read = self.0.read_until(b'\n', &mut line);
        let closed = matches!(&read, Ok(0))
            || read.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
        (!closed).then(|| serde_json::from_slice(&line).unwrap_or_else(|e| panic!("{e}: {read:?} {line:?}")))
    }

    pub(super) fn ask(&mut self, request: &Request) -> Result<Answer, ApiError> {
        self.send(&request.line(7));
        let reply = self.reply().expect("a reply");
        assert!(matches!(reply.id, Some(7) | None));
        reply.into_result()
    }

    pub(super) fn code(&mut self, line: &[u8]) -> Code {
        self.send(line);
        self.reply().expect("a reply").into_result().unwrap_err().code
    }
}

/// Answers as a daemon would, each method with an answer of its own.
pub(super) fn answer(request: &Request) -> Result<Answer, ApiError> {
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
            What::Tasks => Answer::Tasks(Tasks { workers: vec![WorkerTasks::default()] }),
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

pub(super) fn show(what: What) -> Request {
    Request::Show(Show { what, ..Show::default() })
}

pub(super) fn source(config: &str) -> Source {
    Source { config: config.into(), file: "f.toml".into(), confirm_ms: None }
}

/// One request for each method, and for each table.
pub(super) fn every() -> Vec<Request> {
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
            What::Tasks,
            What::History,
        ]
        .map(show),
    );
    all
}

pub(super) const QUICK: Limits = Limits {
    connections: 64,
    readers: 48,
    idle: SOON,
    transfer: Duration::from_millis(400),
    answer: SOON,
    line: 4096,
};

/// Runs `clients` on a thread of its own while a server and `daemon` run here.
pub(super) fn served<T: Send>(
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

pub(super) fn dutiful(call: Call) {
    let result = answer(&call.request);
    let _ = call.reply.send(result);
}

pub(super) fn admin(_: Credentials) -> Option<Role> {
    Some(Role::Admin)
}
