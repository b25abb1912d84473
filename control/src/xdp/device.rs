//! What rtnetlink says of a device: its name, its MTU, and whose XDP program it runs.
//!
//! One blocking request on a socket of its own: this runs when ports are set up, not per packet and not per scrape.

use std::{fmt, io};

use aya::programs::loaded_programs;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached},
};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::{XdpError, error::TO_ATTACH};

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the kernel's stack, after the skb was made: any device, slower.
    Generic,
    /// On the NIC. zsync never asks for it; somebody else's program may be there.
    Offloaded,
}

impl Mode {
    /// The driver's when it can, else the stack's.
    pub const BEST: [Self; 2] = [Self::Native, Self::Generic];

    /// include/uapi/linux/if_link.h, XDP_FLAGS_*
    const fn flag(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
            Self::Offloaded => 1 << 3,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
        })
    }
}

/// The XDP program of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// The kernel's number.
    pub id: u32,
    /// Its name, when this process may ask for it (CAP_SYS_ADMIN) and it has one.
    pub name: Option<String>,
    /// Where it runs.
    pub mode: Mode,
}

impl fmt::Display for AttachedProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " \"{name}\"")?;
        }
        write!(f, " ({})", self.mode)
    }
}

/// A device at the moment of asking.
pub(super) struct Device {
    pub(super) name: String,
    pub(super) mtu: u32,
    pub(super) program: Option<AttachedProgram>,
}

impl Device {
    pub(super) fn query(ifindex: u32) -> Result<Self, XdpError> {
        let mut link = LinkMessage::default();
        link.header.index = ifindex;
        let answer =
            request(RouteNetlinkMessage::GetLink(link), NLM_F_REQUEST).map_err(|source| {
                match source.raw_os_error() {
                    Some(libc::ENODEV) => XdpError::NoDevice { ifindex },
                    _ => XdpError::Netlink { what: "asking for a device", source },
                }
            })?;
        let Some(RouteNetlinkMessage::NewLink(link)) = answer else {
            return Err(XdpError::NoDevice { ifindex });
        };
        let mut device = Self { name: String::new(), mtu: 0, program: None };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name = name,
                LinkAttribute::Mtu(mtu) => device.mtu = mtu,
                LinkAttribute::Xdp(xdp) => device.program = program_of(&xdp),
                _ => {}
            }
        }
        Ok(device)
    }
}

/// The XDP program attached to a device, whoever attached it and however.
///
/// # Errors
/// When the device does not exist in this network namespace, or rtnetlink fails.
pub fn attached_program(ifindex: u32) -> Result<Option<AttachedProgram>, XdpError> {
    Ok(Device::query(ifindex)?.program)
}

/// Removes somebody else's program that was attached without a link (as `ip link set … xdp` does). This is what an
/// operator's "replace" means; nothing calls it unasked.
///
/// # Errors
/// [`XdpError::Occupied`] when a link holds the program: only its owner can end that (stop it, or remove its pin).
pub fn remove_netlink_program(ifindex: u32) -> Result<(), XdpError> {
    let device = Device::query(ifindex)?;
    let Some(program) = device.program else { return Ok(()) };
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    link.attributes.push(LinkAttribute::Xdp(vec![LinkXdp::Fd(-1), LinkXdp::Flags(program.mode.flag())]));
    match request(RouteNetlinkMessage::SetLink(link), NLM_F_REQUEST | NLM_F_ACK) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EBUSY) => XdpError::Occupied { device: device.name, program },
            Some(libc::EPERM) => XdpError::not_permitted("remove an XDP program", TO_ATTACH),
            _ => XdpError::Netlink { what: "removing an XDP program", source: error },
        }),
    }
}

fn program_of(xdp: &[LinkXdp]) -> Option<AttachedProgram> {
    let mut id = None;
    let mut mode = None;
    for attribute in xdp {
        match attribute {
            LinkXdp::Attached(XdpAttached::Driver) => mode = Some(Mode::Native),
            LinkXdp::Attached(XdpAttached::SocketBuffer) => mode = Some(Mode::Generic),
            LinkXdp::Attached(XdpAttached::Hardware) => mode = Some(Mode::Offloaded),
            LinkXdp::ProgId(program) => id = Some(*program),
            // With several at once (an offloaded one beside another) there is no IFLA_XDP_PROG_ID: say the first.
            LinkXdp::DrvProgId(program) => (id, mode) = (id.or(Some(*program)), mode.or(Some(Mode::Native))),
            LinkXdp::SkbProgId(program) => (id, mode) = (id.or(Some(*program)), mode.or(Some(Mode::Generic))),
            LinkXdp::HwProgId(program) => {
                (id, mode) = (id.or(Some(*program)), mode.or(Some(Mode::Offloaded)))
            }
            _ => {}
        }
    }
    let id = id.filter(|id| *id != 0)?;
    let name = loaded_programs()
        .map_while(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .filter(|name| !name.is_empty());
    Some(AttachedProgram { id, name, mode: mode? })
}

/// One request and its answer; an acknowledgement is `None`.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
    // Protocol 0 of this family is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    send(&socket, &buffer, SendFlags::empty())?;

    // A device with many virtual functions describes each: far more than a page.
    let mut buffer = vec![0; 1 << 18];
    let (received, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
    let answer = buffer.get(..received).unwrap_or_default();
    match NetlinkMessage::deserialize(answer).map_err(io::Error::other)?.payload {
        NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdp_attributes() {
        assert_eq!(program_of(&[LinkXdp::Attached(XdpAttached::None)]), None);
        let program = program_of(&[LinkXdp::Attached(XdpAttached::SocketBuffer), LinkXdp::ProgId(u32::MAX)]);
        assert_eq!(program.map(|p| (p.id, p.mode)), Some((u32::MAX, Mode::Generic)));
        let several = [
            LinkXdp::Attached(XdpAttached::Multiple),
            LinkXdp::DrvProgId(u32::MAX),
            LinkXdp::HwProgId(u32::MAX - 1),
        ];
        assert_eq!(program_of(&several).map(|p| (p.id, p.mode)), Some((u32::MAX, Mode::Native)));
    }

    #[test]
    fn loopback_is_found_and_a_device_that_is_not_is_named() {
        let device = Device::query(1).unwrap();
        assert_eq!((device.name.as_str(), device.program), ("lo", None));
        assert!(device.mtu > 0);
        assert!(matches!(Device::query(0x7fff_ffff), Err(XdpError::NoDevice { ifindex: 0x7fff_ffff })));
    }
}
