//! `zsync-dataplane`: the process that touches packets. Started by `zsync-control`, never by hand.
//!
//! It is given descriptors over the socket that is its standard input, maps what they lead to, gives up every privilege,
//! and only then reads the first packet.

use rustix::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use zsync_engine::log;
use zsync_engine::manager::{Manager, clock};
use zsync_engine::sandbox::{Plan, Report, Sandbox};
use zsync_engine::setup::{Engine, Given, SetupError, build};
use zsync_protocol::fd::Channel;
use zsync_protocol::message::{FromDataplane, MAX_MESSAGE, ToDataplane, decode, encode};

fn main() -> ExitCode {
    // A worker that panics must take the process with it: control starts a new one over the same descriptors.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
    let socket = match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(socket) => socket,
        Err(error) => return fail_unsaid(&error.to_string()),
    };
    let channel = match Channel::from_fd(socket) {
        Ok(channel) => channel,
        Err(error) => {
            log!(
                "zsync-dataplane is started by zsync-control, with a channel as its standard input: {error}"
            );
            return ExitCode::from(2);
        }
    };
    match run(&channel) {
        Ok((given, owner, engine, report)) => match Manager::start(given, channel, owner, engine) {
            Ok(manager) => {
                manager.run(&report);
                ExitCode::SUCCESS
            }
            Err(error) => fail_unsaid(&error.to_string()),
        },
        Err(error) => {
            let mut buffer = Vec::new();
            if encode(&FromDataplane::failed(&error), &mut buffer).is_ok() {
                let _ = channel.send(&buffer, &[]);
            }
            fail_unsaid(&error)
        }
    }
}

fn fail_unsaid(error: &str) -> ExitCode {
    log!("zsync-dataplane: {error}");
    ExitCode::FAILURE
}

/// Takes what control gives, up to its word to start, and enters the sandbox.
fn run(channel: &Channel) -> Result<(Given, u32, Engine, Report), String> {
    let say = |error: SetupError| error.to_string();
    let owner = channel.peer().map_err(|error| format!("who control is: {error}"))?.uid;
    let mut given = Given::default();
    let mut buffer = [0; MAX_MESSAGE];
    loop {
        let received = channel.recv(&mut buffer).map_err(|error| say(error.into()))?;
        let message = decode::<ToDataplane>(&buffer[..received.len], received.fds.len())
            .map_err(|error| say(error.into()))?;
        if message == ToDataplane::Start {
            break;
        }
        given.accept(message, received.fds, false).map_err(say)?;
    }
    let engine = build(&given).map_err(say)?;
    let layout = given.layout().map_err(say)?;

    let mut keep: Vec<i32> = vec![2, channel.as_fd().as_raw_fd()];
    keep.extend(given.replay().flat_map(|(_, fds)| fds).map(|fd| fd.as_raw_fd()));
    keep.extend(&engine.descriptors);
    // rustix finds the kernel's clock page when the clock is first read. In the sandbox it cannot, and each reading would be a
    // system call: 2 % of a loaded core.
    clock();
    let plan = Plan { uid: layout.uid, gid: layout.gid, keep_fds: &keep, without_landlock: false };
    let report = Sandbox::enter(&plan).map_err(|error| error.to_string())?;

    let ready = FromDataplane::Ready { pid: std::process::id(), sandboxed: true };
    let mut bytes = Vec::new();
    encode(&ready, &mut bytes).map_err(|error| error.to_string())?;
    channel.send(&bytes, &[]).map_err(|error| error.to_string())?;
    Ok((given, owner, engine, report))
}
