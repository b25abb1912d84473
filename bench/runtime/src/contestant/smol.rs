//! smol: `async-executor` and `async-io`, over epoll.

use super::groups::Groups;
use super::{ANY, Contestant, filled};
use anyhow::Result;
use async_channel::{Receiver, Sender, bounded};
use async_executor::{LocalExecutor, Task};
use async_io::{Async, Timer, block_on};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use quinn_udp::UdpSockRef;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

/// See the module.
#[derive(Clone)]
pub(crate) struct Smol(Rc<LocalExecutor<'static>>);

impl Contestant for Smol {
    type Task<T: 'static> = Task<T>;
    type Sender = Sender<u32>;
    type Receiver = Receiver<u32>;
    type Udp = Async<UdpSocket>;
    type Groups = (Async<UdpSocket>, Groups);
    type Stream = Async<TcpStream>;
    type Listener = Async<TcpListener>;

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> Result<T> {
        let smol = Self(Rc::new(LocalExecutor::new()));
        let main = smol.0.spawn({
            let smol = smol.clone();
            async move { main(smol).await }
        });
        Ok(block_on(smol.0.run(main)))
    }

    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        self.0.spawn(future)
    }

    async fn join<T: 'static>(task: Task<T>) -> T {
        task.await
    }

    async fn abort(tasks: Vec<Task<()>>) -> bool {
        for task in tasks {
            task.cancel().await;
        }
        true
    }

    fn channel() -> (Self::Sender, Self::Receiver) {
        bounded(1)
    }

    async fn tell(sender: &Self::Sender, message: u32) {
        let _ = sender.send(message).await;
    }

    async fn hear(receiver: &mut Self::Receiver) -> Option<u32> {
        receiver.recv().await.ok()
    }

    fn sleep(&self, time: Duration) -> impl Future + 'static {
        Timer::after(time)
    }

    async fn udp(&self) -> Result<(Self::Udp, SocketAddr)> {
        let udp = Async::<UdpSocket>::bind(ANY)?;
        let address = udp.get_ref().local_addr()?;
        Ok((udp, address))
    }

    async fn receive(udp: &Self::Udp, buffer: Vec<u8>) -> io::Result<(SocketAddr, Vec<u8>)> {
        filled(buffer, async |room| udp.recv_from(room).await).await
    }

    async fn send(udp: &Self::Udp, buffer: Vec<u8>, to: SocketAddr) -> io::Result<Vec<u8>> {
        udp.send_to(&buffer, to).await?;
        Ok(buffer)
    }

    async fn groups(&self) -> Result<Option<(Self::Groups, SocketAddr)>> {
        let (groups, socket, address) = Groups::bind()?;
        Ok(Some(((Async::new(socket)?, groups), address)))
    }

    async fn receive_group(
        (udp, groups): &Self::Groups,
        mut buffer: Vec<u8>,
    ) -> io::Result<(SocketAddr, usize, Vec<u8>)> {
        let receive = |udp: &UdpSocket| groups.receive(UdpSockRef::from(udp), &mut buffer);
        let (from, segment) = udp.read_with(receive).await?;
        Ok((from, segment, buffer))
    }

    async fn send_group(
        (udp, groups): &Self::Groups,
        buffer: Vec<u8>,
        segment: usize,
        to: SocketAddr,
    ) -> io::Result<Vec<u8>> {
        udp.write_with(|udp| groups.send(UdpSockRef::from(udp), &buffer, segment, to)).await?;
        Ok(buffer)
    }

    async fn listen(&self) -> Result<(Self::Listener, SocketAddr)> {
        let listener = Async::<TcpListener>::bind(ANY)?;
        let address = listener.get_ref().local_addr()?;
        Ok((listener, address))
    }

    async fn accept(listener: &Self::Listener) -> Result<Self::Stream> {
        let (stream, _) = listener.accept().await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(stream)
    }

    async fn read(stream: &mut Self::Stream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        let (_, buffer) = filled(buffer, async |room| Ok((stream.read(room).await?, ()))).await?;
        Ok(buffer)
    }

    async fn write(stream: &mut Self::Stream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        stream.write_all(&buffer).await?;
        Ok(buffer)
    }
}
