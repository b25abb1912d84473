//! WireGuard's configuration protocol (wireguard.com/xplatform, "Configuration Protocol"), which `wg` speaks over a socket.
//!
//! Owns: what a request is, line by line, and what is answered. Knows no socket. Refuses: what the protocol does not know, and what has
//! no meaning here; a request as a whole, with the line and the error number that wireguard-go would give. Keeps true: what is refused never
//! shows a key, and a request takes bounded memory.

mod change;
mod shown;
#[cfg(test)]
mod tests;

pub use change::{Change, PeerChange};
pub use shown::{Seen, show_end, show_peer};

use super::table::endpoint_problem;
use crate::spec::address::PrefixError;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use zeroize::Zeroizing;
use zsync_wireguard::key::{KEY_LEN, PublicKey, Secret};

/// The longest line, bytes: twice what the longest has that means something.
pub const LINE: usize = 256;
/// Lines of a request: as many as the most peers take, with four lines each.
pub const LINES: usize = 1 << 20;

/// Error numbers of Linux that requests get; on the wire they are negative, as wireguard-go's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Errno {
    /// EIO: it could not be done.
    Io = 5,
    /// EBUSY: something else has to come to its end first.
    Busy = 16,
    /// ENODEV: there is no such tunnel any more.
    NoDevice = 19,
    /// EINVAL: a key or a value that is none.
    Invalid = 22,
    /// ENOSPC: more than there is room for.
    NoSpace = 28,
    /// EPROTO: this is not the protocol.
    Protocol = 71,
    /// EMSGSIZE: a line or a request that is too long.
    TooLong = 90,
    /// EOPNOTSUPP: it means nothing here.
    NotSupported = 95,
    /// EADDRINUSE: the port is another tunnel's.
    InUse = 98,
}

/// A request that is not done, and nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its line, from 1; 0: not for one of its lines.
    pub line: usize,
    /// The reason, for the log; never a key.
    pub what: String,
    /// The reason, for whoever asked.
    pub errno: Errno,
}

impl Refusal {
    /// For no line in particular.
    #[must_use]
    pub fn whole(errno: Errno, what: impl Into<String>) -> Self {
        Self { line: 0, what: what.into(), errno }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

/// The end of an answer: how it went.
#[must_use]
pub fn ending(refused: Option<Errno>) -> String {
    format!("errno={}\n\n", -refused.map_or(0, |errno| errno as i32))
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `get=1`: everything that is known of the tunnel.
    Get,
    /// `set=1`.
    Set(Change),
}

#[derive(Debug)]
enum Asks {
    Nothing,
    Get,
    Set,
}

/// Reads a request, line by line.
#[derive(Debug)]
pub struct Reader {
    asks: Asks,
    change: Change,
    lines: usize,
    refusal: Option<Refusal>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { asks: Asks::Nothing, change: Change::default(), lines: 0, refusal: None }
    }
}

impl Reader {
    /// Takes a line without its line break; an empty one ends the request. After the first mistake the rest is read over, so
    /// that whoever asks gets to hear of it.
    pub fn line(&mut self, line: &[u8]) -> Option<Result<Request, Refusal>> {
        self.lines = self.lines.saturating_add(1);
        let first = matches!(self.asks, Asks::Nothing) && self.refusal.is_none();
        if line.is_empty() {
            return Some(self.end(first));
        }
        if self.refusal.is_some() {
            return None;
        }
        let read = match (first, self.lines > LINES, line.len() > LINE) {
            (_, true, _) => Err((Errno::TooLong, format!("a request has at most {LINES} lines"))),
            (_, _, true) => Err((Errno::TooLong, format!("a line has at most {LINE} bytes"))),
            (true, ..) => self.begin(line),
            (false, ..) => self.key(line),
        };
        if let Err((errno, what)) = read {
            self.change = Change::default();
            self.refusal = Some(Refusal { line: self.lines, what, errno });
        }
        None
    }

    /// Lines beyond all patience: whoever sends them is not listened to any more.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.lines > LINES
    }

    /// Why the request is refused, as far as it was read.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Whether nothing was read yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.lines == 0
    }

    fn end(&mut self, first: bool) -> Result<Request, Refusal> {
        let Self { asks, change, lines, refusal } = std::mem::take(self);
        match (refusal, asks) {
            (Some(refusal), _) => Err(refusal),
            (None, Asks::Get) if !first => Ok(Request::Get),
            (None, Asks::Set) if !first => Ok(Request::Set(change)),
            (None, _) => {
                let what = "a request begins with get=1 or set=1".to_owned();
                Err(Refusal { line: lines, what, errno: Errno::Protocol })
            }
        }
    }

    fn begin(&mut self, line: &[u8]) -> Result<(), (Errno, String)> {
        self.asks = match line {
            b"get=1" => Asks::Get,
            b"set=1" => Asks::Set,
            _ => return Err((Errno::Protocol, "a request begins with get=1 or set=1".to_owned())),
        };
        Ok(())
    }

    fn key(&mut self, line: &[u8]) -> Result<(), (Errno, String)> {
        let no_line = || (Errno::Protocol, "no line of the form key=value".to_owned());
        let (key, value) =
            std::str::from_utf8(line).ok().and_then(|line| line.split_once('=')).ok_or_else(no_line)?;
        if let Asks::Get = self.asks {
            return Err((Errno::Invalid, "get=1 has no other lines".to_owned()));
        }
        let known = match self.change.peers.last_mut() {
            _ if key == "public_key" => {
                self.change.peers.push(PeerChange::of(PublicKey(*bytes(value).ok_or_else(|| no("a key"))?)));
                true
            }
            None => tunnel_key(&mut self.change, key, value).map_err(|fault| fault.about(key))?,
            Some(peer) => peer_key(peer, key, value).map_err(|fault| fault.about(key))?,
        };
        match known {
            true => Ok(()),
            false => {
                let place = if self.change.peers.is_empty() { "a tunnel" } else { "a peer" };
                // It may be anything, so it is said in its shortest form.
                let shown: String = key.chars().take(32).filter(|c| c.is_ascii_graphic()).collect();
                Err((Errno::Invalid, format!("{place} has no key `{shown}`")))
            }
        }
    }
}

fn no(expected: &str) -> (Errno, String) {
    (Errno::Invalid, format!("`public_key` is not {expected}"))
}

/// What is wrong with a value.
struct Fault {
    errno: Errno,
    what: &'static str,
}

impl Fault {
    fn about(self, key: &str) -> (Errno, String) {
        (self.errno, format!("`{key}` {}", self.what))
    }
}

const fn invalid(what: &'static str) -> Fault {
    Fault { errno: Errno::Invalid, what }
}

const fn meaningless(what: &'static str) -> Fault {
    Fault { errno: Errno::NotSupported, what }
}

/// False: there is no such key.
fn tunnel_key(change: &mut Change, key: &str, value: &str) -> Result<bool, Fault> {
    match key {
        "private_key" => {
            let secret = secret(value)?;
            let secret = secret.ok_or(meaningless("is no key: a tunnel here always has one"))?;
            change.private_key = Some(secret);
        }
        // Any port will do: the one that it has.
        "listen_port" => change.listen_port = Some(number::<u16>(value)?).filter(|port| *port != 0),
        "fwmark" if value.is_empty() || number::<u32>(value)? == 0 => {}
        "fwmark" => return Err(meaningless("means nothing here: outer packets leave by a port")),
        "replace_peers" => {
            only_true(value)?;
            change.replace_peers = true;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// False: there is no such key.
fn peer_key(peer: &mut PeerChange, key: &str, value: &str) -> Result<bool, Fault> {
    match key {
        "remove" => {
            only_true(value)?;
            peer.remove = true;
        }
        "update_only" => {
            only_true(value)?;
            peer.update_only = true;
        }
        "preshared_key" => peer.preshared = Some(secret(value)?),
        "endpoint" => {
            if endpoint_problem(value).is_some() {
                return Err(invalid("is not the address and the port of a station"));
            }
            let endpoint: SocketAddr = value.parse().map_err(|_| invalid("is not an address and a port"))?;
            peer.endpoint = Some(endpoint);
        }
        "persistent_keepalive_interval" => peer.keepalive = Some(number(value)?),
        "replace_allowed_ips" => {
            only_true(value)?;
            peer.replace_allowed_ips = true;
            peer.allowed_ips.clear();
        }
        "allowed_ip" => {
            let (text, remove) = value.strip_prefix('-').map_or((value, false), |rest| (rest, true));
            let prefix = match text.parse() {
                Ok(prefix) | Err(PrefixError::HostBits(prefix)) => prefix,
                Err(_) => return Err(invalid("is not an address and a length")),
            };
            peer.allowed_ips.push((prefix, remove));
        }
        "protocol_version" if value == "1" => {}
        "protocol_version" => return Err(invalid("is not 1")),
        _ => return Ok(false),
    }
    Ok(true)
}

fn only_true(value: &str) -> Result<(), Fault> {
    if value == "true" { Ok(()) } else { Err(invalid("can only be true")) }
}

/// Digits alone.
fn number<N: FromStr>(value: &str) -> Result<N, Fault> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or(invalid("is not a number, or too large a one"))
}

/// `None`: all zeros, which is no key.
fn secret(value: &str) -> Result<Option<Secret>, Fault> {
    let bytes = bytes(value).ok_or(invalid("is not 64 hexadecimal digits"))?;
    Ok(Some(Secret::new(*bytes)).filter(|secret| *secret != Secret::new([0; KEY_LEN])))
}

/// Of 64 hexadecimal digits, in a time that does not depend on which they are.
fn bytes(text: &str) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    if pairs.len() != KEY_LEN || !rest.is_empty() {
        return None;
    }
    let mut bad = 0;
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair.map(digit);
        bad |= high | low;
        *byte = (high << 4 | low) as u8;
    }
    (bad < 16).then_some(bytes)
}

/// The value of a hexadecimal digit; above 15: it is none.
fn digit(byte: u8) -> u32 {
    let byte = u32::from(byte);
    // All ones where the subtraction has wrapped around.
    let below = |value: u32, limit: u32| (value.wrapping_sub(limit) as i32 >> 31) as u32;
    let (decimal, letter) = (byte.wrapping_sub(u32::from(b'0')), (byte | 0x20).wrapping_sub(u32::from(b'a')));
    let is_decimal = below(decimal & 0x7fff_ffff, 10);
    let is_letter = below(letter & 0x7fff_ffff, 6);
    is_decimal & decimal | is_letter & letter.wrapping_add(10) | !(is_decimal | is_letter) & 16
}

/// As text that both ends of the protocol read.
fn hex(bytes: &[u8; KEY_LEN], out: &mut String) {
    for nibble in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        // No table, no branch: 'a' is 39 beyond what follows '9'.
        let letter = (u32::from(nibble).wrapping_add(6) >> 4) * 39;
        out.push(char::from_u32(u32::from(nibble) + u32::from(b'0') + letter).unwrap_or('0'));
    }
}
