//! The far end of the network: threads on the other core that send and receive by plain system calls, many datagrams by one.
//!
//! Keeps true: they look for what has come again and again, and never sleep, so that nobody has to wake them; a rate is that
//! of the fastest slice of a turn; how much of the turn they had nothing to do is told, for with none of it they are the limit.

use crate::contestant::ANY;
use crate::exercise::{BURST, CONNECTIONS};
use anyhow::{Context, Result, ensure};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::event::epoll;
use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a message.
pub(crate) const LENGTH: usize = 64;
/// Room for what comes by one call, which may be a group.
const ROOM: usize = 2 * BURST * LENGTH;
/// Datagrams under way at most: they fit into a socket's receive buffer as it is by default.
const WINDOW: usize = 96;
/// Of a turn.
const SLICE: Duration = Duration::from_millis(10);
/// What has not come by then is lost.
const LOST: Duration = Duration::from_millis(20);
/// One that says nothing for so long is gone.
const SILENT: Duration = Duration::from_secs(5);

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// In a second.
    pub(crate) rate: f64,
    /// Share of the time in which the far end had nothing to do.
    pub(crate) idle: f64,
    /// Datagrams that did not come.
    pub(crate) lost: u64,
}

/// Counts what comes, slice by slice.
struct Slices {
    begin: Instant,
    last: Instant,
    idle: Duration,
    /// When the slice under way began, and what has come since.
    from: Instant,
    count: u64,
    fastest: f64,
}

impl Slices {
    fn new() -> Self {
        let now = Instant::now();
        Self { begin: now, last: now, idle: Duration::ZERO, from: now, count: 0, fastest: 0.0 }
    }

    /// So many have come since the last look.
    fn look(&mut self, came: u64) -> Instant {
        let now = Instant::now();
        if came == 0 {
            self.idle += now - self.last;
        }
        self.last = now;
        self.count += came;
        let slice = now - self.from;
        if slice >= SLICE {
            self.fastest = self.fastest.max(self.count as f64 / slice.as_secs_f64());
            (self.from, self.count) = (now, 0);
        }
        now
    }

    fn rate(&self, lost: u64) -> Rate {
        let idle = self.idle.as_secs_f64() / (self.last - self.begin).as_secs_f64();
        Rate { rate: self.fastest, idle, lost }
    }
}

/// Does it on this core.
pub(crate) fn on_core<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            core_affinity::set_for_current(core_affinity::CoreId { id: core });
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A socket, and datagrams in bursts.
pub(crate) struct Datagrams {
    socket: UdpSocket,
    state: UdpSocketState,
    room: Vec<[u8; ROOM]>,
}

impl Datagrams {
    pub(crate) fn bind() -> Result<Self> {
        let socket = UdpSocket::bind(ANY)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        ensure!(state.max_gso_segments() >= BURST, "the kernel has no UDP_SEGMENT (Linux 4.18)");
        // As much as may be had: what waits is not lost.
        state.set_recv_buffer_size(UdpSockRef::from(&socket), 4 << 20)?;
        Ok(Self { socket, state, room: vec![[0; ROOM]; BATCH_SIZE] })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    fn send(&self, to: SocketAddr, contents: &[u8]) -> Result<()> {
        let segment_size = (contents.len() > LENGTH).then_some(LENGTH);
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None };
        loop {
            match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
                // Its buffer is full: until the other end has taken some.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                sent => return Ok(sent?),
            }
        }
    }

    /// How many have come, and whether one of them was the last word.
    fn receive(&mut self) -> Result<(u64, bool)> {
        let mut slices: Vec<_> = self.room.iter_mut().map(|room| IoSliceMut::new(room)).collect();
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas) {
            Ok(count) => {
                let datagrams = |meta: &RecvMeta| match meta.len {
                    1 => 0,
                    length => length.div_ceil(meta.stride.max(1)) as u64,
                };
                let came = &metas[..count];
                Ok((came.iter().map(datagrams).sum(), came.iter().any(|meta| meta.len == 1)))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok((0, false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends, and counts what comes back, for so long.
    pub(crate) fn echo(&mut self, server: SocketAddr, time: Duration) -> Result<Rate> {
        let burst = [1; BURST * LENGTH];
        let (mut slices, mut flying, mut lost) = (Slices::new(), 0_usize, 0);
        let mut heard = slices.begin;
        while slices.last - slices.begin < time {
            while flying + BURST <= WINDOW {
                self.send(server, &burst)?;
                flying += BURST;
            }
            let (came, _) = self.receive()?;
            let now = slices.look(came);
            if came > 0 {
                heard = now;
            } else if now - heard > LOST {
                (lost, flying, heard) = (lost + flying as u64, 0, now);
            }
            flying = flying.saturating_sub(came as usize);
        }
        Ok(slices.rate(lost))
    }

    /// Tells so many tasks that it is over. Some of it may be lost.
    pub(crate) fn finish(&self, server: SocketAddr, tasks: u32) -> Result<()> {
        (0..tasks).try_for_each(|_| self.send(server, &[0]))
    }

    /// Counts what comes until the last word.
    pub(crate) fn count(&mut self) -> Result<Rate> {
        let mut slices = Slices::new();
        let mut heard = slices.begin;
        loop {
            let (came, over) = self.receive()?;
            let now = slices.look(came);
            if over {
                return Ok(slices.rate(0));
            }
            if came > 0 {
                heard = now;
            }
            ensure!(now - heard < SILENT, "nothing has come for {} s", SILENT.as_secs());
        }
    }
}

/// Connections with a message under way on each.
pub(crate) fn echo_streams(server: SocketAddr, time: Duration) -> Result<Rate> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut streams = Vec::new();
    for number in 0..CONNECTIONS {
        let stream = TcpStream::connect(server).context("connecting to the contestant")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&epoll, &stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        streams.push(stream);
    }
    let message = [1; LENGTH];
    for stream in &mut streams {
        stream.write_all(&message)?;
    }
    let mut events = Vec::with_capacity(CONNECTIONS);
    let (mut slices, mut heard) = (Slices::new(), Instant::now());
    let at_once = rustix::time::Timespec::default();
    while slices.last - slices.begin < time {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&at_once))?;
        let mut came = 0;
        for event in &events {
            let Some(stream) = streams.get_mut(event.data.u64() as usize) else { continue };
            let mut room = [0; 2 * LENGTH];
            let length = stream.read(&mut room)?;
            ensure!(length == LENGTH, "{length} bytes came back of {LENGTH}");
            stream.write_all(&message)?;
            came += 1;
        }
        let now = slices.look(came);
        if came > 0 {
            heard = now;
        }
        ensure!(now - heard < SILENT, "no connection has answered for {} s", SILENT.as_secs());
    }
    // What is still under way comes first, or closing would break the connections.
    for stream in &mut streams {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(SILENT))?;
        stream.read_exact(&mut [0; LENGTH])?;
    }
    Ok(slices.rate(0))
}
