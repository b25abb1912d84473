//! A STUN client (RFC 8489): what address a server sees us at. `cargo run -p zsync-runtime --example stun uring 192.0.2.1:3478`; in
//! a simulation it answers itself.
//!
//! Keeps true: an answer is the server's own, to this very request; anything else that comes is ignored, and what is lost is sent
//! again.

#[cfg(not(test))]
mod chosen;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use zsync_runtime::{Driver, Error, Instant, Io, UdpSocket};

const COOKIE: u32 = 0x2112_a442;
const HEADER: usize = 20;
const BINDING: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// MAPPED-ADDRESS, and what proves who has sent a message, which is nothing to who has no key.
const KNOWN: [u16; 6] = [0x0001, 0x0006, 0x0008, 0x0014, 0x0015, 0x001c];

/// When requests are sent again (RFC 8489, 6.2.1).
#[derive(Clone, Copy)]
pub struct Schedule {
    /// Between the first two; each wait is twice the one before.
    pub first: Duration,
    /// Requests at most.
    pub requests: u32,
    /// After the last one, times `first`.
    pub patience: u32,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), requests: 7, patience: 16 }
    }
}

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The socket did not do what it was asked.
    #[error(transparent)]
    Io(#[from] Error),
    /// All requests were lost, or their answers.
    #[error("{0} did not answer {1} requests")]
    Silent(SocketAddr, u32),
    /// An error response, with its code.
    #[error("the server refused: {0}")]
    Refused(u16),
    /// A success without an address, or with attributes that must be understood.
    #[error("the answer has no address, or asks for something unknown")]
    Useless,
}

/// What a message says, if it is an answer to this request; else none.
pub fn answer(message: &[u8], transaction: [u8; 12]) -> Option<Result<SocketAddr, Failure>> {
    let (header, body) = message.split_first_chunk::<HEADER>()?;
    let kind = u16::from_be_bytes([header[0], header[1]]);
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[4..8] != COOKIE.to_be_bytes()
        || header[8..] != transaction
        || length != body.len()
        || ![SUCCESS, ERROR].contains(&kind)
    {
        return None;
    }
    let (mut rest, mut found) = (body, None);
    while let Some(([k0, k1, l0, l1], behind)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        // A message that is cut is none.
        let value = behind.get(..length)?;
        rest = behind.get(length.next_multiple_of(4)..)?;
        match (kind, u16::from_be_bytes([*k0, *k1])) {
            (SUCCESS, XOR_MAPPED_ADDRESS) => found = found.or(Some(Ok(mapped(value, transaction)?))),
            (ERROR, ERROR_CODE) => {
                let code = u16::from(value.get(2)? & 7) * 100 + u16::from(*value.get(3)?);
                found = found.or(Some(Err(Failure::Refused(code))));
            }
            // What must be understood is not.
            (SUCCESS, attribute) if attribute < 0x8000 && !KNOWN.contains(&attribute) => {
                return Some(Err(Failure::Useless));
            }
            _ => {}
        }
    }
    if rest.is_empty() { Some(found.unwrap_or(Err(Failure::Useless))) } else { None }
}

/// XOR-MAPPED-ADDRESS: so that nothing on the way takes it for an address that it should translate.
fn mapped(value: &[u8], transaction: [u8; 12]) -> Option<SocketAddr> {
    let mut mask = COOKIE.to_be_bytes().to_vec();
    mask.extend(transaction);
    let port = u16::from_be_bytes([*value.get(2)?, *value.get(3)?]) ^ (COOKIE >> 16) as u16;
    let bytes: Vec<u8> = value[4..].iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    let ip = match (value[1], value.len()) {
        (1, 8) => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        (2, 20) => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// A number that nobody can guess; in a simulation, what its seed says.
fn transaction<D: Driver>(io: &Io<D>) -> [u8; 12] {
    let mut number = [0; 12];
    if D::SIMULATED || rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty()).is_err() {
        for part in number.chunks_mut(8) {
            part.copy_from_slice(&io.tasks().random().to_be_bytes()[..part.len()]);
        }
    }
    number
}

/// The address that the server sees this socket at.
pub async fn address<D: Driver>(
    io: &Io<D>,
    socket: &UdpSocket<D>,
    server: SocketAddr,
    schedule: Schedule,
) -> Result<SocketAddr, Failure> {
    let transaction = transaction(io);
    let mut request = [&BINDING.to_be_bytes()[..], &[0, 0], &COOKIE.to_be_bytes(), &transaction].concat();
    let mut buffer = Vec::with_capacity(1280);
    let mut wait = schedule.first;
    for number in 1..=schedule.requests {
        request = socket.send(request, server).await?;
        let due: Instant =
            io.now() + if number == schedule.requests { schedule.first * schedule.patience } else { wait };
        wait *= 2;
        while io.now() < due
            && let Ok(received) = io.timeout(due.since(io.now()), socket.receive(buffer)).await
        {
            let (from, message) = received?;
            if from == server
                && let Some(answer) = answer(&message, transaction)
            {
                return answer;
            }
            buffer = message;
        }
        buffer = Vec::with_capacity(1280);
    }
    Err(Failure::Silent(server, schedule.requests))
}

#[cfg(not(test))]
async fn run<D: Driver>(io: Io<D>) -> Result<(), Box<dyn std::error::Error>> {
    let server: SocketAddr = match std::env::args().nth(2) {
        Some(server) => server.parse()?,
        None if D::SIMULATED => "[::1]:3478".parse()?,
        None => return Err("the second argument is the server: 192.0.2.1:3478".into()),
    };
    let unspecified = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(&io, unspecified.parse()?)?;
    if D::SIMULATED {
        let answering = UdpSocket::bind(&io, server)?;
        drop(io.spawn(async move {
            let (from, mut message) = answering.receive(Vec::with_capacity(1280)).await?;
            message[0] = 1;
            message[3] = 24;
            message.extend(XOR_MAPPED_ADDRESS.to_be_bytes().into_iter().chain([0, 20, 0, 2]));
            message.extend((from.port() ^ (COOKIE >> 16) as u16).to_be_bytes());
            let IpAddr::V6(ip) = from.ip() else { return Ok(message) };
            let masked: Vec<u8> =
                ip.octets().iter().zip(&message[4..20]).map(|(byte, mask)| byte ^ mask).collect();
            message.extend(masked);
            answering.send(message, from).await
        }));
    }
    println!("seen at {}", address(&io, &socket, server, Schedule::default()).await?);
    Ok(())
}

#[cfg(not(test))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    chosen::run_on_chosen!(run)
}
