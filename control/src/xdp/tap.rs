//! [`Tap`]: the programs of a port without AF_XDP, from load to detach.
//!
//! Owns: `zsync_filter`, which packet sockets get, `zsync_leave`, the classifier at the device's ingress that drops what they were
//! given, and the maps of both, which are those of `zsync_ingress` but for the sockets. The classifier is on a pinned link (TCX,
//! Linux 6.6), so block lists and a fallback that drops stay in force while control is gone.
//!
//! Invariant: a packet goes to a socket or to the kernel, never to both; `ebpf/src/ingress/tapped.rs` says how.

use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapError},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, SocketFilter, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use zsync_ebpf_common::map;

use super::{
    PortSteering, TAPPED_OBJECT, XdpError,
    device::Device,
    error::IoError,
    ingress::{Ingress, PIN_LINK},
    maps::Maps,
};

/// Their names in the object, and in `bpftool`.
const FILTER: &str = "zsync_filter";
const LEAVE: &str = "zsync_leave";

/// The programs of one port with packet sockets. Dropping it leaves all as it is: the kernel keeps what is pinned, for
/// [`Tap::adopt`].
#[derive(Debug)]
pub struct Tap {
    ebpf: Box<Ebpf>,
    pub(super) maps: Maps,
    link: FdLink,
    dir: PathBuf,
    ifindex: u32,
}

impl Tap {
    /// Loads the programs with maps of their own, steers them, puts the classifier on the device, ahead of others, and pins all in
    /// `dir`, which must be on a BPF file system and must not exist. No socket takes anything yet: the port falls back.
    ///
    /// # Errors
    /// [`XdpError::Classifier`] on a kernel without TCX, and those of [`Ingress::load`] and [`Ingress::pin`]; then nothing
    /// is attached.
    pub fn attach(steering: &PortSteering, ifindex: u32, dir: &Path) -> Result<Self, XdpError> {
        let mut ebpf = EbpfLoader::new().btf(None).load(TAPPED_OBJECT)?;
        let mut maps = maps_of(&mut ebpf)?;
        maps.apply(steering)?;
        let device = Device::query(ifindex)?.name;
        let refused =
            |error: ProgramError| XdpError::Classifier { device: device.clone(), source: error.into_io() };
        let leave = load(&mut ebpf)?;
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let link = leave.attach_with_options(&device, TcAttachType::Ingress, order).map_err(refused)?;
        let link =
            FdLink::try_from(leave.take_link(link).map_err(refused)?).map_err(XdpError::link("read"))?;
        let pinned = pin(dir, &maps, link);
        let link = pinned.inspect_err(|_| drop(Ingress::remove_pins(dir, ifindex)))?;
        let (ebpf, dir) = (Box::new(ebpf), dir.to_owned());
        Ok(Self { ebpf, maps, link, dir, ifindex })
    }

    /// Takes over what an earlier process pinned in `dir`, if it is on the device, and puts this build's programs in the place
    /// of those that run, over the same maps: each packet meets the old classifier or the new one. Sockets that have the old filter
    /// keep it until [`Self::let_in`]. The steering in force stays until [`Self::apply_steering`].
    ///
    /// # Errors
    /// [`XdpError::NotPinned`] and others: what is pinned stays as it is. Remove the pins ([`Ingress::remove_pins`]) and attach anew.
    pub fn adopt(dir: &Path, ifindex: u32) -> Result<Self, XdpError> {
        let path = dir.join(PIN_LINK);
        let not_pinned = |source: Box<dyn std::error::Error + Send + Sync>| XdpError::NotPinned {
            path: path.clone(),
            source,
        };
        if let Some(missing) = map::TAPPED.into_iter().map(|name| dir.join(name)).find(|pin| !pin.exists()) {
            let source = "there is none".into();
            return Err(XdpError::NotPinned { path: missing, source });
        }
        let link = PinnedLink::from_pin(&path).map_err(|e| not_pinned(e.into_io().into()))?;
        let link = FdLink::from(link);
        let id = link.info().map_err(XdpError::link("read"))?.id();
        if device_of(id) != Some(ifindex) {
            return Err(not_pinned("it is no link to this device's ingress".into()));
        }
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for name in map::TAPPED {
            loader.map_pin_path(name, dir.join(name));
        }
        let mut ebpf = loader.load(TAPPED_OBJECT)?;
        let mut maps = maps_of(&mut ebpf)?;
        maps.check()?;
        let leave = load(&mut ebpf)?;
        let link = SchedClassifierLink::try_from(link).map_err(XdpError::link("read"))?;
        let link = leave.attach_to_link(link).map_err(XdpError::link("update"))?;
        let link = leave.take_link(link).map_err(XdpError::link("update"))?;
        let link = FdLink::try_from(link).map_err(XdpError::link("read"))?;
        let (ebpf, dir) = (Box::new(ebpf), dir.to_owned());
        Ok(Self { ebpf, maps, link, dir, ifindex })
    }

    /// Gives a packet socket the filter; to be done before it is bound, or all packets of the device come to it.
    ///
    /// # Errors
    /// [`XdpError::Load`]: it is no socket.
    pub fn let_in(&self, socket: impl AsFd) -> Result<(), XdpError> {
        let missing = || ProgramError::InvalidName { name: FILTER.into() };
        let filter: &SocketFilter = self.ebpf.program(FILTER).ok_or_else(missing)?.try_into()?;
        Ok(filter.attach(socket.as_fd())?)
    }

    /// Has the sockets take what is ours, those of all queues at once.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn take(&mut self) -> Result<(), XdpError> {
        self.set_taking(true)
    }

    /// Has no socket take anything: the port falls back. What waits in the sockets stays there.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn clear_sockets(&mut self) -> Result<(), XdpError> {
        self.set_taking(false)
    }

    fn set_taking(&mut self, taking: bool) -> Result<(), XdpError> {
        let mut map: Array<_, u32> = self.maps.typed(map::TAKING)?;
        map.set(0, u32::from(taking), 0).map_err(XdpError::map(map::TAKING))
    }

    /// As [`Ingress::apply_steering`].
    ///
    /// # Errors
    /// [`XdpError::Prefix`] and [`XdpError::ListFull`]: nothing, or nothing but additions, was done.
    pub fn apply_steering(&mut self, steering: &PortSteering) -> Result<(), XdpError> {
        self.maps.apply(steering)
    }

    /// Takes the classifier off the device and removes the pins. The kernel does the former a moment later.
    ///
    /// # Errors
    /// Those of [`Ingress::remove_pins`].
    pub fn detach(self) -> Result<(), XdpError> {
        let Self { link, dir, ifindex, .. } = self;
        drop(link);
        Ingress::remove_pins(&dir, ifindex)
    }
}

fn maps_of(ebpf: &mut Ebpf) -> Result<Maps, XdpError> {
    let missing = |name: &'static str| XdpError::map(name)(MapError::InvalidName { name: name.into() });
    Maps::collect(&map::TAPPED, |name| ebpf.take_map(name).ok_or_else(|| missing(name)))
}

/// Loads both programs; the classifier.
fn load(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, XdpError> {
    let missing = |name: &str| ProgramError::InvalidName { name: name.into() };
    let filter: &mut SocketFilter = ebpf.program_mut(FILTER).ok_or_else(|| missing(FILTER))?.try_into()?;
    filter.load()?;
    let leave: &mut SchedClassifier = ebpf.program_mut(LEAVE).ok_or_else(|| missing(LEAVE))?.try_into()?;
    leave.load()?;
    Ok(leave)
}

/// The link last: whoever finds it finds the rest too.
fn pin(dir: &Path, maps: &Maps, link: FdLink) -> Result<FdLink, XdpError> {
    fs::create_dir_all(dir).map_err(XdpError::pin("create", dir))?;
    for (name, map) in maps.iter() {
        let path = dir.join(name);
        map.pin(&path).map_err(|error| XdpError::pin("pin", path)(error.into_io()))?;
    }
    let path = dir.join(PIN_LINK);
    Ok(link.pin(&path).map_err(|error| XdpError::pin("pin", path)(error.into_io()))?.into())
}

/// The device that a link of this process is on, of those that say so (kernel/bpf/tcx.c, `tcx_link_fdinfo`); 0 or none: it is gone.
fn device_of(link: u32) -> Option<u32> {
    let number = |text: &str, key: &str| -> Option<u32> {
        text.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
    };
    fs::read_dir("/proc/self/fdinfo").ok()?.flatten().find_map(|file| {
        let text = fs::read_to_string(file.path()).ok()?;
        (number(&text, "link_id:") == Some(link)).then(|| number(&text, "ifindex:")).flatten()
    })
}
