//! compio over io_uring. It has no channels; `local-sync`'s are those that suit it best.

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

impl Contestant for Compio {
    type Task<T: 'static> = JoinHandle<T>;
    type Sender = bounded::Tx<u32>;
    type Receiver = bounded::Rx<u32>;
    type Udp = UdpSocket;
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
