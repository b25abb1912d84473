//! What takes a port's packets from the kernel: XDP, or packet sockets and their filter.

use super::maps::Maps;
use super::{Counters, Ingress, PortSteering, Tap, XdpError};
use std::net::IpAddr;
use std::os::fd::AsFd;

/// One of the two; they are told the same.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one for each port, and nearly all are the large one")]
pub enum Hook {
    /// XDP, into AF_XDP sockets.
    Xdp(Ingress),
    /// Packet sockets.
    Tap(Tap),
}

impl Hook {
    fn maps(&mut self) -> &mut Maps {
        match self {
            Self::Xdp(ingress) => &mut ingress.maps,
            Self::Tap(tap) => &mut tap.maps,
        }
    }

    /// XDP, if it is that: what only it has.
    pub fn xdp(&self) -> Option<&Ingress> {
        if let Self::Xdp(ingress) = self { Some(ingress) } else { None }
    }

    /// The same, to be changed.
    pub fn xdp_mut(&mut self) -> Option<&mut Ingress> {
        if let Self::Xdp(ingress) = self { Some(ingress) } else { None }
    }

    /// Hands the packets of one queue to its socket.
    ///
    /// # Errors
    /// Those of [`Ingress::set_socket`] and [`Tap::take`].
    pub fn set_socket(&mut self, queue: u32, socket: impl AsFd) -> Result<(), XdpError> {
        match self {
            Self::Xdp(ingress) => ingress.set_socket(queue, socket),
            Self::Tap(tap) => tap.take(),
        }
    }

    /// No socket takes anything any more: the port falls back.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn clear_sockets(&mut self) -> Result<(), XdpError> {
        match self {
            Self::Xdp(ingress) => ingress.clear_sockets(),
            Self::Tap(tap) => tap.clear_sockets(),
        }
    }

    /// As [`Ingress::apply_steering`].
    ///
    /// # Errors
    /// The same.
    pub fn apply_steering(&mut self, steering: &PortSteering) -> Result<(), XdpError> {
        self.maps().apply(steering)
    }

    /// As [`Ingress::set_local`].
    ///
    /// # Errors
    /// The same.
    pub fn set_local(&mut self, addresses: &[IpAddr]) -> Result<(), XdpError> {
        self.maps().set_local(addresses)
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn counters(&mut self) -> Result<Counters, XdpError> {
        self.maps().counters()
    }

    /// Takes it off the device and removes its pins.
    ///
    /// # Errors
    /// Those of [`Ingress::remove_pins`].
    pub fn detach(self) -> Result<(), XdpError> {
        match self {
            Self::Xdp(ingress) => ingress.detach(),
            Self::Tap(tap) => tap.detach(),
        }
    }
}
