//! The STUN client of the examples, on every Io.

mod beside;
mod every;

#[path = "../examples/stun.rs"]
mod stun;

use beside::beside;
use every::on_every_io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::Sender;
use std::time::Duration;
use stun::{Failure, Schedule};
use zsync_runtime::{Driver, Io, UdpSocket};

const SCHEDULE: Schedule = Schedule { first: Duration::from_millis(20), requests: 4, patience: 4 };
/// RFC 5769's.
const TRANSACTION: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// RFC 5769, 2.2 and 2.3.
fn samples() -> [(Vec<u8>, SocketAddr); 2] {
    let v4 = "0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220 00200008 0001a147 \
        e112a643 00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96";
    let v6 = "01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220 00200014 0002a147 \
        0113a9fa a5d3f179 bc25f4b5 bed2b9d9 00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c";
    [
        (bytes(v4), "192.0.2.1:32853".parse().unwrap()),
        (bytes(v6), "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap()),
    ]
}

#[test]
fn the_samples_of_rfc_5769_are_read_and_cut_or_changed_ones_are_not() {
    for (message, address) in samples() {
        assert_eq!(stun::answer(&message, TRANSACTION).unwrap().unwrap(), address);
        for length in 0..message.len() {
            assert!(stun::answer(&message[..length], TRANSACTION).is_none(), "of {length} bytes");
        }
        for at in 0..20 {
            let mut other = message.clone();
            other[at] ^= 0x40;
            assert!(stun::answer(&other, TRANSACTION).is_none(), "changed at {at}");
        }
        // None of them does worse than to say nothing, or something else.
        for at in 20..message.len() {
            for bit in 0..8 {
                let mut other = message.clone();
                other[at] ^= 1 << bit;
                let _ = stun::answer(&other, TRANSACTION);
            }
        }
        let mut strange = message.clone();
        strange[20..22].copy_from_slice(&[0x7f, 0xff]);
        assert!(matches!(stun::answer(&strange, TRANSACTION), Some(Err(Failure::Useless))));
    }
    let refused = bytes("01110008 2112a442 b7e7a701 bc34d686 fa87dfae 00090004 00000414");
    assert!(matches!(stun::answer(&refused, TRANSACTION), Some(Err(Failure::Refused(420)))));
}

/// An answer to a request.
fn answer_to(request: &[u8], seen: SocketAddr) -> Vec<u8> {
    let mask = &request[4..20];
    let ip = match seen.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let length = 4 + ip.len() as u8;
    let family = if length == 8 { 1 } else { 2 };
    let port = (seen.port() ^ 0x2112).to_be_bytes();
    let masked = ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask);
    let head = [1, 1, 0, length + 4];
    head.iter()
        .chain(mask)
        .chain(&[0, 0x20, 0, length, 0, family])
        .chain(&port)
        .copied()
        .chain(masked)
        .collect()
}

/// Answers the third request of each kind, after others have tried to.
async fn server_at<D: Driver>(io: Io<D>, tell: Sender<SocketAddr>, at: &str) {
    let [socket, stranger] = [at, at].map(|at| UdpSocket::bind(&io, at.parse().unwrap()).unwrap());
    tell.send(socket.address().unwrap()).unwrap();
    let lie: SocketAddr = "198.51.100.1:1".parse().unwrap();
    let mut buffer = Vec::with_capacity(1280);
    for number in 1_u32.. {
        let (from, request) = socket.receive(buffer).await.unwrap();
        assert_eq!((request.len(), &request[..8]), (20, &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..]));
        if number % 3 == 0 {
            stranger.send(answer_to(&request, lie), from).await.unwrap();
            let mut of_another = request.clone();
            of_another[19] ^= 1;
            for wrong in [answer_to(&of_another, lie), request.clone(), Vec::new()] {
                socket.send(wrong, from).await.unwrap();
            }
            // So that a simulation, in which datagrams overtake each other, has brought them.
            io.sleep(Duration::from_millis(5)).await.unwrap();
            socket.send(answer_to(&request, from), from).await.unwrap();
        }
        buffer = request;
    }
}

async fn server_v4<D: Driver>(io: Io<D>, tell: Sender<SocketAddr>) {
    server_at(io, tell, "127.0.0.1:0").await;
}

async fn server_v6<D: Driver>(io: Io<D>, tell: Sender<SocketAddr>) {
    server_at(io, tell, "[::1]:0").await;
}

async fn it_asks_until_the_server_itself_answers<D: Driver>(io: Io<D>) {
    for (server, at) in [(beside!(io, D, server_v4), "127.0.0.1:0"), (beside!(io, D, server_v6), "[::1]:0")] {
        let socket = UdpSocket::bind(&io, at.parse().unwrap()).unwrap();
        let begin = io.now();
        let address = stun::address(&io, &socket, server, SCHEDULE).await.unwrap();
        assert_eq!(address, socket.address().unwrap());
        // The third is sent after one wait and another twice as long.
        let passed = io.now().since(begin);
        assert!(passed >= 3 * SCHEDULE.first, "{passed:?}");
    }
}

async fn it_gives_up_when_the_schedule_says_so<D: Driver>(io: Io<D>) {
    let silent = UdpSocket::bind(&io, "127.0.0.1:0".parse().unwrap()).unwrap();
    let socket = UdpSocket::bind(&io, "127.0.0.1:0".parse().unwrap()).unwrap();
    // A simulation has time for the RFC's own schedule.
    let (schedule, whole) = if D::SIMULATED {
        (Schedule::default(), Duration::from_millis(39_500))
    } else {
        (SCHEDULE, SCHEDULE.first * (1 + 2 + 4 + 4))
    };
    let begin = io.now();
    let failed = stun::address(&io, &socket, silent.address().unwrap(), schedule).await.unwrap_err();
    assert!(matches!(failed, Failure::Silent(_, requests) if requests == schedule.requests), "{failed}");
    let passed = io.now().since(begin);
    assert!(passed >= whole && (!D::SIMULATED || passed < whole + Duration::from_millis(1)), "{passed:?}");
    let mut first = None;
    for _ in 0..schedule.requests {
        let (_, request) = silent.receive(Vec::with_capacity(1280)).await.unwrap();
        assert_eq!(*first.get_or_insert(request.clone()), request, "all are the same");
    }
}

on_every_io!(it_asks_until_the_server_itself_answers, it_gives_up_when_the_schedule_says_so);
