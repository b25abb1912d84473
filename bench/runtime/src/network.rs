//! Sockets: the contestant's end of each exercise. The far end measures, except where it says otherwise.
//!
//! A datagram of one byte says that it is over.

use crate::contestant::Contestant;
use crate::exercise::{BURST, CONNECTIONS, DROPS, Exercise};
use crate::far::LENGTH;
use crate::tasks::Sample;
use crate::turn::Answer;
use anyhow::{Context, Result};
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Room of a buffer: more than any message has.
const ROOM: usize = 256;
/// As above, for a group: as much as the kernel joins.
const GROUP_ROOM: usize = 64 << 10;
/// Datagrams between two looks at the clock.
const LOOK: u32 = 32;
/// Words at the end of a one-way turn, in case that one is lost.
const WORDS: u32 = 8;
/// What is given to the kernel is under way after so long, and what was sent has come.
const SETTLED: Duration = Duration::from_millis(2);
/// A datagram that has not come by then is lost.
const LOST: Duration = Duration::from_millis(100);

/// Who is told where a contestant can be reached.
pub(crate) type Listening = Rc<dyn Fn(SocketAddr)>;

/// Does its part. `far` is where one-way datagrams go.
///
/// # Panics
/// When the exercise is none of sockets.
pub(crate) async fn serve<C: Contestant>(
    c: C,
    exercise: Exercise,
    turn: Duration,
    far: Option<SocketAddr>,
    listening: Listening,
) -> Result<Answer> {
    match exercise {
        Exercise::UdpEcho(tasks) => udp_echo(&c, tasks, listening).await?,
        Exercise::UdpSend(tasks) => {
            send_one_way(&c, tasks, turn, far.context("nobody to send to")?).await?;
        }
        Exercise::TcpEcho => tcp_echo(&c, listening).await?,
        Exercise::EchoGroups => return echo_groups(&c, listening).await,
        Exercise::SendGroups => {
            return send_groups(&c, turn, far.context("nobody to send to")?, listening).await;
        }
        Exercise::Dropped => {
            return Ok(Answer::Gave(Sample::of(f64::from(drop_receives(&c).await?))));
        }
        _ => unreachable!("{exercise:?} is not done here"),
    }
    Ok(Answer::Done)
}

async fn echo_datagrams<C: Contestant>(udp: Rc<C::Udp>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(ROOM);
    loop {
        let (from, received) = C::receive(&udp, buffer).await?;
        if received.len() == 1 {
            return Ok(());
        }
        buffer = C::send(&udp, received, from).await?;
    }
}

async fn udp_echo<C: Contestant>(c: &C, tasks: u32, listening: Listening) -> Result<()> {
    let (udp, address) = c.udp().await?;
    let udp = Rc::new(udp);
    let others: Vec<_> = (1..tasks).map(|_| c.spawn(echo_datagrams::<C>(udp.clone()))).collect();
    listening(address);
    echo_datagrams::<C>(udp).await?;
    // Each ends by a word of its own.
    for other in others {
        C::join(other).await?;
    }
    Ok(())
}

async fn send_datagrams<C: Contestant>(udp: Rc<C::Udp>, far: SocketAddr, end: Instant) -> io::Result<()> {
    let mut buffer = vec![1; LENGTH];
    while Instant::now() < end {
        for _ in 0..LOOK {
            buffer = C::send(&udp, buffer, far).await?;
        }
    }
    Ok(())
}

async fn send_one_way<C: Contestant>(c: &C, tasks: u32, turn: Duration, far: SocketAddr) -> Result<()> {
    let (udp, _) = c.udp().await?;
    let (udp, end) = (Rc::new(udp), Instant::now() + turn);
    let sending: Vec<_> = (0..tasks).map(|_| c.spawn(send_datagrams::<C>(udp.clone(), far, end))).collect();
    for task in sending {
        C::join(task).await?;
    }
    for _ in 0..WORDS {
        C::send(&udp, vec![0], far).await?;
    }
    Ok(())
}

async fn echo_groups<C: Contestant>(c: &C, listening: Listening) -> Result<Answer> {
    let Some((groups, address)) = c.groups().await? else { return Ok(Answer::None) };
    listening(address);
    let mut buffer = Vec::with_capacity(GROUP_ROOM);
    loop {
        let (from, segment, received) = C::receive_group(&groups, buffer).await?;
        if received.len() == 1 {
            return Ok(Answer::Done);
        }
        buffer = C::send_group(&groups, received, segment, from).await?;
    }
}

async fn send_groups<C: Contestant>(
    c: &C,
    turn: Duration,
    far: SocketAddr,
    listening: Listening,
) -> Result<Answer> {
    let Some((groups, address)) = c.groups().await? else { return Ok(Answer::None) };
    // Who counts begins with that.
    listening(address);
    let end = Instant::now() + turn;
    let mut buffer = vec![1; BURST * LENGTH];
    while Instant::now() < end {
        for _ in 0..LOOK {
            buffer = C::send_group(&groups, buffer, LENGTH, far).await?;
        }
    }
    for _ in 0..WORDS {
        C::send_group(&groups, vec![0], LENGTH, far).await?;
    }
    Ok(Answer::Done)
}

async fn echo_stream<C: Contestant>(mut stream: C::Stream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(ROOM);
    loop {
        buffer = C::read(&mut stream, buffer).await?;
        if buffer.is_empty() {
            return Ok(());
        }
        buffer = C::write(&mut stream, buffer).await?;
    }
}

async fn tcp_echo<C: Contestant>(c: &C, listening: Listening) -> Result<()> {
    let (listener, address) = c.listen().await?;
    listening(address);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = C::accept(&listener).await?;
        connections.push(c.spawn(echo_stream::<C>(stream)));
    }
    for connection in connections {
        C::join(connection).await?;
    }
    Ok(())
}

/// How many datagrams are received, until one is not, that come just before a receive is dropped, and just after.
async fn drop_receives<C: Contestant>(c: &C) -> Result<u32> {
    let (udp, address) = c.udp().await?;
    let sender = UdpSocket::bind(crate::contestant::ANY)?;
    for number in 0..DROPS {
        let mut waiting = Box::pin(C::receive(&udp, Vec::with_capacity(ROOM)));
        poll_fn(|cx| {
            assert!(waiting.as_mut().poll(cx).is_pending(), "nothing was sent");
            Poll::Ready(())
        })
        .await;
        c.sleep(SETTLED).await;
        let datagram = [number as u8; LENGTH];
        if number % 2 == 0 {
            sender.send_to(&datagram, address)?;
            drop(waiting);
        } else {
            drop(waiting);
            sender.send_to(&datagram, address)?;
        }
        let mut next = pin!(C::receive(&udp, Vec::with_capacity(ROOM)));
        let mut lost = pin!(c.sleep(LOST));
        let received = poll_fn(|cx| match next.as_mut().poll(cx) {
            Poll::Ready(received) => Poll::Ready(Some(received)),
            Poll::Pending => lost.as_mut().poll(cx).map(|_| None),
        })
        .await;
        if received.transpose()?.is_none_or(|(_, bytes)| bytes != datagram) {
            // What took it may take the next one, too.
            return Ok(number);
        }
    }
    Ok(DROPS)
}
