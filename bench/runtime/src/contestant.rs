//! What every runtime is asked for, each in its own words, so that what is measured is written once.

mod compio;
mod glommio;
mod groups;
mod monoio;
mod ours;
mod smol;
mod tokio;

pub(crate) use self::compio::Compio;
pub(crate) use self::glommio::Glommio;
pub(crate) use self::monoio::Monoio;
pub(crate) use self::ours::Ours;
pub(crate) use self::smol::Smol;
pub(crate) use self::tokio::Tokio;

use anyhow::Result;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

/// Where sockets are bound: any port of the loopback.
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A runtime with one thread. A copy names the same one.
///
/// Buffers are given away and come back, filled as far as something was received: what io_uring needs, and no loss for the
/// others.
pub(crate) trait Contestant: Clone + 'static {
    /// A task that was spawned.
    type Task<T: 'static>: 'static;
    /// The ends of a channel of one place.
    type Sender: 'static;
    /// See above.
    type Receiver: 'static;
    /// A UDP socket, an end of a TCP connection, and who accepts those.
    type Udp: 'static;
    /// A UDP socket for groups: several datagrams by one call (UDP_SEGMENT, UDP_GRO).
    type Groups: 'static;
    /// See above.
    type Stream: 'static;
    /// See above.
    type Listener: 'static;

    /// Runs `main` on a runtime of its own, made as its documentation advises for one thread.
    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> Result<T>;

    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Self::Task<T>;

    async fn join<T: 'static>(task: Self::Task<T>) -> T;

    /// Ends tasks that wait, and waits until they have ended; false: it has no way to.
    async fn abort(tasks: Vec<Self::Task<()>>) -> bool;

    /// Lets others have their turn: it is woken, and is not ready.
    async fn yield_now() {
        let mut yielded = false;
        poll_fn(|cx| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// With room for one message.
    fn channel() -> (Self::Sender, Self::Receiver);

    async fn tell(sender: &Self::Sender, message: u32);

    /// None: the sender is gone.
    async fn hear(receiver: &mut Self::Receiver) -> Option<u32>;

    fn sleep(&self, time: Duration) -> impl Future + 'static;

    /// Bound to [`ANY`].
    async fn udp(&self) -> Result<(Self::Udp, SocketAddr)>;

    async fn receive(udp: &Self::Udp, buffer: Vec<u8>) -> io::Result<(SocketAddr, Vec<u8>)>;

    async fn send(udp: &Self::Udp, buffer: Vec<u8>, to: SocketAddr) -> io::Result<Vec<u8>>;

    /// Bound to [`ANY`]; none: it has no way to send groups.
    async fn groups(&self) -> Result<Option<(Self::Groups, SocketAddr)>>;

    /// A group of one sender, and how long each of its datagrams is but the last.
    async fn receive_group(
        groups: &Self::Groups,
        buffer: Vec<u8>,
    ) -> io::Result<(SocketAddr, usize, Vec<u8>)>;

    /// All of a buffer, as datagrams of so many bytes, the last of which may be shorter.
    async fn send_group(
        groups: &Self::Groups,
        buffer: Vec<u8>,
        segment: usize,
        to: SocketAddr,
    ) -> io::Result<Vec<u8>>;

    /// Bound to [`ANY`].
    async fn listen(&self) -> Result<(Self::Listener, SocketAddr)>;

    /// The next connection, without Nagle's delay.
    async fn accept(listener: &Self::Listener) -> Result<Self::Stream>;

    /// Nothing: the other end is done.
    async fn read(stream: &mut Self::Stream, buffer: Vec<u8>) -> io::Result<Vec<u8>>;

    /// All of it.
    async fn write(stream: &mut Self::Stream, buffer: Vec<u8>) -> io::Result<Vec<u8>>;
}

/// Receives into a buffer's capacity by one who wants to see bytes there.
async fn filled<T>(
    mut buffer: Vec<u8>,
    receive: impl AsyncFnOnce(&mut [u8]) -> io::Result<(usize, T)>,
) -> io::Result<(T, Vec<u8>)> {
    buffer.resize(buffer.capacity(), 0);
    let (length, from) = receive(&mut buffer).await?;
    buffer.truncate(length);
    Ok((from, buffer))
}
