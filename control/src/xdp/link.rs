//! Putting the program on a device by a link, and nothing but a link.

use std::path::Path;

use aya::{
    Ebpf,
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};

use super::{
    Mode, XdpError,
    device::{Device, remove_netlink_program},
    error::{IoError, TO_ATTACH},
};

/// Its name in the object, and in `bpftool`.
pub(super) const PROGRAM: &str = "zsync_ingress";

/// What [`Ingress::attach`](super::Ingress::attach) got.
#[derive(Debug)]
pub struct Attached {
    /// The mode it runs in.
    pub mode: Mode,
    /// Why the modes that were to be tried before were refused.
    pub refused: Vec<XdpError>,
}

pub(super) fn xdp_of(ebpf: &mut Ebpf) -> Result<&mut Xdp, XdpError> {
    let program =
        ebpf.program_mut(PROGRAM).ok_or_else(|| ProgramError::InvalidName { name: PROGRAM.into() })?;
    Ok(program.try_into()?)
}

pub(super) fn attach_link(
    program: &mut Xdp,
    ifindex: u32,
    device: &Device,
    mode: Mode,
) -> Result<FdLink, XdpError> {
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
pub(super) fn put_on_link(program: &mut Xdp, pin: &Path) -> Result<FdLink, XdpError> {
    let link = PinnedLink::from_pin(pin).map_err(XdpError::link("open"))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(XdpError::link("read"))?;
    let id = program.attach_to_link(link).map_err(XdpError::link("update"))?;
    let link = program.take_link(id).map_err(XdpError::link("update"))?;
    FdLink::try_from(link).map_err(XdpError::link("read"))
}
