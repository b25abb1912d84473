//! Where the tests work: two namespaces, and `ip`.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Two namespaces joined by two veths: p1 and p2 here (ports 1 and 2), q1 and q2 at the far end. The thread that makes it
/// is in the near one from then on.
pub(crate) struct Lab {
    pub(crate) names: [String; 2],
}

impl Lab {
    pub(crate) fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "network namespaces need root");
            println!("SKIPPED: network namespaces need root");
            return None;
        }
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { names: [format!("zsync-nl-a-{id}"), format!("zsync-nl-b-{id}")] };
        lab.names.iter().for_each(|name| ip(&format!("netns add {name}")));
        let here = File::open(format!("/run/netns/{}", lab.names[0])).unwrap();
        move_into_link_name_space(here.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        for line in [
            "link set lo up",
            "link add p1 address 02:00:00:00:01:01 type veth peer name q1 address 02:00:00:00:01:02",
            "link add p2 address 02:00:00:00:02:01 type veth peer name q2 address 02:00:00:00:02:02",
            "link add d0 type veth peer name d1",
        ] {
            ip(line);
        }
        for q in ["q1", "q2"] {
            ip(&format!("link set {q} netns {}", lab.names[1]));
        }
        for (n, link) in [(0, "p1"), (1, "p2"), (5, "d0")] {
            ip(&format!("link set {link} up"));
            ip(&format!("address add 10.0.{n}.1/24 dev {link}"));
            ip(&format!("address add 2001:db8:{n}::1/64 dev {link} nodad"));
        }
        for (n, link) in [(0, "q1"), (1, "q2")] {
            lab.far(&format!("link set {link} up"));
            lab.far(&format!("address add 10.0.{n}.2/24 dev {link}"));
            lab.far(&format!("address add 2001:db8:{n}::2/64 dev {link} nodad"));
        }
        Some(lab)
    }

    pub(crate) fn far(&self, line: &str) {
        ip(&format!("-n {} {line}", self.names[1]));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

pub(crate) fn run(line: &str) -> Output {
    Command::new("ip").args(line.split_whitespace()).output().unwrap()
}

pub(crate) fn ip(line: &str) {
    let output = run(line);
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn batch(lines: impl Iterator<Item = String>) {
    let path = std::env::temp_dir().join(format!(
        "zsync-nl-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&path, lines.map(|line| line + "\n").collect::<String>()).unwrap();
    let output = Command::new("ip").arg("-batch").arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
