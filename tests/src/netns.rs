//! A network namespace, and code and processes inside it.
//!
//! Processes are started by a thread that is in the namespace, not by `ip netns exec`: that one makes a mount namespace for
//! each command, with a `/sys` of its own, and what one process pins in a BPF file system the next would not see.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where iproute2 keeps the names.
pub(crate) const NAMES: &str = "/run/netns";

/// A named network namespace. Dropping it kills the processes in it, by their ids, and deletes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, with its loopback up.
    ///
    /// # Errors
    /// Those of `ip netns add`.
    pub fn create(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        execute(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` in a thread that is in the namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered, and those of `work`.
    ///
    /// # Panics
    /// When `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace, for the rest of its life.
    ///
    /// # Errors
    /// When there is no such namespace, or not permitted.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(path(&self.name)).with_context(|| format!("namespace {}", self.name))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering namespace {}", self.name))
    }

    /// A TCP connection from one of the namespace's addresses.
    ///
    /// # Errors
    /// The address is none of the namespace's, or nobody is there within five seconds.
    pub fn connect(&self, from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
        let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let work = || {
            let fd = socket(family, SocketType::STREAM, None)?;
            bind(&fd, &SocketAddr::new(from, 0))?;
            set_socket_timeout(&fd, Timeout::Send, Some(Duration::from_secs(5)))?;
            connect(&fd, &to)?;
            set_socket_timeout(&fd, Timeout::Send, None)?;
            Ok(TcpStream::from(fd))
        };
        self.run(work).with_context(|| format!("connecting from {from} to {to}"))
    }

    /// Runs a command in the namespace to its end; its standard output.
    ///
    /// # Errors
    /// When it cannot be started or says that it failed.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        self.run(|| execute(command))
    }

    /// `ip WORDS` in the namespace.
    ///
    /// # Errors
    /// With what `ip` said.
    pub fn ip(&self, words: &str) -> Result<String> {
        self.output(Command::new("ip").args(words.split_whitespace()))
    }

    /// Sets a `sysctl` of the namespace: `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// When there is no such key, or it refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        // `/proc/sys/net` shows the namespace of whoever looks.
        let file = Path::new("/proc/sys").join(key);
        self.run(|| fs::write(&file, value).with_context(|| format!("{} = {value}", file.display())))
    }

    /// The MAC address of a device.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn mac(&self, device: &str) -> Result<[u8; 6]> {
        let text = self.ip(&format!("-o link show dev {device}"))?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
        let mac: Vec<u8> = words
            .next()
            .into_iter()
            .flat_map(|word| word.split(':'))
            .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        mac.as_slice().try_into().with_context(|| format!("no MAC address in {text:?}"))
    }

    /// The index of a device.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn ifindex(&self, device: &str) -> Result<u32> {
        let text = self.ip(&format!("-o link show dev {device}"))?;
        let index = text.split(':').next().and_then(|word| word.trim().parse().ok());
        index.with_context(|| format!("no index in {text:?}"))
    }

    /// The processes in the namespace.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        processes_in(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Kills what runs in a namespace and deletes it.
pub(crate) fn remove(name: &str) {
    // More than once: one that is killed later may have started another before.
    for _ in 0..10 {
        let pids = processes_in(name);
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(2));
    }
    match execute(Command::new("ip").args(["netns", "del", name])) {
        // Otherwise somebody else was faster: the next lab removes what is left of the one before, too.
        Err(error) if path(name).exists() => eprintln!("{error:#}"),
        _ => {}
    }
}

/// Runs a command to its end; its standard output.
///
/// # Errors
/// When it cannot be started, or ends with a failure; with what it wrote.
pub fn execute(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("cannot run {command:?}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    ensure!(status.success(), "{command:?} ended with {status}: {} {}", text(stderr), text(stdout));
    Ok(text(stdout))
}

fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

fn processes_in(name: &str) -> Vec<Pid> {
    // A thread's namespace cannot be compared by name, only by inode.
    let inode = |file: &Path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(file).map(|meta| meta.ino()).ok()
    };
    let Some(wanted) = inode(&path(name)) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| inode(&entry.path().join("ns/net")) == Some(wanted))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .collect()
}

/// Is there nothing that keeps a test from making namespaces?
///
/// # Errors
/// Why not.
pub(crate) fn permitted() -> Result<()> {
    if !rustix::process::getuid().is_root() {
        bail!("not root");
    }
    execute(Command::new("ip").arg("-V")).context("iproute2 is not installed")?;
    Ok(())
}
