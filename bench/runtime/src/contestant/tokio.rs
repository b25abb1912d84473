//! tokio's `LocalRuntime`: its current-thread scheduler, over epoll.

use super::groups::Groups;
use super::{ANY, Contestant};
use anyhow::Result;
use quinn_udp::UdpSockRef;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};

/// See the module.
#[derive(Clone)]
pub(crate) struct Tokio;

impl Contestant for Tokio {
    type Task<T: 'static> = JoinHandle<T>;
    type Sender = mpsc::Sender<u32>;
    type Receiver = mpsc::Receiver<u32>;
    type Udp = UdpSocket;
    type Groups = (UdpSocket, Groups);
    type Stream = TcpStream;
    type Listener = TcpListener;

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> Result<T> {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        Ok(runtime.block_on(async move { Self::join(spawn_local(async move { main(Self).await })).await }))
    }

    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        spawn_local(future)
    }

    async fn join<T: 'static>(task: JoinHandle<T>) -> T {
        task.await.unwrap_or_else(|why| panic!("{why}"))
    }

    async fn abort(tasks: Vec<JoinHandle<()>>) -> bool {
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            let _ = task.await;
        }
        true
    }

    fn channel() -> (Self::Sender, Self::Receiver) {
        mpsc::channel(1)
    }

    async fn tell(sender: &Self::Sender, message: u32) {
        let _ = sender.send(message).await;
    }

    async fn hear(receiver: &mut Self::Receiver) -> Option<u32> {
        receiver.recv().await
    }

    fn sleep(&self, time: Duration) -> impl Future + 'static {
        tokio::time::sleep(time)
    }

    async fn udp(&self) -> Result<(UdpSocket, SocketAddr)> {
        let udp = UdpSocket::bind(ANY).await?;
        let address = udp.local_addr()?;
        Ok((udp, address))
    }

    async fn receive(udp: &UdpSocket, mut buffer: Vec<u8>) -> io::Result<(SocketAddr, Vec<u8>)> {
        buffer.clear();
        let (_, from) = udp.recv_buf_from(&mut buffer).await?;
        Ok((from, buffer))
    }

    async fn send(udp: &UdpSocket, buffer: Vec<u8>, to: SocketAddr) -> io::Result<Vec<u8>> {
        udp.send_to(&buffer, to).await?;
        Ok(buffer)
    }

    async fn groups(&self) -> Result<Option<(Self::Groups, SocketAddr)>> {
        let (groups, socket, address) = Groups::bind()?;
        Ok(Some(((UdpSocket::from_std(socket)?, groups), address)))
    }

    async fn receive_group(
        (udp, groups): &Self::Groups,
        mut buffer: Vec<u8>,
    ) -> io::Result<(SocketAddr, usize, Vec<u8>)> {
        let receive = || groups.receive(UdpSockRef::from(udp), &mut buffer);
        let (from, segment) = udp.async_io(Interest::READABLE, receive).await?;
        Ok((from, segment, buffer))
    }

    async fn send_group(
        (udp, groups): &Self::Groups,
        buffer: Vec<u8>,
        segment: usize,
        to: SocketAddr,
    ) -> io::Result<Vec<u8>> {
        let send = || groups.send(UdpSockRef::from(udp), &buffer, segment, to);
        udp.async_io(Interest::WRITABLE, send).await?;
        Ok(buffer)
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
        stream.read_buf(&mut buffer).await?;
        Ok(buffer)
    }

    async fn write(stream: &mut TcpStream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        stream.write_all(&buffer).await?;
        Ok(buffer)
    }
}
