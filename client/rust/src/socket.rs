//! One open, connected, non-blocking datagram socket, and what its errors mean.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
#[cfg(unix)]
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

#[cfg(any(target_os = "linux", target_os = "android"))]
const ENOBUFS: i32 = 105;
#[cfg(windows)]
const ENOBUFS: i32 = 10055;
/// macOS and the BSDs.
#[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
const ENOBUFS: i32 = 55;

/// What a socket can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Address(SocketAddr),
    Path(PathBuf),
}

#[derive(Debug)]
pub(crate) enum Socket {
    Udp(UdpSocket),
    #[cfg(unix)]
    Unix(UnixDatagram),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Plainly,
    /// Nobody listened to an earlier datagram; whether somebody does now shows at a later one.
    AfterRefusal,
}

/// Why a datagram could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No room in a buffer of the kernel.
    Full,
    /// Nobody listens there.
    Unreachable,
    /// No address to send to.
    Unresolved,
    Error,
}

impl Socket {
    pub(crate) fn open(peer: &Peer) -> io::Result<Self> {
        match peer {
            Peer::Address(address) => Self::open_udp(*address),
            Peer::Path(path) => Self::open_unix(path),
        }
    }

    fn open_udp(peer: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = if peer.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        socket.connect(peer)?;
        Ok(Self::Udp(socket))
    }

    #[cfg(unix)]
    fn open_unix(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(path)?;
        Ok(Self::Unix(socket))
    }

    #[cfg(not(unix))]
    fn open_unix(_: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends a datagram, without waiting.
    ///
    /// On UDP a refusal speaks of an earlier datagram, so this one is sent again once.
    pub(crate) fn send(&self, datagram: &[u8]) -> Result<Sent, Failure> {
        match self {
            Self::Udp(socket) => match socket.send(datagram).map_err(failure) {
                Err(Failure::Unreachable) => {
                    socket.send(datagram).map_err(failure)?;
                    Ok(Sent::AfterRefusal)
                }
                sent => sent.map(|_| Sent::Plainly),
            },
            #[cfg(unix)]
            Self::Unix(socket) => socket.send(datagram).map(|_| Sent::Plainly).map_err(failure),
        }
    }

    /// Whether the socket is of no more use after this failure.
    ///
    /// A UDP socket outlives the daemon that it is connected to; a unix socket does not.
    pub(crate) fn is_broken_by(&self, failure: Failure) -> bool {
        match failure {
            Failure::Full => false,
            Failure::Unreachable => !matches!(self, Self::Udp(_)),
            Failure::Unresolved | Failure::Error => true,
        }
    }
}

/// For `map_err`, which hands the error over.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn failure(error: io::Error) -> Failure {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, WouldBlock};
    match error.kind() {
        WouldBlock => Failure::Full,
        // ConnectionReset is how Windows says that nobody listened.
        ConnectionRefused | ConnectionReset | NotFound => Failure::Unreachable,
        _ if error.raw_os_error() == Some(ENOBUFS) => Failure::Full,
        _ => Failure::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_buffer_space_is_a_full_socket() {
        assert_eq!(failure(io::Error::from_raw_os_error(ENOBUFS)), Failure::Full);
    }

    #[test]
    fn an_error_without_a_meaning_of_its_own_is_an_error() {
        assert_eq!(failure(io::ErrorKind::PermissionDenied.into()), Failure::Error);
    }
}
