//! zsync's runtime, over io_uring.

use super::{ANY, Contestant};
use anyhow::Result;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use zsync_runtime::sync::mpsc;
use zsync_runtime::{
    Details, Error, Handle, SocketOption, TcpListener, TcpStream, UdpSocket, Uring, UringIo,
};

/// See the module.
#[derive(Clone)]
pub(crate) struct Ours(UringIo);

fn failed(error: Error) -> io::Error {
    io::Error::other(error)
}

impl Contestant for Ours {
    type Task<T: 'static> = Handle<T>;
    type Sender = mpsc::Sender<u32>;
    type Receiver = mpsc::Receiver<u32>;
    type Udp = UdpSocket<Uring>;
    type Groups = UdpSocket<Uring>;
    type Stream = TcpStream<Uring>;
    type Listener = TcpListener<Uring>;

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> Result<T> {
        Ok(UringIo::new()?.run(async move |io| main(Self(io)).await))
    }

    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Handle<T> {
        self.0.spawn(future)
    }

    async fn join<T: 'static>(task: Handle<T>) -> T {
        task.await.unwrap_or_else(|why| panic!("{why}"))
    }

    async fn abort(tasks: Vec<Handle<()>>) -> bool {
        tasks.iter().for_each(Handle::abort);
        for task in tasks {
            let _ = task.await;
        }
        true
    }

    async fn yield_now() {
        let _ = zsync_runtime::yield_now().await;
    }

    fn channel() -> (Self::Sender, Self::Receiver) {
        mpsc::channel(1)
    }

    async fn tell(sender: &Self::Sender, message: u32) {
        let _ = sender.send(message).await;
    }

    async fn hear(receiver: &mut Self::Receiver) -> Option<u32> {
        receiver.recv().await.ok()?
    }

    fn sleep(&self, time: Duration) -> impl Future + 'static {
        self.0.tasks().sleep(time)
    }

    async fn udp(&self) -> Result<(Self::Udp, SocketAddr)> {
        let udp = UdpSocket::bind(&self.0, ANY)?;
        let address = udp.address()?;
        Ok((udp, address))
    }

    async fn receive(udp: &Self::Udp, buffer: Vec<u8>) -> io::Result<(SocketAddr, Vec<u8>)> {
        udp.receive(buffer).await.map_err(failed)
    }

    async fn send(udp: &Self::Udp, buffer: Vec<u8>, to: SocketAddr) -> io::Result<Vec<u8>> {
        udp.send(buffer, to).await.map_err(failed)
    }

    async fn groups(&self) -> Result<Option<(Self::Groups, SocketAddr)>> {
        let joins = [SocketOption::ReceiveSegments(true)];
        let udp = UdpSocket::bind_with(&self.0, ANY, &joins)?;
        let address = udp.address()?;
        Ok(Some((udp, address)))
    }

    async fn receive_group(udp: &Self::Groups, buffer: Vec<u8>) -> io::Result<(SocketAddr, usize, Vec<u8>)> {
        let (from, details, buffer) = udp.receive_with(buffer).await.map_err(failed)?;
        Ok((from, details.segment.map_or(buffer.len(), usize::from), buffer))
    }

    async fn send_group(
        udp: &Self::Groups,
        buffer: Vec<u8>,
        segment: usize,
        to: SocketAddr,
    ) -> io::Result<Vec<u8>> {
        let segment = u16::try_from(segment).ok().filter(|segment| buffer.len() > usize::from(*segment));
        let details = Details { segment, ..Details::default() };
        udp.send_with(buffer, to, details).await.map_err(failed)
    }

    async fn listen(&self) -> Result<(Self::Listener, SocketAddr)> {
        let listener = TcpListener::bind(&self.0, ANY)?;
        let address = listener.address()?;
        Ok((listener, address))
    }

    async fn accept(listener: &Self::Listener) -> Result<Self::Stream> {
        let (stream, _) = listener.accept().await?;
        stream.set(SocketOption::NoDelay(true))?;
        Ok(stream)
    }

    async fn read(stream: &mut Self::Stream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        stream.read(buffer).await.map_err(failed)
    }

    async fn write(stream: &mut Self::Stream, buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        stream.write(buffer).await.map_err(failed)
    }
}
