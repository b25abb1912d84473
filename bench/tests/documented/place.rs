//! A network namespace for commands that name devices: veth pairs (`va`, `vb`) and (`vc`, `vd`) of two queues each.
//!
//! Keeps true: it goes with the test, however that ends. It is held by a process that reads from the test, and ends at the end
//! of that.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const HOLD: &str = "
    set -e
    ip link set lo up
    for pair in 'va vb' 'vc vd'; do
        set -- $pair
        ip link add $1 numtxqueues 2 numrxqueues 2 type veth peer name $2 numtxqueues 2 numrxqueues 2
        for device in $1 $2; do
            ip link set $device addrgenmode none
            ip link set $device up
        done
    done
    echo ready
    exec cat";

pub struct Place {
    holder: Child,
}

impl Place {
    pub fn make() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", HOLD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the namespace cannot be made");
        Self { holder }
    }

    /// Starts it there.
    pub fn start(&self, command: &mut Command) -> Child {
        let file = File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        let start = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        // In a thread that ends then: it stays in the namespace.
        std::thread::scope(|scope| scope.spawn(start).join().unwrap())
    }

    /// Runs it there to its end.
    pub fn run(&self, command: &mut Command) -> Output {
        self.start(command).wait_with_output().unwrap()
    }

    /// Waits until a program takes packets from `vb`.
    pub fn wait_for_receiver(&self, receiver: &mut Child) {
        let start = Instant::now();
        loop {
            let output = self.run(Command::new("ip").args(["link", "show", "dev", "vb"]));
            if String::from_utf8_lossy(&output.stdout).contains("xdp") {
                return;
            }
            assert!(receiver.try_wait().unwrap().is_none(), "the receiver ended before it began");
            assert!(start.elapsed() < Duration::from_secs(20), "nothing receives at vb");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
