//! The sandbox, tried from inside and looked at from outside.
//!
//! The test starts itself again as root with [`INSIDE`] set; that process enters the sandbox, tries everything that it must
//! not be able to do, reports each try on a line, does what a data plane must be able to do, and waits while the parent
//! reads /proc. It is a test without the usual harness, because the sandbox wants a process of one thread.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use zsync_engine::sandbox::{Needs, Plan, Sandbox, Step, worker_filter};
use zsync_protocol::fd::Channel;
use zsync_protocol::shm::{Access, Huge, Memory, map};

const INSIDE: &str = "ZSYNC_TEST_INSIDE_SANDBOX";
const NOBODY: u32 = 65_534;

/// Name, whether it can run without root, and the test.
const TESTS: &[(&str, bool, fn())] = &[
    ("everything_is_refused_inside_and_shows_from_outside", false, from_outside),
    ("a_process_with_more_threads_is_refused", false, more_threads),
    ("a_process_without_privileges_is_told_which_it_needs", false, unprivileged),
    ("root_is_no_identity_and_a_closed_descriptor_no_plan", true, bad_plans),
];

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(INSIDE) {
        return inside(&role);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|a| a == flag);
    if given("--list") {
        for (name, _, _) in TESTS.iter().filter(|_| !given("--ignored")) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filter: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| {
        filter.is_empty()
            || filter.iter().any(|f| if given("--exact") { name == *f } else { name.contains(f.as_str()) })
    };
    for (name, anybody, test) in TESTS.iter().filter(|(name, _, _)| wanted(name) && !given("--ignored")) {
        if !anybody && !rustix::process::geteuid().is_root() {
            println!("test {name} ... SKIPPED: needs root, to have something to give up");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "a skipped test fails in CI");
            continue;
        }
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// A child in the given role, ended when dropped.
struct Inside {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Inside {
    fn start(role: &str, stdin: OwnedFd, identity: Option<u32>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(INSIDE, role).stdin(Stdio::from(stdin)).stdout(Stdio::piped());
        if let Some(id) = identity {
            command.uid(id).gid(id);
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// All that it prints until it exits with `status`.
    fn finish(mut self, status: i32) -> String {
        let mut all = String::new();
        self.lines.read_to_string(&mut all).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(status), "the child printed: {all}");
        all
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn from_outside() {
    let (ours, theirs) = Channel::pair().unwrap();
    let mut inside = Inside::start("try", theirs.into_fd(), None);
    let memory = Memory::create("zsync-sandbox-test", 8192, Huge::Never).unwrap();
    let (listener, _knock) = listener();
    ours.send(b"memory", &[memory.fd.as_fd(), listener.as_fd()]).unwrap();

    let mut tries = BTreeMap::new();
    let mut report = String::new();
    loop {
        let mut line = String::new();
        assert!(inside.lines.read_line(&mut line).unwrap() > 0, "the child died; tried so far: {tries:?}");
        let line = line.trim_end();
        match line.split_once('=') {
            _ if line == "DONE" => break,
            Some((name, outcome)) => drop(tries.insert(name.to_owned(), outcome.to_owned())),
            None => writeln!(report, "{line}").unwrap(),
        }
    }
    let lasting = |outcome: &String| outcome == "EPERM";
    for (name, outcome) in &tries {
        match name.as_str() {
            // glibc then uses `clone`, whose flags the filter can see.
            "clone3" => assert_eq!(outcome, "ENOSYS", "{name}"),
            "descriptor that was open before" => assert_eq!(outcome, "EBADF", "{name}"),
            allowed if allowed.starts_with("allowed: ") => assert_eq!(outcome, "ok", "{name}"),
            _ => assert!(lasting(outcome), "{name} was not refused: {outcome}"),
        }
    }
    assert!(tries.len() >= 50, "only {} tries: {tries:?}", tries.len());
    for step in ["single thread", "landlock", "bounding set", "seccomp", "verification"] {
        assert!(report.contains(step), "the report has no step '{step}': {report}");
    }
    // The child wrote into the memory that it was passed.
    assert_eq!(memory.region.u64s(0, 1).unwrap()[0].load(Relaxed), 42);

    let pid = inside.child.id();
    let tasks: Vec<_> =
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|t| t.unwrap().path()).collect();
    assert!(tasks.len() >= 2, "a worker thread is to be looked at too");
    for task in tasks {
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {name} in {status}")).split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!(field("Uid"), ["65534"; 4]);
        assert_eq!(field("Gid"), ["65534"; 4]);
        assert_eq!(field("Groups"), [""; 0]);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), ["0000000000000000"], "{set}");
        }
        assert_eq!(field("NoNewPrivs"), ["1"]);
        assert_eq!(field("Seccomp"), ["2"]);
    }
    // The plan's three, then what came over the channel: exactly the descriptors that it was given.
    let target =
        |fd: &str| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap().to_string_lossy().into_owned();
    let mut open: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|fd| fd.unwrap().file_name().into_string().unwrap())
        .filter(|fd| fd != "2")
        .map(|fd| target(&fd).split(['[', ' ']).next().unwrap_or_default().to_owned())
        .collect();
    open.sort();
    assert_eq!(open, ["/memfd:zsync-sandbox-test", "pipe:", "socket:", "socket:", "socket:"]);
    let core = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = core.lines().find(|l| l.starts_with("Max core file size")).unwrap().to_owned();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    drop(ours);
    inside.finish(0);
}

/// A listener as control gives to a data plane, and a later control that has knocked.
fn listener() -> (OwnedFd, OwnedFd) {
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    };
    let name = format!("zsync-sandbox-test-{}", std::process::id());
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
    let socket =
        || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (listener, knock) = (socket(), socket());
    bind(&listener, &address).unwrap();
    listen(&listener, 1).unwrap();
    connect(&knock, &address).unwrap();
    (listener, knock)
}

fn more_threads() {
    let said = Inside::start("threads", null(), None).finish(3);
    assert!(said.contains("'single thread' failed: other threads exist"), "{said}");
}

fn unprivileged() {
    let said = Inside::start("plain", null(), Some(NOBODY - 1)).finish(3);
    assert!(said.contains("'bounding set' failed: PR_CAPBSET_DROP"), "{said}");
    assert!(said.contains("CAP_SETPCAP"), "{said}");
}

/// These fail before they give anything up, so they run right here.
fn bad_plans() {
    let plan = |uid, gid| Plan { uid, gid, keep_fds: &[], without_landlock: false };
    for (uid, gid) in [(0, 1), (1, 0)] {
        let error = Sandbox::enter(&plan(uid, gid)).unwrap_err();
        assert_eq!(error.step, Step::Identity);
        assert!(error.to_string().contains("other than 0"), "{error}");
    }
    let keep: &[RawFd] = &[0, 1, 2, 4_000];
    let error = Sandbox::enter(&Plan { keep_fds: keep, ..plan(1, 1) }).unwrap_err();
    assert_eq!(error.step, Step::Descriptors);
    assert!(error.to_string().contains("descriptor 4000 of the plan is not open"), "{error}");
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn inside(role: &str) -> ExitCode {
    if role == "threads" {
        std::thread::spawn(|| std::thread::sleep(Duration::from_secs(60)));
    }
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    // Not close-on-exec or ours to remember: what `main` forgot.
    let forgotten = std::os::fd::IntoRawFd::into_raw_fd(null());
    let plan = Plan { uid: NOBODY, gid: NOBODY, keep_fds: &[2, 0, 1], without_landlock: false };
    match Sandbox::enter(&plan) {
        Err(error) => {
            println!("{error}");
            ExitCode::from(3)
        }
        Ok(report) => {
            for (step, outcome) in &report.steps {
                println!("{step}: {outcome}");
            }
            refused_calls("", parent, forgotten);
            allowed_calls();
            let with_sockets = std::thread::spawn(|| {
                worker_filter(Needs { messages: true, ..Needs::default() }).unwrap();
                let calls = [libc::SYS_sendmmsg, libc::SYS_recvmsg];
                calls.iter().all(|number| call(*number, [1, 0, 0, 0, 0, 0]) == "ENOTSOCK")
            });
            println!("allowed: worker with sockets={}", ok(with_sockets.join().unwrap_or(false)));
            let with_rings = std::thread::spawn(|| {
                worker_filter(Needs { rings: true, ..Needs::default() }).unwrap();
                // It is no ring. To make one, to wait with more arguments, or to register anything is nobody's to try.
                let enter = |flags, more| call(libc::SYS_io_uring_enter, [1, 0, 0, flags, more, 0]);
                let register = |what| call(libc::SYS_io_uring_register, [1, what, 0, 0, 0, 0]);
                let allowed = [enter(1, 0), register(12)].iter().all(|said| said == "EOPNOTSUPP");
                let refused = [enter(0, 0), enter(9, 0), enter(1, 64), register(2), register(33)];
                let made = call(libc::SYS_io_uring_setup, [4, 0, 0, 0, 0, 0]);
                allowed && made == "EPERM" && refused.iter().all(|said| said == "EPERM")
            });
            println!("allowed: worker with rings={}", ok(with_rings.join().unwrap_or(false)));
            let worker = std::thread::spawn(move || {
                worker_filter(Needs::default()).unwrap();
                // What the process may do and a worker may not, and again what nobody may.
                refused_calls("worker: ", parent, forgotten);
                let file = attempt(|| {
                    // SAFETY: a new mapping, of a kept descriptor, which nobody uses; expected to be refused.
                    unsafe {
                        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, 0, 0) as i64
                    }
                });
                println!("worker: mmap of a descriptor={file}");
                println!("worker: accept={}", call(libc::SYS_accept4, [0, 0, 0, 0, 0, 0]));
                println!("worker: uring={}", call(libc::SYS_io_uring_enter, [1, 0, 0, 1, 0, 0]));
                println!("worker: sendmsg={}", call(libc::SYS_sendmsg, [0, 0, 0, 0, 0, 0]));
                println!("worker: pin={}", call(libc::SYS_sched_setaffinity, [0, 0, 0, 0, 0, 0]));
                println!("allowed: worker allocates={}", ok(allocates()));
                println!(
                    "allowed: worker kicks={}",
                    ok(call(libc::SYS_sendto, [1, 0, 0, 0, 0, 0]) == "ENOTSOCK")
                );
                println!("DONE");
                std::thread::sleep(Duration::from_secs(60));
            });
            // Until the parent closes its end; the worker is looked at meanwhile.
            let channel = Channel::from_fd(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
            let _ = worker;
            ExitCode::from(u8::from(channel.recv(&mut [0; 8]).is_ok()))
        }
    }
}

/// The outcome of a system call: "ok", or the name of its error.
fn attempt(call: impl FnOnce() -> i64) -> String {
    if call() != -1 {
        return "allowed".into();
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EPERM) => "EPERM".into(),
        Some(libc::ENOSYS) => "ENOSYS".into(),
        Some(libc::EBADF) => "EBADF".into(),
        Some(libc::ENOTSOCK) => "ENOTSOCK".into(),
        Some(libc::EOPNOTSUPP) => "EOPNOTSUPP".into(),
        other => format!("errno {other:?}"),
    }
}

fn call(number: i64, a: [u64; 6]) -> String {
    // SAFETY: the callers pass null pointers, or pointers to constants that outlive the call.
    attempt(|| unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) })
}

fn refused_calls(who: &str, parent: i32, forgotten: RawFd) {
    let root = c"/".as_ptr().addr() as u64;
    let proc = c"/proc/self/status".as_ptr().addr() as u64;
    let here = libc::AT_FDCWD as u64;
    let address = [libc::AF_INET as u16; 8];
    let to = address.as_ptr().addr() as u64;
    let parent = parent as u64;
    let rwx = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let (rx, none) = ((libc::PROT_READ | libc::PROT_EXEC) as u64, u64::MAX);
    let namespaced = (libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_NEWUSER) as u64;
    let tries = [
        ("open", libc::SYS_openat, [here, root, 0, 0, 0, 0]),
        ("open in /proc", libc::SYS_openat, [here, proc, 0, 0, 0, 0]),
        ("openat2", libc::SYS_openat2, [here, root, 0, 0, 0, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [here, 0, 0, 0, 0, 0]),
        ("stat", libc::SYS_newfstatat, [here, root, 0, 0, 0, 0]),
        ("unlink", libc::SYS_unlinkat, [here, proc, 0, 0, 0, 0]),
        ("chdir", libc::SYS_chdir, [root, 0, 0, 0, 0, 0]),
        ("chroot", libc::SYS_chroot, [root, 0, 0, 0, 0, 0]),
        ("mount", libc::SYS_mount, [root, root, 0, libc::MS_BIND, 0, 0]),
        ("memfd_create", libc::SYS_memfd_create, [root, 0, 0, 0, 0, 0]),
        ("socket inet", libc::SYS_socket, [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0]),
        ("socket unix", libc::SYS_socket, [libc::AF_UNIX as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0]),
        ("socket xdp", libc::SYS_socket, [libc::AF_XDP as u64, libc::SOCK_RAW as u64, 0, 0, 0, 0]),
        ("socketpair", libc::SYS_socketpair, [libc::AF_UNIX as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0]),
        ("connect", libc::SYS_connect, [0, to, 16, 0, 0, 0]),
        ("bind", libc::SYS_bind, [0, to, 16, 0, 0, 0]),
        ("sendto an address", libc::SYS_sendto, [0, root, 1, 0, to, 16]),
        ("setsockopt", libc::SYS_setsockopt, [0, 1, 2, root, 4, 0]),
        ("execve", libc::SYS_execve, [proc, 0, 0, 0, 0, 0]),
        ("execveat", libc::SYS_execveat, [here, proc, 0, 0, 0, 0]),
        ("fork", libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]),
        ("thread in a user namespace", libc::SYS_clone, [namespaced, 0, 0, 0, 0, 0]),
        ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]),
        ("setns", libc::SYS_setns, [0, 0, 0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [u64::from(libc::PTRACE_SEIZE), parent, 0, 0, 0, 0]),
        ("ptrace me", libc::SYS_ptrace, [u64::from(libc::PTRACE_TRACEME), 0, 0, 0, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [parent, 0, 0, 0, 0, 0]),
        ("pidfd_open", libc::SYS_pidfd_open, [parent, 0, 0, 0, 0, 0]),
        ("kill of the parent", libc::SYS_kill, [parent, 0, 0, 0, 0, 0]),
        ("tgkill of the parent", libc::SYS_tgkill, [parent, parent, 0, 0, 0, 0]),
        ("bpf", libc::SYS_bpf, [0, 0, 0, 0, 0, 0]),
        ("perf_event_open", libc::SYS_perf_event_open, [0, 0, 0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0, 0, 0, 0, 0, 0]),
        ("init_module", libc::SYS_init_module, [0, 0, 0, 0, 0, 0]),
        ("mmap executable", libc::SYS_mmap, [0, 4096, rwx, private, none, 0]),
        ("mprotect executable", libc::SYS_mprotect, [root & !4095, 4096, rx, 0, 0, 0]),
        ("shmget", libc::SYS_shmget, [0, 4096, libc::IPC_CREAT as u64, 0, 0, 0]),
        ("personality", libc::SYS_personality, [libc::READ_IMPLIES_EXEC as u64, 0, 0, 0, 0, 0]),
        ("setuid root", libc::SYS_setresuid, [0, 0, 0, 0, 0, 0]),
        ("capset", libc::SYS_capset, [0, 0, 0, 0, 0, 0]),
        ("prlimit", libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as u64, 0, 0, 0, 0]),
        ("prctl dumpable", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0, 0, 0, 0]),
        ("fcntl owner", libc::SYS_fcntl, [0, libc::F_SETOWN as u64, parent, 0, 0, 0]),
        ("ioctl on a terminal", libc::SYS_ioctl, [0, libc::TIOCSTI, root, 0, 0, 0]),
        ("seccomp listener", libc::SYS_seccomp, [1, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, 0, 0, 0, 0]),
        (
            "open, as the 32-bit-pointer ABI names it",
            0x4000_0000 | libc::SYS_openat,
            [here, root, 0, 0, 0, 0],
        ),
    ];
    for (name, number, arguments) in tries {
        println!("{who}{name}={}", call(number, arguments));
    }
    let before = call(libc::SYS_fcntl, [forgotten as u64, libc::F_GETFD as u64, 0, 0, 0, 0]);
    if who.is_empty() {
        println!("clone3={}", call(libc::SYS_clone3, [0, 0, 0, 0, 0, 0]));
        println!("descriptor that was open before={before}");
    }
}

fn ok(holds: bool) -> &'static str {
    if holds { "ok" } else { "no" }
}

/// Small and large, so that it comes from the heap and from a mapping of its own, and grows.
fn allocates() -> bool {
    let mut large = vec![1u8; 4 << 20];
    large.resize(16 << 20, 1);
    large.iter().step_by(4096).all(|b| *b == 1)
        && (0..1000).map(|n| vec![0u8; n]).map(|v| v.len()).sum::<usize>() > 0
}

/// What a data plane lives from.
fn allowed_calls() {
    let channel = Channel::from_fd(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
    let mut bytes = [0; 64];
    let mut passed = channel.recv(&mut bytes).map(|got| got.fds.into_iter()).unwrap_or_default();
    let (passed, listener) = (passed.next(), passed.next());
    let mapped = passed.as_ref().and_then(|fd| map(fd.as_fd(), 8192, Access::ReadWrite).ok());
    if let Some([word]) = mapped.as_ref().and_then(|region| region.u64s(0, 1)) {
        word.store(42, Relaxed);
    }
    println!("allowed: memory from the channel={}", ok(mapped.is_some()));
    let accepted = listener.as_ref().and_then(|listener| {
        let socket = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC).ok()?;
        Channel::from_fd(socket).ok()
    });
    println!(
        "allowed: a later control knocks={}",
        ok(accepted.is_some_and(|a| a.send(b"hello", &[]).is_ok()))
    );
    let nonblocking = channel.set_nonblocking(true).and_then(|()| channel.set_nonblocking(false));
    println!("allowed: the channel stops blocking={}", ok(nonblocking.is_ok()));
    let sum: u64 = (0..4)
        .map(|n| std::thread::Builder::new().name(format!("worker{n}")).spawn(move || n))
        .map(|t| t.map(|t| t.join().unwrap_or(100)).unwrap_or(100))
        .sum();
    println!("allowed: threads={}", ok(sum == 6));
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    println!(
        "allowed: pinning={}",
        ok(cores.first().is_some_and(|core| core_affinity::set_for_current(*core)))
    );
    println!("allowed: allocation={}", ok(allocates()));
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(2));
    println!("allowed: sleep={}", ok(start.elapsed() >= Duration::from_millis(2)));
    println!(
        "allowed: eventfd={}",
        ok(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).is_ok())
    );
    let panicked = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(7)));
    println!("allowed: unwinding={}", ok(panicked.is_err()));
    // These stay open until the process ends, so that the parent finds them there and nothing else.
    for fd in [passed, listener].into_iter().flatten() {
        let _ = std::os::fd::IntoRawFd::into_raw_fd(fd);
    }
}
