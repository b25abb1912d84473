//! Three namespaces, two cables, a folder: the place where a test happens.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, mount};

use crate::netns::{self, Namespace};
use crate::process;
use crate::reaper;

/// What a lab is to look like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Whether the router has addresses, or is a wire.
    pub kind: Kind,
    /// Queues of each of the router's devices.
    pub queues: u32,
    /// MTU of the cable to the client.
    pub client_mtu: u32,
    /// MTU of the cable to the server.
    pub server_mtu: u32,
}

/// What the middle namespace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Client in 10.1.0.0/24 and fd01::/64, server in 10.2.0.0/24 and fd02::/64; the kernel would forward.
    Router,
    /// Client and server in 10.3.0.0/24 and fd03::/64; the kernel would forward nothing.
    Wire,
}

impl Shape {
    /// A router between two subnets: one queue, an MTU of 1500.
    #[must_use]
    pub const fn router() -> Self {
        Self { kind: Kind::Router, queues: 1, client_mtu: 1500, server_mtu: 1500 }
    }

    /// A wire within one subnet: one queue, an MTU of 1500.
    #[must_use]
    pub const fn wire() -> Self {
        Self { kind: Kind::Wire, ..Self::router() }
    }

    /// With so many queues in each of the router's devices.
    #[must_use]
    pub const fn queues(self, queues: u32) -> Self {
        Self { queues, ..self }
    }

    /// With this MTU on the server's cable.
    #[must_use]
    pub const fn server_mtu(self, server_mtu: u32) -> Self {
        Self { server_mtu, ..self }
    }

    /// With this MTU on the client's cable.
    #[must_use]
    pub const fn client_mtu(self, client_mtu: u32) -> Self {
        Self { client_mtu, ..self }
    }
}

/// A lab. Dropping it kills what runs in it and removes it.
#[derive(Debug)]
pub struct Lab {
    /// Where traffic comes from.
    pub client: Namespace,
    /// Where zsync runs, on `eth1` (to the client) and `eth2` (to the server).
    pub router: Namespace,
    /// Where traffic goes to.
    pub server: Namespace,
    /// The client's addresses, IPv4 and IPv6.
    pub client_addresses: [IpAddr; 2],
    /// The server's addresses, IPv4 and IPv6.
    pub server_addresses: [IpAddr; 2],
    folder: Folder,
    _alone: File,
}

/// Runs `test` in a lab of that shape. When it fails, the ends of all logs go with the failure. Without the permission to
/// make namespaces it says so and skips.
///
/// # Panics
/// When the test fails; and when it would skip, and the environment has `CI=true`.
pub fn in_lab(shape: Shape, test: impl FnOnce(&Lab) -> Result<()>) {
    if let Err(error) = netns::permitted() {
        skip(&format!("{error:#}"));
        return;
    }
    let lab = Lab::build(shape).unwrap_or_else(|error| panic!("cannot build the lab: {error:#}"));
    match catch_unwind(AssertUnwindSafe(|| test(&lab))) {
        Ok(Ok(())) => {}
        // The error last: whoever shows only the end of a log then shows what it is about.
        Ok(Err(error)) => panic!("{error:#}\n{}{error:#}", lab.logs()),
        Err(panic) => {
            eprintln!("{}", lab.logs());
            resume_unwind(panic);
        }
    }
}

/// Says that a test, or a part of it, cannot run here.
///
/// # Panics
/// In CI, where it must.
pub fn skip(why: &str) {
    println!("SKIPPED: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {why}");
}

impl Lab {
    pub(crate) fn build(shape: Shape) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let alone = lock()?;
        reaper::reap(&std::env::temp_dir());
        let name = reaper::lab_name(NUMBER.fetch_add(1, Relaxed));
        let folder = Folder::create(&name)?;
        let part = |role| Namespace::create(format!("{name}-{role}"));
        let (client, router, server) = (part("client")?, part("router")?, part("server")?);
        let [client_addresses, server_addresses] = match shape.kind {
            Kind::Router => [["10.1.0.2", "fd01::2"], ["10.2.0.2", "fd02::2"]],
            Kind::Wire => [["10.3.0.1", "fd03::1"], ["10.3.0.2", "fd03::2"]],
        }
        .map(|pair| pair.map(|text| text.parse().expect("an address")));
        let lab = Self { client, router, server, client_addresses, server_addresses, folder, _alone: alone };
        lab.lay_cable(&lab.client, "eth1", shape.queues, shape.client_mtu)?;
        lab.lay_cable(&lab.server, "eth2", shape.queues, shape.server_mtu)?;
        match shape.kind {
            Kind::Router => lab.number_router()?,
            Kind::Wire => lab.number_wire()?,
        }
        Ok(lab)
    }

    fn lay_cable(&self, host: &Namespace, port: &str, queues: u32, mtu: u32) -> Result<()> {
        for namespace in [host, &self.router] {
            // The machine's own settings would be inherited.
            namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
            namespace.sysctl("net/ipv6/conf/default/accept_ra", "0")?;
            namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "0")?;
            namespace.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
            namespace.sysctl("net/ipv4/conf/default/rp_filter", "0")?;
        }
        host.ip(&format!(
            "link add eth0 mtu {mtu} numrxqueues {queues} numtxqueues {queues} type veth \
             peer name {port} mtu {mtu} numrxqueues {queues} numtxqueues {queues} netns {}",
            self.router.name()
        ))?;
        // A veth hands on what its peer's stack leaves undone, so checksums must be complete when they leave; and it drops
        // what is redirected into it unless the peer has XDP or GRO on.
        host.output(Command::new("ethtool").args(["-K", "eth0", "tx", "off", "gro", "on"]))
            .context("ethtool, to complete checksums")?;
        host.ip("link set eth0 up")?;
        self.router.ip(&format!("link set {port} up"))?;
        Ok(())
    }

    fn number_router(&self) -> Result<()> {
        self.router.sysctl("net/ipv4/ip_forward", "1")?;
        self.router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        for (net, host, port) in [(1, &self.client, "eth1"), (2, &self.server, "eth2")] {
            self.router.ip(&format!("addr add 10.{net}.0.1/24 dev {port}"))?;
            self.router.ip(&format!("addr add fd0{net}::1/64 dev {port} nodad"))?;
            host.ip(&format!("addr add 10.{net}.0.2/24 dev eth0"))?;
            host.ip(&format!("addr add fd0{net}::2/64 dev eth0 nodad"))?;
            host.ip(&format!("route add default via 10.{net}.0.1"))?;
            host.ip(&format!("-6 route add default via fd0{net}::1"))?;
        }
        Ok(())
    }

    /// Has the router's cables end at `c1` and `c2`, so that devices of its own may be called `eth1` and `eth2`.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn rename_cables(&self) -> Result<()> {
        for (old, new) in [("eth1", "c1"), ("eth2", "c2")] {
            for words in [
                format!("addr flush dev {old}"),
                format!("link set {old} down name {new}"),
                format!("link set {new} up"),
            ] {
                self.router.ip(&words)?;
            }
        }
        Ok(())
    }

    /// Has the client stand behind the host's end of `eth1` and the server behind that of `eth2`, devices of the router's own: the kernel
    /// carries packets between each and its cable, which [`Self::rename_cables`] has renamed, and decides nothing. All that it knows of
    /// where they are is in its main table, by these devices.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn stand_behind_devices(&self) -> Result<()> {
        let hex = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        for (net, host) in [(1, &self.client), (2, &self.server)] {
            let (device, cable) = (format!("eth{net}"), format!("c{net}"));
            self.router.ip(&format!("addr add 10.{net}.0.1/24 dev {device}"))?;
            self.router.ip(&format!("addr add fd0{net}::1/64 dev {device} nodad"))?;
            // So that none is lost while zsync waits for a CPU.
            self.router.ip(&format!("link set {device} txqueuelen 10000"))?;
            // An error that zsync answers with comes from the port's address, which is the host's own.
            self.router.sysctl(&format!("net/ipv4/conf/{device}/accept_local"), "1")?;
            let (near, far) = (hex(self.router.mac(&cable)?), hex(host.mac("eth0")?));
            host.ip("addr add fe80::2/64 dev eth0 nodad")?;
            let v4 = ("-4", format!("10.{net}.0.1"), format!("10.{net}.0.2"), format!("10.{net}.0.0/24"));
            // The kernel takes no gateway of IPv6 that another device has a route to.
            let v6 = ("-6", format!("fd0{net}::1"), "fe80::2".to_owned(), format!("fd0{net}::/64"));
            for (family, router, gateway, network) in [v4, v6] {
                // Nobody asks who has which address.
                host.ip(&format!("{family} neigh replace {router} lladdr {near} dev eth0 nud permanent"))?;
                self.router.ip(&format!(
                    "{family} neigh replace {gateway} lladdr {far} dev {cable} nud permanent"
                ))?;
                for words in [
                    format!("route add default dev {device} table 10{net}"),
                    format!("rule add iif {cable} lookup 10{net} pref 10{net}"),
                    format!("route add default via {gateway} dev {cable} onlink table 11{net}"),
                    format!("rule add iif {device} lookup 11{net} pref 11{net}"),
                    // Its own errors too: that a packet is too long for the device.
                    format!("rule add iif lo to {network} lookup 11{net} pref 12{net}"),
                ] {
                    self.router.ip(&format!("{family} {words}"))?;
                }
            }
        }
        Ok(())
    }

    fn number_wire(&self) -> Result<()> {
        for port in ["eth1", "eth2"] {
            // A wire says nothing of its own.
            self.router.sysctl(&format!("net/ipv6/conf/{port}/disable_ipv6"), "1")?;
        }
        for (number, host) in [(1, &self.client), (2, &self.server)] {
            host.ip(&format!("addr add 10.3.0.{number}/24 dev eth0"))?;
            host.ip(&format!("addr add fd03::{number}/64 dev eth0 nodad"))?;
        }
        Ok(())
    }

    /// Where the lab's files are: logs, and the folders of zsync.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Gives the client so many more addresses of each family, 100 at most; these, in turns.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn more_clients(&self, count: usize) -> Result<Vec<IpAddr>> {
        let mut all = Vec::new();
        for number in (100..).take(count) {
            self.client.ip(&format!("addr add 10.1.0.{number}/24 dev eth0"))?;
            self.client.ip(&format!("addr add fd01::{number}/64 dev eth0 nodad"))?;
            all.push(format!("10.1.0.{number}").parse()?);
            all.push(format!("fd01::{number}").parse()?);
        }
        Ok(all)
    }

    /// A service of the server: its first address (IPv4) and this port.
    #[must_use]
    pub fn service(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server_addresses[0], port)
    }

    /// The ends of all logs.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.folder()).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
        files.sort();
        let one = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            format!("== {name}\n{}\n", process::tail(file))
        };
        files.iter().map(one).collect()
    }
}

/// A folder that goes when its owner does. It is a file system in memory, as `/run` is: what control notes there while packets wait for it
/// would else wait for the disk that a compiler has just written to.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn create(name: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let made = Self(folder);
        mount("zsync", &made.0, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0755"))
            .with_context(|| format!("mounting a file system in memory at {}", made.0.display()))?;
        Ok(made)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        reaper::remove_folder(&self.0);
    }
}

/// Waits until no other lab is on this machine. The lock is on the folder of temporary files itself, so that no file
/// stays behind for it.
fn lock() -> Result<File> {
    let folder = std::env::temp_dir();
    let folder = File::open(&folder).with_context(|| folder.display().to_string())?;
    flock(&folder, FlockOperation::LockExclusive)?;
    Ok(folder)
}
