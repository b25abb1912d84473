//! The far end's XDP program (`zsync_sink`) on a device: counts the packets of a run, or steers them to [`Receiver`]s.
//!
//! Owns: the program, its maps and its link, which goes when this is dropped, or when the process dies. Refuses: a device
//! that has a program already.
//!
//! [`Receiver`]: crate::Receiver

use std::{io, os::fd::AsRawFd};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray, XskMap},
    programs::{ProgramError, Xdp, XdpMode},
};

use crate::error::{AttachedProgram, XskError};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ZSYNC_SINK"));
/// Entries of the map of sockets.
const QUEUES: u32 = 1024;

/// What becomes of the packets of a run. All others are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Counted and dropped in the driver: the cheapest far end there is.
    Count,
    /// To the sockets, as they are: their times are those of reading.
    Receive,
    /// To the sockets, each with the kernel's time of its arrival in the XDP program.
    ReceiveStamped,
}

/// Which packets are of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// All of them.
    All,
    /// Those with eight bytes from the offset `at` on that are, where `mask` has ones, those of `value`.
    Bytes {
        /// Offset from the Ethernet header on.
        at: u8,
        /// Which bits count. All zero matches everything.
        mask: [u8; 8],
        /// What they are to be.
        value: [u8; 8],
        /// What they are in packets that are only load: counted and dropped, also where the others are handed to sockets.
        load: Option<[u8; 8]>,
    },
}

/// What the program counted, on all CPUs, since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets of the run: dropped as counted, or handed to a socket (which may have had no room: see
    /// [`crate::Receiver::missed`]).
    pub matched: u64,
    /// Their bytes, from the Ethernet header on, without the frame check sequence.
    pub bytes: u64,
    /// Other packets, left to the kernel.
    pub foreign: u64,
    /// Packets of the run that no socket was there for, or that had no room for their time: dropped.
    pub lost: u64,
    /// Packets that are only load: dropped, and in no other count.
    pub load: u64,
}

impl Counts {
    /// Packets of the run and load: everything that the sender sent.
    pub fn taken(&self) -> u64 {
        self.matched + self.load
    }
}

/// The program at work. See the module.
pub struct Sink {
    program: Ebpf,
    device: String,
    action: Action,
    is_native: bool,
}

impl Sink {
    /// Attaches the program to `device`, a name in this thread's network namespace: in the driver if it can, else in the
    /// stack.
    ///
    /// # Errors
    /// [`XskError::Occupied`] when there is a program already; no such device; missing capabilities.
    pub fn attach(device: &str, action: Action, packets: Match) -> Result<Self, XskError> {
        let mut program =
            EbpfLoader::new().btf(None).load(OBJECT).map_err(|e| XskError::Load(Box::new(e)))?;
        let map = program.map_mut("SINK").ok_or_else(|| missing("the map SINK"))?;
        let mut config: Array<&mut MapData, [u64; 4]> = map.try_into()?;
        config.set(0, words(action, packets), 0)?;
        let xdp: &mut Xdp = program
            .program_mut("zsync_sink")
            .ok_or_else(|| missing("the program"))?
            .try_into()
            .map_err(|e: ProgramError| XskError::Load(Box::new(e.into())))?;
        xdp.load().map_err(|e| XskError::Load(Box::new(e.into())))?;
        let is_native = match try_attach(xdp, device, XdpMode::Driver) {
            Ok(()) => true,
            Err(XskError::Attach { .. }) => {
                try_attach(xdp, device, XdpMode::Skb)?;
                false
            }
            Err(error) => return Err(error),
        };
        Ok(Self { program, device: device.to_owned(), action, is_native })
    }

    /// Whether it runs in the driver. If not, in the kernel's stack, which is slower.
    pub fn is_native(&self) -> bool {
        self.is_native
    }

    /// The device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What it does with the packets of the run.
    pub fn action(&self) -> Action {
        self.action
    }

    /// What it counted so far.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counts(&self) -> Result<Counts, XskError> {
        let map = self.program.map("COUNTS").ok_or_else(|| missing("the map COUNTS"))?;
        let counts: PerCpuArray<&MapData, [u64; 5]> = map.try_into()?;
        let mut all = Counts::default();
        for &[matched, bytes, foreign, lost, load] in counts.get(&0, 0)?.iter() {
            all.matched += matched;
            all.bytes += bytes;
            all.foreign += foreign;
            all.lost += lost;
            all.load += load;
        }
        Ok(all)
    }

    /// Has the packets of a queue go to a socket. The kernel takes it out of the map when it is closed.
    pub(crate) fn steer(&mut self, queue: u32, socket: &impl AsRawFd) -> Result<(), XskError> {
        if queue >= QUEUES {
            return Err(XskError::Option { what: "queue", value: queue.to_string(), limit: "below 1024" });
        }
        let map = self.program.map_mut("SOCKETS").ok_or_else(|| missing("the map SOCKETS"))?;
        let mut sockets: XskMap<&mut MapData> = map.try_into()?;
        Ok(sockets.set(queue, socket.as_raw_fd(), 0)?)
    }
}

/// The program's `Sink`, in words: it is read on the machine that wrote it.
fn words(action: Action, packets: Match) -> [u64; 4] {
    let number = match action {
        Action::Count => 0,
        Action::Receive => 1,
        Action::ReceiveStamped => 2,
    };
    match packets {
        Match::All => [number, 0, 0, 0],
        Match::Bytes { at, mask, value, load } => {
            let mask = u64::from_ne_bytes(mask);
            let [value, load] =
                [value, load.unwrap_or_default()].map(|bytes| u64::from_ne_bytes(bytes) & mask);
            [number | u64::from(at) << 32, mask, value, load]
        }
    }
}

fn try_attach(xdp: &mut Xdp, device: &str, mode: XdpMode) -> Result<(), XskError> {
    // The program keeps the link. It is one on every kernel since 5.9, older than which nothing here runs on.
    let Err(error) = xdp.attach(device, mode) else { return Ok(()) };
    let device = device.to_owned();
    if let ProgramError::UnknownInterface { .. } = error {
        return Err(XskError::NoDevice { device });
    }
    let source = io_error(error);
    Err(match source.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => {
            XskError::Occupied { program: AttachedProgram::of(&device), device }
        }
        _ => XskError::Attach { device, source },
    })
}

fn io_error(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        error => io::Error::other(error),
    }
}

fn missing(what: &'static str) -> XskError {
    XskError::Load(Box::new(aya::EbpfError::ProgramError(ProgramError::InvalidName {
        name: what.to_owned(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_gets_the_value_under_its_mask() {
        let (mask, value) = ([0xff, 0xff, 0, 0, 0, 0, 0, 0], [0, 9, 7, 7, 7, 7, 7, 7]);
        let packets = Match::Bytes { at: 36, mask, value, load: Some([3; 8]) };
        let [first, mask, value, load] = words(Action::ReceiveStamped, packets);
        assert_eq!((first as u32, first >> 32), (2, 36));
        assert_eq!(mask.to_ne_bytes(), [0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        assert_eq!(value.to_ne_bytes(), [0, 9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(load.to_ne_bytes(), [3, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(words(Action::Count, Match::All), [0; 4]);
    }
}
