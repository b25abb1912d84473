//! [`Ingress`]: the program of one port, from load to detach.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, MapError, PerCpuArray, XskMap},
    programs::{
        ProgramError, ProgramInfo, Xdp, XdpMode,
        links::{FdLink, LinkType, PinnedLink},
        xdp::XdpLink,
    },
};
use zsync_ebpf_common::{Count, MAX_QUEUES, XdpReason, map};

use super::{
    INGRESS_OBJECT, Mode, PortSteering, XdpError,
    device::{Device, remove_netlink_program},
    error::{IoError, TO_ATTACH},
};

const PROGRAM: &str = "zsync_ingress";
/// Names of the pins beside those of the maps. bpffs allows no dots (kernel/bpf/inode.c, `bpf_lookup`).
const PIN_LINK: &str = "link";
const PIN_PROGRAM: &str = "program";
const PIN_PROGRAM_NEW: &str = "program_new";

/// `zsync_ingress` on one port: the program, its maps, its link, and its pins when there are any.
///
/// Dropping it detaches the program, unless it was pinned; then the kernel keeps all of it, for [`Ingress::adopt`].
#[derive(Debug)]
pub struct Ingress {
    program: Program,
    maps: Maps,
    link: Option<FdLink>,
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

/// What [`Ingress::attach`] got.
#[derive(Debug)]
pub struct Attached {
    /// The mode it runs in.
    pub mode: Mode,
    /// Why the modes that were to be tried before were refused.
    pub refused: Vec<XdpError>,
}

/// The counters of a port, summed over CPUs. They count from the load of the program on; adoption keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([Count; XdpReason::ALL.len()]);

impl Counters {
    /// What was counted under one reason.
    pub fn of(&self, reason: XdpReason) -> Count {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// All of them, in the order of [`XdpReason::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (XdpReason, Count)> + '_ {
        XdpReason::ALL.into_iter().zip(self.0)
    }
}

impl Ingress {
    /// Loads the program with maps of its own and steers it; nothing is attached yet.
    ///
    /// # Errors
    /// [`XdpError::NotPermitted`], [`XdpError::Verifier`], or what [`Self::apply_steering`] returns.
    pub fn load(steering: &PortSteering) -> Result<Self, XdpError> {
        let mut ebpf = EbpfLoader::new().btf(None).load(INGRESS_OBJECT)?;
        xdp_of(&mut ebpf)?.load()?;
        let mut maps = Maps::collect(|name| {
            ebpf.take_map(name)
                .ok_or_else(|| XdpError::map(name)(MapError::InvalidName { name: name.into() }))
        })?;
        maps.apply(steering)?;
        Ok(Self {
            program: Program::Loaded(Box::new(ebpf)),
            maps,
            link: None,
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
                let _ = Self::remove_pins(dir);
                Err(error)
            }
        }
    }

    /// The link last: whoever finds it finds the rest too.
    fn pin_all(&mut self, dir: &Path, link: FdLink) -> Result<FdLink, XdpError> {
        for (name, map) in &self.maps.0 {
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

        let mut maps = Maps::collect(|name| {
            MapData::from_pin(dir.join(name))
                .and_then(Map::from_map_data)
                .map_err(|e| not_pinned(name, e.into()))
        })?;
        maps.check()?;
        let program = Program::Adopted { tag };
        Ok(Self { program, maps, link: Some(link), dir: Some(dir.to_owned()), sockets: BTreeSet::new() })
    }

    /// Puts this build's program in the place of an adopted one, over the same maps and link, atomically: each packet
    /// meets the old program or the new one. Returns whether it had to.
    ///
    /// # Errors
    /// [`XdpError::Verifier`] and others of [`Self::load`], for example when the maps have another layout: the old
    /// program stays in force.
    pub fn upgrade(&mut self) -> Result<bool, XdpError> {
        let (Program::Adopted { tag: old }, Some(dir)) = (&self.program, &self.dir) else { return Ok(false) };
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for name in map::ALL {
            loader.map_pin_path(name, dir.join(name));
        }
        let mut ebpf = loader.load(INGRESS_OBJECT)?;
        let program = xdp_of(&mut ebpf)?;
        program.load()?;
        if program.info()?.tag() == *old {
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
        let array: PerCpuArray<_, Count> = self.maps.typed(map::COUNTERS)?;
        let mut counters = Counters::default();
        for (index, sum) in (0..).zip(&mut counters.0) {
            for count in array.get(&index, 0).map_err(XdpError::map(map::COUNTERS))?.iter() {
                sum.packets += count.packets;
                sum.bytes += count.bytes;
            }
        }
        Ok(counters)
    }

    /// The loaded program, for test runs; `None` when it was adopted.
    pub fn program(&self) -> Option<&Xdp> {
        match &self.program {
            Program::Loaded(ebpf) => ebpf.program(PROGRAM)?.try_into().ok(),
            Program::Adopted { .. } => None,
        }
    }

    /// Detaches the program and removes its pins.
    ///
    /// # Errors
    /// [`XdpError::Pin`] when a pin cannot be removed; the program may then still be attached.
    pub fn detach(mut self) -> Result<(), XdpError> {
        self.link = None;
        self.dir.take().map_or(Ok(()), |dir| Self::remove_pins(&dir))
    }

    /// Removes the pins in `dir`, complete or not, without adopting them: a link that nobody holds then detaches. Other
    /// files stay, and with them the folder.
    ///
    /// # Errors
    /// [`XdpError::Pin`].
    pub fn remove_pins(dir: &Path) -> Result<(), XdpError> {
        for name in [PIN_LINK, PIN_PROGRAM, PIN_PROGRAM_NEW].into_iter().chain(map::ALL) {
            let path = dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(XdpError::pin("remove", path)(error));
                }
                _ => {}
            }
        }
        match fs::remove_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(XdpError::pin("remove", dir)(error)),
            _ => Ok(()),
        }
    }
}

fn xdp_of(ebpf: &mut Ebpf) -> Result<&mut Xdp, XdpError> {
    let program =
        ebpf.program_mut(PROGRAM).ok_or_else(|| ProgramError::InvalidName { name: PROGRAM.into() })?;
    Ok(program.try_into()?)
}

fn attach_link(program: &mut Xdp, ifindex: u32, device: &Device, mode: Mode) -> Result<FdLink, XdpError> {
    let flags = match mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
        Mode::Offloaded => XdpMode::Hardware,
    };
    let link = program.attach_to_if_index(ifindex, flags).and_then(|id| program.take_link(id));
    let link = link.map_err(|error| {
        let source = error.into_io();
        let name = device.name.clone();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => XdpError::not_permitted("attach an XDP program", TO_ATTACH),
            // Somebody was faster than our look a moment ago, or an upper device has one.
            Some(libc::EBUSY | libc::EEXIST) => match Device::query(ifindex) {
                Ok(Device { program: Some(program), .. }) => XdpError::Occupied { device: name, program },
                _ => XdpError::Attach { device: name, mode, source },
            },
            Some(libc::ERANGE) => XdpError::Mtu { device: name, mode, mtu: device.mtu, source },
            // Drivers answer EINVAL or EOPNOTSUPP to a jumbo MTU, and to much else.
            Some(libc::EINVAL | libc::EOPNOTSUPP) if device.mtu > 1500 && mode == Mode::Native => {
                XdpError::Mtu { device: name, mode, mtu: device.mtu, source }
            }
            _ => XdpError::Attach { device: name, mode, source },
        }
    })?;
    FdLink::try_from(link).or_else(|_| {
        // aya fell back to the netlink attach, which nobody would end if this process died.
        remove_netlink_program(ifindex)?;
        Err(XdpError::NoLinks { device: device.name.clone() })
    })
}

/// Puts `program` on a pinned link. The kernel's refusal leaves the link as it is: its pin holds it.
fn put_on_link(program: &mut Xdp, pin: &Path) -> Result<FdLink, XdpError> {
    let link = PinnedLink::from_pin(pin).map_err(XdpError::link("open"))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(XdpError::link("read"))?;
    let id = program.attach_to_link(link).map_err(XdpError::link("update"))?;
    let link = program.take_link(id).map_err(XdpError::link("update"))?;
    FdLink::try_from(link).map_err(XdpError::link("read"))
}

/// The maps of one port, by name; each call opens the one it needs by its type, which checks the sizes.
#[derive(Debug)]
pub(super) struct Maps(BTreeMap<&'static str, Map>);

impl Maps {
    fn collect(mut open: impl FnMut(&'static str) -> Result<Map, XdpError>) -> Result<Self, XdpError> {
        map::ALL.into_iter().map(|name| Ok((name, open(name)?))).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn typed<'a, T>(&'a mut self, name: &'static str) -> Result<T, XdpError>
    where
        T: TryFrom<&'a mut Map, Error = MapError>,
    {
        let map = self.0.get_mut(name).ok_or_else(|| MapError::InvalidName { name: name.into() });
        map.and_then(T::try_from).map_err(XdpError::map(name))
    }

    fn xsks(&mut self) -> Result<XskMap<&mut MapData>, XdpError> {
        self.typed(map::XSKS)
    }

    fn check(&mut self) -> Result<(), XdpError> {
        self.xsks()?;
        self.typed::<PerCpuArray<_, Count>>(map::COUNTERS)?;
        self.check_lists()
    }
}
