//! A peer that the test itself is: it speaks the protocol by zsync's own crates, and says what no honest peer would.
//!
//! Keeps true: what is random in it follows from a seed, but for the stamps of its handshakes, which must be later than all before.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use zsync_crypto::aead::{Aead, Job, Key, TAG_LEN};
use zsync_wireguard::cookie::{Gate, Jar};
use zsync_wireguard::key::{PublicKey, Secret};
use zsync_wireguard::message::{DATA_HEADER_LEN, INITIATION_LEN, Message, data_header, data_nonce, padded};
use zsync_wireguard::noise::{Begun, Identity, Keys, stamp};

use super::stream::Bytes;
use crate::Namespace;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub struct Caller {
    identity: Identity,
    theirs: PublicKey,
    jar: Jar,
    /// What checks messages for it, and makes cookies.
    pub gate: Gate,
    /// Its socket, connected to nobody.
    pub socket: UdpSocket,
    /// Where zsync is.
    pub to: SocketAddr,
    random: Bytes,
    aead: Aead,
    start: Instant,
    index: u32,
    session: Option<Session>,
    /// In which data may still come.
    before: Option<Session>,
}

/// A session of it.
#[derive(Debug, Clone)]
struct Session {
    keys: Keys,
    ours: u32,
    theirs: u32,
    next: u64,
}

impl Caller {
    /// In `namespace`, at `from`, who speaks to the end with the public key `theirs` at `to`. Who it is follows from `seed`.
    ///
    /// # Errors
    /// The socket cannot be bound, or the key is none.
    pub fn new(
        namespace: &Namespace,
        from: SocketAddr,
        to: SocketAddr,
        theirs: &str,
        seed: u64,
    ) -> Result<Self> {
        let socket = namespace.run(|| UdpSocket::bind(from).with_context(|| format!("binding {from}")))?;
        let theirs: PublicKey = theirs.parse().map_err(|error| anyhow!("{theirs}: {error}"))?;
        let mut random = Bytes::new(seed);
        let mut secret = || {
            let mut bytes = [0; 32];
            random.fill(&mut bytes);
            Secret::new(bytes)
        };
        let (identity, secrets) = (Identity::new(secret()), [secret(), secret()]);
        Ok(Self {
            gate: Gate::new(&identity.public(), 0, secrets),
            identity,
            theirs,
            jar: Jar::new(&theirs),
            socket,
            to,
            random,
            aead: Aead::new(),
            start: Instant::now(),
            index: seed as u32,
            session: None,
            before: None,
        })
    }

    /// Its public key, as text.
    #[must_use]
    pub fn public(&self) -> String {
        self.identity.public().to_string()
    }

    fn secret(&mut self) -> Secret {
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes);
        Secret::new(bytes)
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// The first message of a handshake, signed, and what its answer ends.
    ///
    /// # Errors
    /// The other end's key leads to no secret.
    pub fn initiation(&mut self) -> Result<(Begun, [u8; INITIATION_LEN])> {
        self.index += 1;
        let entropy = self.secret();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        let nothing = Secret::new([0; 32]);
        let (begun, mut message) =
            self.identity.begin(&self.theirs, &nothing, self.index, &stamp(unix), entropy)?;
        let now = self.now();
        self.jar.sign(&mut message, now);
        Ok((begun, message))
    }

    /// Sends a message as it is.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.socket.send_to(message, self.to).with_context(|| format!("to {}", self.to))?;
        Ok(())
    }

    /// The next message that comes, and from where; none within `limit`.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn receive(&self, limit: Duration) -> Result<Option<(Vec<u8>, SocketAddr)>> {
        let mut buffer = vec![0; 1 << 16];
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        match self.socket.recv_from(&mut buffer) {
            Ok((length, from)) => Ok(Some((buffer[..length].to_vec(), from))),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a session, and uses it, so that the other end does too. Data that come meanwhile are given to `data`, opened in the
    /// session before.
    ///
    /// # Errors
    /// No right answer comes.
    pub fn handshake(&mut self, mut data: impl FnMut(Vec<u8>)) -> Result<()> {
        let (mut begun, message) = self.initiation()?;
        self.send(&message)?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let Some((message, _)) = self.receive(PATIENCE)? else { continue };
            match Message::parse(&message) {
                Ok(Message::Response(response)) => {
                    let word =
                        |at: usize| u32::from_le_bytes(response[at..at + 4].try_into().unwrap_or_default());
                    if word(8) != self.index {
                        continue;
                    }
                    let keys = begun.finish(response)?;
                    self.before = self.session.take();
                    self.session = Some(Session { keys, ours: self.index, theirs: word(4), next: 0 });
                    let empty = self.seal(&[])?;
                    return self.send(&empty);
                }
                Ok(Message::Data { .. }) => data(self.open(&message)?),
                Ok(Message::CookieReply(reply)) => {
                    let now = self.now();
                    ensure!(self.jar.take(reply, now), "a cookie of somebody else");
                    bail!("it wants to see a cookie");
                }
                _ => {}
            }
        }
        bail!("no answer to a handshake")
    }

    /// A packet in a message of the session, with the next counter.
    ///
    /// # Errors
    /// There is no session.
    pub fn seal(&mut self, packet: &[u8]) -> Result<Vec<u8>> {
        let session = self.session.as_mut().context("no session")?;
        let counter = session.next;
        session.next += 1;
        self.seal_with(packet, counter)
    }

    /// The same, with a counter of one's own.
    ///
    /// # Errors
    /// There is no session.
    pub fn seal_with(&self, packet: &[u8], counter: u64) -> Result<Vec<u8>> {
        let session = self.session.as_ref().context("no session")?;
        let mut message = data_header(session.theirs, counter).to_vec();
        message.extend(packet);
        message.resize(DATA_HEADER_LEN + padded(packet.len(), 1420) + TAG_LEN, 0);
        let key = Key::chacha(*session.keys.sending.expose());
        let mut jobs = [Job::new(&key, data_nonce(counter), &[], &mut message[DATA_HEADER_LEN..])];
        self.aead.seal(&mut jobs);
        ensure!(jobs[0].is_done(), "it was not sealed");
        Ok(message)
    }

    /// What a message of the session, or of the one before, carries, padding and all.
    ///
    /// # Errors
    /// It is of another session, or does not authenticate.
    pub fn open(&self, message: &[u8]) -> Result<Vec<u8>> {
        let Ok(Message::Data { receiver, counter }) = Message::parse(message) else { bail!("no data") };
        let mut sessions = self.session.iter().chain(&self.before);
        let session = sessions.find(|session| session.ours == receiver).context("data of another session")?;
        let mut data = message[DATA_HEADER_LEN..].to_vec();
        let key = Key::chacha(*session.keys.receiving.expose());
        let mut jobs = [Job::new(&key, data_nonce(counter), &[], &mut data)];
        self.aead.open(&mut jobs);
        ensure!(jobs[0].is_done(), "it does not authenticate");
        data.truncate(data.len() - TAG_LEN);
        Ok(data)
    }
}
