//! The far end of a veth that is a port: whether it takes what XDP redirects to it.
//!
//! A veth receives redirected frames only while its NAPI runs, which is when it has GRO on or an XDP program of its own
//! (`veth_xdp_xmit`, drivers/net/veth.c); else they are dropped there, counted nowhere that an operator looks. Asked once at
//! start, best effort: a peer that cannot be found is no warning. The peer's namespace is found among the named ones and
//! those of running processes, by the id that ours gives it; a thread of its own enters it and ends.

use super::event::Link;
use super::port::links_now;
use super::socket::{Socket, SocketError};
use super::wire::{Request, attributes, i32_at, text, u16_at};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The peer of a veth port drops what XDP redirects to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerWarning {
    /// The port's netdev.
    pub port: String,
    /// The netdev at the far end, by its name there.
    pub peer: String,
    /// The namespace of the peer as a path; `None`: the same.
    pub namespace: Option<PathBuf>,
}

impl fmt::Display for PeerWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, peer, namespace } = self;
        write!(
            f,
            "netdev `{port}`: its veth peer `{peer}` has neither GRO nor an XDP program, and so drops frames that XDP redirects to it: "
        )?;
        match namespace {
            None => write!(f, "`ethtool -K {peer} gro on`"),
            Some(path) => write!(f, "`nsenter --net={} ethtool -K {peer} gro on`", path.display()),
        }
    }
}

/// Looks at the far end of `link`, if it is a veth whose far end can be found. Blocks for some milliseconds; with
/// thousands of processes, for some tens.
pub fn check_peer(link: &Link) -> Result<Option<PeerWarning>, SocketError> {
    let (Some("veth"), Some(index)) = (link.kind.as_deref(), link.link) else { return Ok(None) };
    let Some(id) = link.link_netnsid else {
        return Ok(dropping_peer(index)?.map(|peer| PeerWarning {
            port: link.name.clone(),
            peer,
            namespace: None,
        }));
    };
    let Some((path, file)) = namespace(id)? else { return Ok(None) };
    let looked = std::thread::scope(|scope| {
        let look = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            dropping_peer(index)
        };
        scope.spawn(look).join().unwrap_or(Ok(None))
    })?;
    Ok(looked.map(|peer| PeerWarning { port: link.name.clone(), peer, namespace: Some(path) }))
}

/// The name of the link `index` of this thread's namespace, if it takes no redirected frames.
fn dropping_peer(index: u32) -> Result<Option<String>, SocketError> {
    let peer = links_now()?.into_iter().find(|link| link.ifindex == index);
    let Some(peer) = peer.filter(|peer| peer.xdp_program.is_none()) else { return Ok(None) };
    Ok((!has_feature(index, "rx-gro")?).then_some(peer.name))
}

/// The namespace that ours knows by `id` (`RTM_GETNSID`).
fn namespace(id: i32) -> Result<Option<(PathBuf, File)>, SocketError> {
    const RTM_GETNSID: u16 = 90;
    const NETNSA_NSID: u16 = 1;
    const NETNSA_FD: u16 = 3;
    let named = read_dir("/run/netns").into_iter();
    let processes = read_dir("/proc").into_iter().map(|process| process.join("ns/net"));
    let mut seen = HashSet::new();
    let mut socket = Socket::asking()?;
    for path in named.chain(processes) {
        let Ok(file) = File::open(&path) else { continue };
        let Ok(meta) = file.metadata() else { continue };
        if !seen.insert((meta.dev(), meta.ino())) {
            continue;
        }
        let fd = file.as_raw_fd().to_ne_bytes();
        let mut found = None;
        let request = |flags| Request::new(RTM_GETNSID, flags, &[0; 4]).attribute(NETNSA_FD, &fd);
        let asked = socket.ask_one(RTM_GETNSID, request, |message| {
            found = attributes(message.body, 1)
                .find(|(n, _)| *n == NETNSA_NSID)
                .and_then(|(_, id)| i32_at(id, 0));
        });
        match asked {
            // Not a namespace, or one without an id here.
            Ok(()) | Err(SocketError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        if found == Some(id) {
            return Ok(Some((path, file)));
        }
    }
    Ok(None)
}

fn read_dir(path: &str) -> Vec<PathBuf> {
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Whether a feature is on, by its `ethtool -k` name (`ETHTOOL_MSG_FEATURES_GET`, uapi/linux/ethtool_netlink.h).
fn has_feature(index: u32, feature: &str) -> Result<bool, SocketError> {
    const FEATURES_GET: u8 = 11;
    const FEATURES_HEADER: u16 = 1;
    const FEATURES_ACTIVE: u16 = 4;
    const BITSET_BITS: u16 = 3;
    const BIT_NAME: u16 = 2;
    const NESTED: u16 = 0x8000;
    let mut socket = Socket::asking_generic()?;
    let family = generic_family(&mut socket, "ethtool")?;
    let mut header = vec![8, 0, 1, 0]; // ETHTOOL_A_HEADER_DEV_INDEX
    header[..2].copy_from_slice(&8u16.to_ne_bytes());
    header[2..].copy_from_slice(&1u16.to_ne_bytes());
    header.extend(index.to_ne_bytes());
    let request = |flags| {
        Request::new(family, flags, &[FEATURES_GET, 1, 0, 0]).attribute(FEATURES_HEADER | NESTED, &header)
    };
    let mut on = false;
    socket.ask_one(family, request, |message| {
        let active = attributes(message.body, 4).filter(|(n, _)| *n == FEATURES_ACTIVE);
        let bits = active.flat_map(|(_, set)| attributes(set, 0)).filter(|(n, _)| *n == BITSET_BITS);
        let names = bits.flat_map(|(_, bits)| attributes(bits, 0)).flat_map(|(_, bit)| attributes(bit, 0));
        on |= names.filter(|(n, _)| *n == BIT_NAME).any(|(_, name)| text(name) == feature);
    })?;
    Ok(on)
}

/// The number of a generic netlink family (`CTRL_CMD_GETFAMILY`).
fn generic_family(socket: &mut Socket, name: &str) -> Result<u16, SocketError> {
    const GENL_ID_CTRL: u16 = 16;
    const GETFAMILY: u8 = 3;
    const FAMILY_ID: u16 = 1;
    const FAMILY_NAME: u16 = 2;
    let mut id = None;
    let text = [name.as_bytes(), &[0]].concat();
    let request =
        |flags| Request::new(GENL_ID_CTRL, flags, &[GETFAMILY, 1, 0, 0]).attribute(FAMILY_NAME, &text);
    socket.ask_one(GENL_ID_CTRL, request, |message| {
        id = id
            .or(attributes(message.body, 4).find(|(n, _)| *n == FAMILY_ID).and_then(|(_, id)| u16_at(id, 0)));
    })?;
    id.ok_or(SocketError::Io(rustix::io::Errno::NOENT))
}
