//! Listening sockets that one process passes to another over a Unix socket (`SCM_RIGHTS`).
//!
//! Both processes then have the same sockets, with the same queues of waiting connections. When one of them closes its
//! copies, no connection is lost. With `SO_REUSEPORT` alone each process would have a queue of its own, and the connections
//! in it would be reset when it closes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// Maximum number of sockets in one message. The system allows 253.
const MAX_SOCKETS: usize = 250;

/// Listens where a gateway on `address` offers its sockets. The name is abstract: it needs no directory, and it vanishes
/// with the process.
pub fn listen(address: SocketAddr) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&name(address)?)
}

/// Connects to the gateway that listens on `address`.
pub fn connect(address: SocketAddr) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&name(address)?)
}

fn name(address: SocketAddr) -> io::Result<UnixAddress> {
    UnixAddress::from_abstract_name(format!("previewgate-takeover {address}"))
}

/// Whether the process at the other end has the user of this process, or is root. An abstract name has no permissions.
pub fn is_trusted(stream: impl AsFd) -> io::Result<bool> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?.uid;
    Ok(peer.is_root() || peer == rustix::process::geteuid())
}

/// Sends sockets with one byte.
pub fn send(stream: impl AsFd, sockets: &[impl AsFd]) -> io::Result<()> {
    let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&sockets).size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if sockets.len() > MAX_SOCKETS || !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("too many listening sockets to pass them on"));
    }
    rustix::net::sendmsg(stream, &[IoSlice::new(b"s")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what [`send`] sends.
pub fn receive(stream: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received =
        rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_that_was_passed_on_keeps_its_queue() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let waiting: Vec<_> = addresses.iter().map(|address| TcpStream::connect(address).unwrap()).collect();
        send(&ours, &listeners).unwrap();
        drop(listeners);
        let received: Vec<TcpListener> = receive(&theirs).unwrap().into_iter().map(TcpListener::from).collect();
        assert_eq!(received.iter().map(|listener| listener.local_addr().unwrap()).collect::<Vec<_>>(), addresses);
        for (listener, client) in received.iter().zip(waiting) {
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
        assert!(is_trusted(&theirs).unwrap());
        drop(ours);
        assert_eq!(receive(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_gateway_is_found_by_the_address_that_it_listens_on() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        assert_eq!(connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let offer = listen(address).unwrap();
        assert_eq!(listen(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let _client = connect(address).unwrap();
        let (mut accepted, _) = offer.accept().unwrap();
        drop(_client);
        assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
    }
}
