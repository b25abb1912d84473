//! compio over io_uring. It has no channels; `local-sync`'s are those that suit it best.

use super::groups::Groups;
use super::{ANY, Contestant};
use anyhow::Result;
use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream, UdpSocket};
use compio::runtime::{JoinHandle, Runtime, spawn};
use local_sync::mpsc::bounded;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// See the module.
#[derive(Clone)]
pub(crate) struct Compio;

/// Control messages (cmsg(3)) are its caller's bytes: room for those that the socket asks for.
const CONTROL: usize = 256;
/// Bytes of a header: length, level and kind.
const HEADER: usize = 16;
const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;

/// That a buffer is datagrams of so many bytes.
fn control_of(segment: u16) -> Vec<u8> {
    let mut control = Vec::with_capacity(HEADER + 8);
    control.extend_from_slice(&(HEADER + 2).to_ne_bytes());
    control.extend_from_slice(&SOL_UDP.to_ne_bytes());
    control.extend_from_slice(&UDP_SEGMENT.to_ne_bytes());
    control.extend_from_slice(&segment.to_ne_bytes());
    control.resize(HEADER + 8, 0);
    control
}

/// How long the datagrams are that the kernel has joined, if it has.
fn segment_of(mut control: &[u8]) -> Option<usize> {
    let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
    loop {
        let length = usize::from_ne_bytes(*control.first_chunk()?);
        let data = control.get(HEADER..length)?;
        if number(&control[8..]) == Some(SOL_UDP) && number(&control[12..]) == Some(UDP_GRO) {
            return usize::try_from(number(data)?).ok();
        }
        control = control.get(length.next_multiple_of(8)..)?;
    }
}

impl Contestant for Compio {
    type Task<T: 'static> = JoinHandle<T>;
    type Sender = bounded::Tx<u32>;
    type Receiver = bounded::Rx<u32>;
    type Udp = UdpSocket;
    type Groups = UdpSocket;
    type Stream = TcpStream;
    type Listener = TcpListener;

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> Result<T> {
        let runtime = Runtime::new()?;
        Ok(runtime.block_on(async move { Self::join(spawn(async move { main(Self).await })).await }))
    }

    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        spawn(future)
    }

    async fn join<T: 'static>(task: JoinHandle<T>) -> T {
        task.await.unwrap_or_else(|why| panic!("{why}"))
    }

    async fn abort(tasks: Vec<JoinHandle<()>>) -> bool {
        for task in tasks {
            task.cancel().await;
        }
        true
    }

    fn channel() -> (Self::Sender, Self::Receiver) {
        bounded::channel(1)
    }

    async fn tell(sender: &Self::Sender, message: u32) {
        let _ = sender.send(message).await;
    }

    async fn hear(receiver: &mut Self::Receiver) -> Option<u32> {
        receiver.recv().await
    }

    fn sleep(&self, time: Duration) -> impl Future + 'static {
        compio::time::sleep(time)
    }

    async fn udp(&self) -> Result<(UdpSocket, SocketAddr)> {
        let udp = UdpSocket::bind(ANY).await?;
        let address = udp.local_addr()?;
        Ok((udp, address))
    }

    async fn receive(udp: &UdpSocket, mut buffer: Vec<u8>) -> io::Result<(SocketAddr, Vec<u8>)> {
        // It only ever makes a buffer's contents longer.
        buffer.clear();
        let BufResult(received, buffer) = udp.recv_from(buffer).await;
        Ok((received?.1, buffer))
    }

    async fn send(udp: &UdpSocket, buffer: Vec<u8>, to: SocketAddr) -> io::Result<Vec<u8>> {
        let BufResult(sent, buffer) = udp.send_to(buffer, to).await;
        sent.map(|_| buffer)
    }

    async fn groups(&self) -> Result<Option<(Self::Groups, SocketAddr)>> {
        let (_, socket, address) = Groups::bind()?;
        Ok(Some((UdpSocket::from_std(socket)?, address)))
    }

    async fn receive_group(
        udp: &Self::Groups,
        mut buffer: Vec<u8>,
    ) -> io::Result<(SocketAddr, usize, Vec<u8>)> {
        buffer.clear();
        let BufResult(received, (buffer, control)) = udp.recv_msg(buffer, Vec::with_capacity(CONTROL)).await;
        let (_, told, from, _) = received?;
        let segment = segment_of(control.get(..told).unwrap_or(&[])).unwrap_or(buffer.len());
        Ok((from, segment, buffer))
    }

    async fn send_group(
        udp: &Self::Groups,
        buffer: Vec<u8>,
        segment: usize,
        to: SocketAddr,
    ) -> io::Result<Vec<u8>> {
        let control = if buffer.len() > segment { control_of(segment as u16) } else { Vec::new() };
        let BufResult(sent, (buffer, _)) = udp.send_msg(buffer, control, to).await;
        sent.map(|_| buffer)
    }

    async fn listen(&self) -> Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(ANY).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    async fn accept(listener: &TcpListener) -> Result<TcpStream> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn read(stream: &mut TcpStream, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        buffer.clear();
        let BufResult(length, buffer) = stream.read(buffer).await;
        length.map(|_| buffer)
    }

    async fn write(stream: &mut TcpStream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        let BufResult(written, buffer) = stream.write_all(buffer).await;
        written.map(|()| buffer)
    }
}
