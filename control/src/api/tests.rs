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

mod served;

use served::*;

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
