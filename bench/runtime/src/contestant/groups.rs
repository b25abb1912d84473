//! Groups of datagrams for runtimes that have no word for them but lend their readiness or their descriptor: by quinn-udp, as QUIC
//! over them does.

use super::ANY;
use anyhow::{Result, ensure};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};

/// How a socket sends and receives groups.
pub(crate) struct Groups(UdpSocketState);

impl Groups {
    /// A socket bound to [`ANY`], which joins what comes.
    pub(crate) fn bind() -> Result<(Self, UdpSocket, SocketAddr)> {
        let socket = UdpSocket::bind(ANY)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        ensure!(state.gro_segments() > 1, "the kernel has no UDP_GRO (Linux 5.0)");
        let address = socket.local_addr()?;
        Ok((Self(state), socket, address))
    }

    /// Into the room of a buffer; who sent it, and how long each datagram is but the last.
    pub(crate) fn receive(
        &self,
        socket: UdpSockRef<'_>,
        buffer: &mut Vec<u8>,
    ) -> io::Result<(SocketAddr, usize)> {
        buffer.resize(buffer.capacity(), 0);
        let mut meta = [RecvMeta::default()];
        self.0.recv(socket, &mut [IoSliceMut::new(buffer)], &mut meta)?;
        buffer.truncate(meta[0].len);
        Ok((meta[0].addr, meta[0].stride))
    }

    pub(crate) fn send(
        &self,
        socket: UdpSockRef<'_>,
        contents: &[u8],
        segment: usize,
        destination: SocketAddr,
    ) -> io::Result<()> {
        let segment_size = (contents.len() > segment).then_some(segment);
        self.0.try_send(socket, &Transmit { destination, ecn: None, contents, segment_size, src_ip: None })
    }
}
