//! One client connection, as the data path knows it.
//!
//! A [`Connection`] exists only once its client is identified: behind a load balancer the peer of the TCP connection and
//! the client are two addresses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use http::{HeaderValue, Request, Version, header};
use tokio::sync::mpsc;

use super::certificate::ClientCertificate;
use super::flush::FlushCallbacks;
use super::framing::HeadFault;

/// The address of a client. Every log line has it as text, so the text is made once.
#[derive(Debug)]
pub struct ClientAddress {
    /// The address, IPv4 in its own form.
    pub ip: IpAddr,
    /// Address and port, or the address alone if a proxy does not tell the port.
    pub text: Arc<str>,
}

impl From<SocketAddr> for ClientAddress {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip().to_canonical(), text: address.to_string().into() }
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { ip, text: ip.to_string().into() }
    }
}

/// What counts as one client: an IPv4 address, or the first 64 bits of an IPv6 address, which identify its network. The
/// owner of the network chooses the other bits at will (RFC 4291 2.5.4).
pub fn network_of(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// The state that [`ClientIo`](super::ClientIo) and the service of one connection share.
#[derive(Debug)]
pub struct Connection {
    /// The client, or the last proxy before the gateway: the peer of the TCP connection, or what its PROXY header says.
    pub client: ClientAddress,
    /// Its address alone, as `X-Forwarded-For` names it: the same in each request.
    pub forwarded_for: HeaderValue,
    /// The certificate that the client has shown.
    pub certificate: Option<ClientCertificate>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    in_flight: AtomicUsize,
    served: AtomicBool,
    fault: OnceLock<HeadFault>,
    raw: AtomicBool,
    flushes: FlushCallbacks,
    /// Held while the connection has work. A worker ends only after the last of these is dropped.
    _alive: mpsc::Sender<()>,
}

impl Connection {
    /// A new connection of `client`. `alive` is dropped with the last request.
    pub fn new(client: SocketAddr, encrypted: bool, alive: mpsc::Sender<()>) -> Self {
        let client = ClientAddress::from(client);
        Self {
            forwarded_for: HeaderValue::try_from(client.ip.to_string()).unwrap_or(HeaderValue::from_static("unknown")),
            client,
            certificate: None,
            encrypted,
            in_flight: AtomicUsize::new(0),
            served: AtomicBool::new(false),
            fault: OnceLock::new(),
            raw: AtomicBool::new(false),
            flushes: FlushCallbacks::default(),
            _alive: alive,
        }
    }

    /// The connection of a client that has shown this certificate.
    #[must_use]
    pub fn identified_by(self, certificate: Option<ClientCertificate>) -> Self {
        Self { certificate, ..self }
    }

    /// Why the head of this request was refused, if it was. It is then the last request of the connection.
    ///
    /// hyper reads ahead: when a fault is known, the request before it may not have been served yet. The stand-in
    /// differs from every real request: an HTTP/1.1 request without `Host` never passes the framer.
    pub fn fault_of<B>(&self, request: &Request<B>) -> Option<HeadFault> {
        let stands_in = || request.version() == Version::HTTP_11 && !request.headers().contains_key(header::HOST);
        self.fault().filter(|_| stands_in())
    }

    /// Why a head on this connection was refused, if one was.
    pub(super) fn fault(&self) -> Option<HeadFault> {
        self.fault.get().copied()
    }

    /// Records that a head was refused. The first fault counts.
    pub(super) fn refuse(&self, fault: HeadFault) {
        let _ = self.fault.set(fault);
    }

    /// From here on the client does not send HTTP: its bytes pass uninspected, and may come at any time.
    pub fn switch_to_raw(&self) {
        self.raw.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_raw(&self) -> bool {
        self.raw.load(Ordering::Relaxed)
    }

    /// Marks a request as being served until the result is dropped: until then the connection is not idle.
    pub fn serving(self: &Arc<Self>) -> Serving {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        Serving(Arc::clone(self))
    }

    /// Whether a first request has come.
    pub fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Calls `callback` once: with `true` as soon as what hyper was given of a response is in the socket, with `false` if
    /// the connection ends before that.
    pub fn when_flushed(&self, callback: impl FnOnce(bool) + Send + 'static) {
        self.flushes.add(Box::new(callback));
    }

    /// Everything that was written is in the socket, or never will be.
    pub(super) fn flushed(&self, reached: bool) {
        self.flushes.flushed(reached);
    }

    pub(super) fn is_serving(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }
}

/// A request that is being served on a connection. See [`Connection::serving`].
#[derive(Debug)]
pub struct Serving(Arc<Connection>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
