//! monoio over io_uring. It has no way to end a task, and its channels are `local-sync`'s, of the same authors.

use super::{ANY, Contestant};
use anyhow::Result;
use local_sync::mpsc::bounded;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::udp::UdpSocket;
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// See the module.
#[derive(Clone)]
pub(crate) struct Monoio;

impl Contestant for Monoio {
    type Task<T: 'static> = monoio::task::JoinHandle<T>;
    type Sender = bounded::Tx<u32>;
    type Receiver = bounded::Rx<u32>;
    type Udp = UdpSocket;
    type Groups = Infallible;
    type Stream = TcpStream;
    type Listener = TcpListener;

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> Result<T> {
        let mut runtime = RuntimeBuilder::<IoUringDriver>::new().enable_timer().build()?;
        Ok(runtime.block_on(async move { monoio::spawn(async move { main(Self).await }).await }))
    }

    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Self::Task<T> {
        monoio::spawn(future)
    }

    async fn join<T: 'static>(task: Self::Task<T>) -> T {
        task.await
    }

    async fn abort(_: Vec<Self::Task<()>>) -> bool {
        false
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
        monoio::time::sleep(time)
    }

    async fn udp(&self) -> Result<(UdpSocket, SocketAddr)> {
        let udp = UdpSocket::bind(ANY)?;
        let address = udp.local_addr()?;
        Ok((udp, address))
    }

    async fn receive(udp: &UdpSocket, buffer: Vec<u8>) -> io::Result<(SocketAddr, Vec<u8>)> {
        let (received, buffer) = udp.recv_from(buffer).await;
        Ok((received?.1, buffer))
    }

    async fn send(udp: &UdpSocket, buffer: Vec<u8>, to: SocketAddr) -> io::Result<Vec<u8>> {
        let (sent, buffer) = udp.send_to(buffer, to).await;
        sent.map(|_| buffer)
    }

    // It sends no control messages, and tells of no readiness to those who would.
    async fn groups(&self) -> Result<Option<(Self::Groups, SocketAddr)>> {
        Ok(None)
    }

    async fn receive_group(groups: &Self::Groups, _: Vec<u8>) -> io::Result<(SocketAddr, usize, Vec<u8>)> {
        match *groups {}
    }

    async fn send_group(groups: &Self::Groups, _: Vec<u8>, _: usize, _: SocketAddr) -> io::Result<Vec<u8>> {
        match *groups {}
    }

    async fn listen(&self) -> Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(ANY)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    async fn accept(listener: &TcpListener) -> Result<TcpStream> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn read(stream: &mut TcpStream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        let (length, mut buffer) = stream.read(buffer).await;
        buffer.truncate(length?);
        Ok(buffer)
    }

    async fn write(stream: &mut TcpStream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        let (written, buffer) = stream.write_all(buffer).await;
        written.map(|_| buffer)
    }
}
