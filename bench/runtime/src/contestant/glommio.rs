//! glommio: three io_urings on the calling thread.

use super::{ANY, Contestant, filled};
use anyhow::{Result, anyhow};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::channels::local_channel::{LocalReceiver, LocalSender, new_bounded};
use glommio::net::{TcpListener, TcpStream, UdpSocket};
use glommio::timer::Timer;
use glommio::{GlommioError, LocalExecutorBuilder, Placement, Task, spawn_local};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// See the module.
#[derive(Clone)]
pub(crate) struct Glommio;

fn failed(error: GlommioError<()>) -> io::Error {
    io::Error::from(error)
}

impl Contestant for Glommio {
    type Task<T: 'static> = Task<T>;
    type Sender = LocalSender<u32>;
    type Receiver = LocalReceiver<u32>;
    type Udp = UdpSocket;
    type Groups = Infallible;
    type Stream = TcpStream;
    type Listener = TcpListener;

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> Result<T> {
        let made = LocalExecutorBuilder::new(Placement::Unbound).make();
        let executor = made.map_err(|why| anyhow!("{why}"))?;
        Ok(executor.run(async move { spawn_local(async move { main(Self).await }).await }))
    }

    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        spawn_local(future)
    }

    async fn join<T: 'static>(task: Task<T>) -> T {
        task.await
    }

    async fn abort(tasks: Vec<Task<()>>) -> bool {
        let tasks: Vec<_> = tasks.into_iter().map(Task::detach).collect();
        tasks.iter().for_each(|task| task.cancel());
        for task in tasks {
            task.await;
        }
        true
    }

    fn channel() -> (Self::Sender, Self::Receiver) {
        new_bounded(1)
    }

    async fn tell(sender: &Self::Sender, message: u32) {
        let _ = sender.send(message).await;
    }

    async fn hear(receiver: &mut Self::Receiver) -> Option<u32> {
        receiver.recv().await
    }

    fn sleep(&self, time: Duration) -> impl Future + 'static {
        Timer::new(time)
    }

    async fn udp(&self) -> Result<(UdpSocket, SocketAddr)> {
        let udp = UdpSocket::bind(ANY).map_err(failed)?;
        let address = udp.local_addr().map_err(failed)?;
        Ok((udp, address))
    }

    async fn receive(udp: &UdpSocket, buffer: Vec<u8>) -> io::Result<(SocketAddr, Vec<u8>)> {
        filled(buffer, async |room| udp.recv_from(room).await.map_err(failed)).await
    }

    async fn send(udp: &UdpSocket, buffer: Vec<u8>, to: SocketAddr) -> io::Result<Vec<u8>> {
        udp.send_to(&buffer, to).await.map_err(failed)?;
        Ok(buffer)
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
        let listener = TcpListener::bind(ANY).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok((listener, address))
    }

    async fn accept(listener: &TcpListener) -> Result<TcpStream> {
        let stream = listener.accept().await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(stream)
    }

    async fn read(stream: &mut TcpStream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        let (_, buffer) = filled(buffer, async |room| Ok((stream.read(room).await?, ()))).await?;
        Ok(buffer)
    }

    async fn write(stream: &mut TcpStream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        stream.write_all(&buffer).await?;
        Ok(buffer)
    }
}
