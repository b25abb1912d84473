//! [`Ingress`]: the program of one port, from load to detach.

use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, MapError},
    programs::{
        ProgramInfo, Xdp,
        links::{FdLink, LinkType, PinnedLink},
    },
};
use zsync_ebpf_common::{MAX_QUEUES, map};

use super::{
    Attached, CHAINED_OBJECT, Counters, INGRESS_OBJECT, Image, Mode, PortSteering, SlotCounts, XdpError,
    chain::{CHAIN_DIR, Chain, remove_folder},
    device::Device,
    error::IoError,
    link::{PROGRAM, attach_link, put_on_link, xdp_of},
    maps::Maps,
};

/// Names of the pins beside those of the maps. bpffs allows no dots (kernel/bpf/inode.c, `bpf_lookup`).
pub(super) const PIN_LINK: &str = "link";
const PIN_PROGRAM: &str = "program";
const PIN_PROGRAM_NEW: &str = "program_new";
/// How long the kernel may take to detach an unpinned link: an RCU grace period and a work item, milliseconds as a rule.
const DETACH_LIMIT: Duration = Duration::from_secs(2);

/// `zsync_ingress` on one port: the program, its maps, its link, and its pins when there are any.
///
/// Dropping it detaches the program, unless it was pinned; then the kernel keeps all of it, for [`Ingress::adopt`].
#[derive(Debug)]
pub struct Ingress {
    program: Program,
    pub(super) maps: Maps,
    /// The operator's programs ahead of it; none: the object without a chain runs.
    chain: Option<Chain>,
    link: Option<FdLink>,
    ifindex: Option<u32>,
    dir: Option<PathBuf>,
    sockets: BTreeSet<u32>,
}

/// How the program is known.
#[derive(Debug)]
enum Program {
    /// Loaded by this process.
    Loaded(Box<Ebpf>),
    /// Loaded by an earlier one: its tag, a hash of its instructions.
    Adopted { tag: u64 },
}

impl Ingress {
    /// Loads the program with maps of its own and steers it; nothing is attached yet.
    ///
    /// # Errors
    /// [`XdpError::NotPermitted`], [`XdpError::Verifier`], or what [`Self::apply_steering`] returns.
    pub fn load(steering: &PortSteering) -> Result<Self, XdpError> {
        let mut ebpf = EbpfLoader::new().btf(None).load(INGRESS_OBJECT)?;
        xdp_of(&mut ebpf)?.load()?;
        let mut maps = Maps::collect(&map::ALL, |name| {
            ebpf.take_map(name)
                .ok_or_else(|| XdpError::map(name)(MapError::InvalidName { name: name.into() }))
        })?;
        maps.apply(steering)?;
        Ok(Self {
            program: Program::Loaded(Box::new(ebpf)),
            maps,
            chain: None,
            link: None,
            ifindex: None,
            dir: None,
            sockets: BTreeSet::new(),
        })
    }

    /// Attaches the program to a device by a link, in the first of `modes` that it can ([`Mode::BEST`]).
    ///
    /// # Errors
    /// [`XdpError::Occupied`] when another program is there, [`XdpError::NotPermitted`], [`XdpError::NoDevice`]; when
    /// every mode is refused, the last mode's [`XdpError::Mtu`] or [`XdpError::Attach`].
    pub fn attach(&mut self, ifindex: u32, modes: &[Mode]) -> Result<Attached, XdpError> {
        if self.link.is_some() {
            return Err(XdpError::State("attached already"));
        }
        let device = Device::query(ifindex)?;
        if let Some(program) = device.program {
            return Err(XdpError::Occupied { device: device.name, program });
        }
        let Program::Loaded(ebpf) = &mut self.program else {
            return Err(XdpError::State("another process's"));
        };
        let mut refused = Vec::new();
        for &mode in modes {
            match attach_link(xdp_of(ebpf)?, ifindex, &device, mode) {
                Ok(link) => {
                    self.link = Some(link);
                    self.ifindex = Some(ifindex);
                    return Ok(Attached { mode, refused });
                }
                Err(error @ (XdpError::Mtu { .. } | XdpError::Attach { .. })) => refused.push(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.pop().unwrap_or(XdpError::State("to be attached in no mode")))
    }

    /// Pins the maps, the program and the link in `dir`, which must be on a BPF file system and must not exist; from then
    /// on the program stays attached when this process dies.
    ///
    /// # Errors
    /// [`XdpError::Pin`], after which nothing is pinned and the program is detached.
    pub fn pin(&mut self, dir: &Path) -> Result<(), XdpError> {
        let link = self.link.take().ok_or(XdpError::State("not attached"))?;
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(XdpError::pin("create", parent))?;
        }
        fs::create_dir(dir).map_err(XdpError::pin("create", dir))?;
        let pinned = self.pin_all(dir, link);
        match pinned {
            Ok(link) => {
                self.link = Some(link);
                self.dir = Some(dir.to_owned());
                Ok(())
            }
            Err(error) => {
                // The link's pin was to be the last: there is none.
                let _ = unlink_pins(dir);
                Err(error)
            }
        }
    }

    /// The link last: whoever finds it finds the rest too.
    fn pin_all(&mut self, dir: &Path, link: FdLink) -> Result<FdLink, XdpError> {
        for (name, map) in self.maps.iter() {
            let path = dir.join(name);
            map.pin(&path).map_err(|error| XdpError::pin("pin", path)(error.into_io()))?;
        }
        if let Program::Loaded(ebpf) = &mut self.program {
            let path = dir.join(PIN_PROGRAM);
            xdp_of(ebpf)?.pin(&path).map_err(|error| XdpError::pin("pin", path)(error.into_io()))?;
        }
        let path = dir.join(PIN_LINK);
        let link = link.pin(&path).map_err(|error| XdpError::pin("pin", path)(error.into_io()))?;
        Ok(link.into())
    }

    /// Takes over what an earlier process pinned in `dir`, if it is what is attached to the device. The steering in force
    /// stays until [`Self::apply_steering`]; the sockets in force stay too, and are not known to this process.
    ///
    /// # Errors
    /// [`XdpError::NotPinned`] and [`XdpError::NotAttached`]: remove the pins ([`Self::remove_pins`]) and load anew.
    pub fn adopt(dir: &Path, ifindex: u32) -> Result<Self, XdpError> {
        let not_pinned = |name: &str, source: Box<dyn std::error::Error + Send + Sync>| XdpError::NotPinned {
            path: dir.join(name),
            source,
        };
        let link =
            PinnedLink::from_pin(dir.join(PIN_LINK)).map_err(|e| not_pinned(PIN_LINK, e.into_io().into()))?;
        let link = FdLink::from(link);
        let info = link.info().map_err(|e| not_pinned(PIN_LINK, e.into()))?;
        if info.link_type().ok() != Some(LinkType::Xdp) {
            return Err(not_pinned(PIN_LINK, "it is not an XDP link".into()));
        }
        // The program belongs to this port alone, so its number says which device the link is on.
        let device = Device::query(ifindex)?;
        if device.program.as_ref().map(|program| program.id) != Some(info.program_id()) {
            let (dir, pinned) = (dir.to_owned(), info.program_id());
            return Err(XdpError::NotAttached { dir, device: device.name, pinned, attached: device.program });
        }
        let program = ProgramInfo::from_pin(dir.join(PIN_PROGRAM))
            .map_err(|e| not_pinned(PIN_PROGRAM, e.into_io().into()))?;
        // Another program than the link's: an upgrade was cut short. No tag is 0, so the next upgrade does it again.
        let tag = if program.id() == info.program_id() { program.tag() } else { 0 };

        let mut maps = Maps::collect(&map::ALL, |name| {
            MapData::from_pin(dir.join(name))
                .and_then(Map::from_map_data)
                .map_err(|e| not_pinned(name, e.into()))
        })?;
        maps.check()?;
        maps.xsks()?;
        let chain = dir.join(CHAIN_DIR);
        let chain = chain.join(map::CHAIN).exists().then(|| Chain::open(&chain)).transpose()?;
        let program = Program::Adopted { tag };
        Ok(Self {
            program,
            maps,
            chain,
            link: Some(link),
            ifindex: Some(ifindex),
            dir: Some(dir.to_owned()),
            sockets: BTreeSet::new(),
        })
    }

    /// Puts this build's program in the place of an adopted one, over the same maps and link, atomically: each packet
    /// meets the old program or the new one. Returns whether it had to.
    ///
    /// # Errors
    /// [`XdpError::Verifier`] and others of [`Self::load`], for example when the maps have another layout: the old
    /// program stays in force.
    pub fn upgrade(&mut self) -> Result<bool, XdpError> {
        let Program::Adopted { tag } = self.program else { return Ok(false) };
        self.put_on_link(self.chain.is_some(), Some(tag))
    }

    /// Puts the object with or without a chain on the link, over the maps that are pinned, unless it is the one of that tag.
    fn put_on_link(&mut self, chained: bool, unless: Option<u64>) -> Result<bool, XdpError> {
        let dir = self.dir.as_ref().ok_or(XdpError::State("not pinned"))?;
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for name in map::ALL {
            loader.map_pin_path(name, dir.join(name));
        }
        let mut ebpf = if chained {
            for name in map::CHAINED {
                loader.map_pin_path(name, dir.join(CHAIN_DIR).join(name));
            }
            loader.load(CHAINED_OBJECT)?
        } else {
            loader.load(INGRESS_OBJECT)?
        };
        let program = xdp_of(&mut ebpf)?;
        program.load()?;
        if unless.is_some_and(|tag| program.info().is_ok_and(|info| info.tag() == tag)) {
            return Ok(false);
        }
        self.link = Some(put_on_link(program, &dir.join(PIN_LINK))?);
        let new = dir.join(PIN_PROGRAM_NEW);
        let _ = fs::remove_file(&new);
        program.pin(&new).map_err(|e| XdpError::pin("pin", &new)(e.into_io()))?;
        fs::rename(&new, dir.join(PIN_PROGRAM)).map_err(XdpError::pin("rename", &new))?;
        self.program = Program::Loaded(Box::new(ebpf));
        Ok(true)
    }

    /// Puts the operator's programs in force ahead of `zsync_ingress`, while traffic flows: a packet meets the programs of
    /// before or those of now. Needs an attached and pinned program. Returns the labels of the programs that were loaded for
    /// it; those that are as before stay as they are, with all that is in their maps.
    ///
    /// # Errors
    /// [`XdpError::Operator`] when one of them cannot run: nothing has changed.
    pub fn set_chain(&mut self, wanted: &[Image]) -> Result<Vec<String>, XdpError> {
        if wanted.is_empty() && self.chain.is_none() {
            return Ok(Vec::new());
        }
        let dir = self.dir.as_ref().ok_or(XdpError::State("not pinned"))?.join(CHAIN_DIR);
        if self.chain.is_none() {
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(XdpError::pin("create", dir)(error));
                }
                _ => {}
            }
            let begun = self.put_on_link(true, None).and_then(|_| Chain::open(&dir));
            match begun {
                Ok(chain) => self.chain = Some(chain),
                Err(error) => {
                    let _ = self.end_chain(&dir);
                    return Err(error);
                }
            }
        }
        let set = self.chain.as_mut().map_or(Ok(Vec::new()), |chain| chain.set(wanted));
        if self.chain.as_ref().is_some_and(|chain| chain.running().next().is_none()) {
            self.end_chain(&dir)?;
        }
        set
    }

    /// Back to the object without a chain.
    fn end_chain(&mut self, dir: &Path) -> Result<(), XdpError> {
        self.put_on_link(false, None)?;
        self.chain = None;
        remove_folder(dir)
    }

    /// Which programs are ahead of `zsync_ingress`, in their order, as [`Image::fingerprint`] names them.
    pub fn chain(&self) -> Vec<String> {
        self.chain.iter().flat_map(Chain::running).map(str::to_owned).collect()
    }

    /// What they did, in the same order.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn chain_counts(&self) -> Result<Vec<SlotCounts>, XdpError> {
        self.chain.as_ref().map_or(Ok(Vec::new()), Chain::counts)
    }

    /// The kernel's number of the attached program.
    ///
    /// # Errors
    /// [`XdpError::State`] before [`Self::attach`].
    pub fn program_id(&self) -> Result<u32, XdpError> {
        let link = self.link.as_ref().ok_or(XdpError::State("not attached"))?;
        Ok(link.info().map_err(XdpError::link("read"))?.program_id())
    }

    /// Hands the packets of one receive queue to an AF_XDP socket, which must be bound. The entry goes away by itself
    /// when the last descriptor of the socket is closed (net/xdp/xsk.c, `xsk_delete_from_maps`).
    ///
    /// # Errors
    /// [`XdpError::Map`] when the queue is not below [`MAX_QUEUES`] or the descriptor is no bound AF_XDP socket.
    pub fn set_socket(&mut self, queue: u32, socket: impl AsFd) -> Result<(), XdpError> {
        let mut xsks = self.maps.xsks()?;
        xsks.set(queue, socket.as_fd().as_raw_fd(), 0).map_err(XdpError::map(map::XSKS))?;
        self.sockets.insert(queue);
        Ok(())
    }

    /// Removes every socket, those of an earlier process too: the port falls back.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn clear_sockets(&mut self) -> Result<(), XdpError> {
        // The kernel tells nobody which entries of an XSKMAP are set: remove them all (under a millisecond).
        let mut xsks = self.maps.xsks()?;
        (0..MAX_QUEUES).try_for_each(|queue| xsks.unset(queue)).map_err(XdpError::map(map::XSKS))?;
        self.sockets.clear();
        Ok(())
    }

    /// The queues that this process gave a socket and did not clear.
    pub fn sockets(&self) -> &BTreeSet<u32> {
        &self.sockets
    }

    /// Changes what is taken, dropped and left to the kernel, while traffic flows: entries are added first, then the
    /// rules change at once, then stale entries go.
    ///
    /// # Errors
    /// [`XdpError::Prefix`] and [`XdpError::ListFull`]: nothing, or nothing but additions, was done.
    pub fn apply_steering(&mut self, steering: &PortSteering) -> Result<(), XdpError> {
        self.maps.apply(steering)
    }

    /// Says which addresses are the kernel's own: those of every device of this network namespace, and their subnets'
    /// broadcast addresses. They count on ports that route, unless ports are steered.
    ///
    /// # Errors
    /// [`XdpError::ListFull`], [`XdpError::Map`].
    pub fn set_local(&mut self, addresses: &[IpAddr]) -> Result<(), XdpError> {
        self.maps.set_local(addresses)
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn counters(&mut self) -> Result<Counters, XdpError> {
        self.maps.counters()
    }

    /// The loaded program, for test runs; `None` when it was adopted.
    pub fn program(&self) -> Option<&Xdp> {
        match &self.program {
            Program::Loaded(ebpf) => ebpf.program(PROGRAM)?.try_into().ok(),
            Program::Adopted { .. } => None,
        }
    }

    /// Detaches the program and removes its pins. Blocks until the device is free.
    ///
    /// # Errors
    /// Those of [`Self::remove_pins`].
    pub fn detach(mut self) -> Result<(), XdpError> {
        // With the last descriptor the link goes at once, unless it is pinned.
        self.link = None;
        match (self.dir.take(), self.ifindex) {
            (Some(dir), Some(ifindex)) => Self::remove_pins(&dir, ifindex),
            _ => Ok(()),
        }
    }

    /// Removes the pins in `dir`, complete or not, without adopting them, and waits until a link that was pinned there is
    /// off the device, for the kernel detaches it later (kernel/bpf/inode.c: an inode's object is put after an RCU grace
    /// period). Other files stay, and with them the folder. No pins are no error.
    ///
    /// # Errors
    /// [`XdpError::Pin`], or [`XdpError::Occupied`] when somebody else still holds the link.
    pub fn remove_pins(dir: &Path, ifindex: u32) -> Result<(), XdpError> {
        let pinned = PinnedLink::from_pin(dir.join(PIN_LINK)).and_then(|link| FdLink::from(link).info());
        let pinned = pinned.ok().map(|info| info.program_id());
        unlink_pins(dir)?;
        let Some(pinned) = pinned else { return Ok(()) };
        let start = Instant::now();
        loop {
            match Device::query(ifindex) {
                Ok(Device { name: device, program: Some(program), .. }) if program.id == pinned => {
                    if start.elapsed() > DETACH_LIMIT {
                        return Err(XdpError::Occupied { device, program });
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(_) | Err(XdpError::NoDevice { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn unlink_pins(dir: &Path) -> Result<(), XdpError> {
    for name in [PIN_LINK, PIN_PROGRAM, PIN_PROGRAM_NEW].into_iter().chain(map::ALL).chain(map::TAPPED) {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(XdpError::pin("remove", path)(error));
            }
            _ => {}
        }
    }
    remove_folder(&dir.join(CHAIN_DIR))?;
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(XdpError::pin("remove", dir)(error)),
        _ => Ok(()),
    }
}
