//! Posts to an application that CC-Gateway pushes to: decides whether it is allowed, and sends one request.
//!
//! Pushes follow each other on kept connections. One that turns out to be closed before it has taken a byte gives the push
//! back; a push that may have been sent is never sent again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, Uri, Version};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::headers::{prepare_response, strip_hop_by_hop};
use super::push_pool::PushPool;
use super::read_whole::{Unread, read_whole};
use crate::config::{self, AllowedTarget, EndpointUrl, Scheme, UpstreamEndpoint};
use crate::protocol::push_address::Target;
use crate::sockets;
use crate::tls::TlsError;
use crate::upstream::{RequestBody, client_tls};

/// Maximum size of an answer to a push, in bytes. The expected one is `{"message":"","retcode":"0"}`.
const MAX_RESPONSE: usize = 64 * 1024;

/// Why a push has no answer of the application. The client gets the text, the log the cause.
#[derive(Debug, thiserror::Error)]
pub enum PushFault {
    /// The address was not issued with this gateway's key.
    #[error("this push address was not issued by this gateway")]
    Signature,
    /// The session that the address was issued for is over.
    #[error("the session of this push address is over")]
    Session,
    /// The push does not come from one of `push.sources`.
    #[error("pushes are not accepted from this address")]
    Source,
    /// The application may not be pushed to.
    #[error("the gateway is not allowed to push to this application")]
    Target,
    /// The push contains a push address.
    #[error("the push contains an address that only CC-Gateway may know")]
    Quote,
    /// The application could not be reached, or did not answer properly.
    #[error("the application could not be reached or did not answer properly")]
    Failed(#[source] io::Error),
    /// The application did not answer in time.
    #[error("the application did not answer in time")]
    Timeout,
}

/// The applications that may be pushed to, and how.
pub(super) struct PushClient {
    allowed: Vec<AllowedTarget>,
    /// Never a target, whatever is allowed: a push to the upstream's own interface would be a request without
    /// validation, from the one address that may reach it. A push to a gateway's public URL would do the same in a circle.
    forbidden: Vec<EndpointUrl>,
    /// This gateway's own listeners. The admin listener trusts every client that reaches it.
    own: Vec<SocketAddr>,
    timeout: Duration,
    tls: Option<TlsConnector>,
    pool: PushPool,
}

/// Why a push has no answer of an application.
enum Failed {
    /// The application has received no byte of it: it may be sent over another connection.
    NotSent(Box<Request<RequestBody>>, io::Error),
    MaybeSent(io::Error),
}

impl PushClient {
    pub(super) fn new(
        push: &config::Push,
        upstream: &[UpstreamEndpoint],
        own: &[SocketAddr],
    ) -> Result<Self, TlsError> {
        let encrypted = push.allowed_targets.iter().any(|target| target.scheme != Some(Scheme::Http));
        let tls = || client_tls(push.tls.ca.as_deref(), None, push.tls.insecure_skip_verify);
        let tls = if encrypted { Some(tls()?) } else { None };
        Ok(Self {
            allowed: push.allowed_targets.clone(),
            forbidden: upstream.iter().map(|endpoint| &endpoint.url).chain([&push.public_url]).cloned().collect(),
            own: own.to_vec(),
            timeout: push.timeout,
            tls,
            pool: PushPool::default(),
        })
    }

    /// Whether pushes to `target` are allowed, as far as its name tells.
    pub(super) fn allow(&self, target: &Target) -> bool {
        let is_target =
            |endpoint: &EndpointUrl| (&endpoint.host, endpoint.port) == (&target.origin.host, target.origin.port);
        let ip = target.origin.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_own = ip.is_ok_and(|ip| self.is_own(SocketAddr::new(ip, target.origin.port)));
        let allowed = self.allowed.iter().any(|allowed| allowed.names(&target.origin));
        allowed && !is_own && !self.forbidden.iter().any(is_target)
    }

    /// Posts to `target` once and waits for the answer.
    pub(super) async fn post(
        &self,
        target: &Target,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Bytes>, PushFault> {
        address_to(target, &mut request)?;
        let answer = tokio::time::timeout(self.timeout, self.exchange(&target.origin, request));
        answer.await.unwrap_or(Err(PushFault::Timeout))
    }

    async fn exchange(
        &self,
        origin: &EndpointUrl,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Bytes>, PushFault> {
        // A kept connection that turns out to be closed gives the push back.
        while let Some(sender) = self.pool.take(origin) {
            match self.send(origin, sender, request).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::MaybeSent(error)) => return Err(PushFault::Failed(error)),
                Err(Failed::NotSent(unsent, _)) => request = *unsent,
            }
        }
        let sender = self.open(origin).await?;
        self.send(origin, sender, request).await.map_err(|failed| match failed {
            Failed::NotSent(_, error) | Failed::MaybeSent(error) => PushFault::Failed(error),
        })
    }

    /// A new connection.
    async fn open(&self, origin: &EndpointUrl) -> Result<SendRequest<RequestBody>, PushFault> {
        let socket = self.connect(origin).await?;
        match origin.scheme {
            Scheme::Http => handshake(socket).await.map_err(PushFault::Failed),
            Scheme::Https => {
                // Without a connector no https target is allowed.
                let tls = self.tls.as_ref().ok_or(PushFault::Target)?;
                let name = ServerName::try_from(origin.host.clone()).map_err(|_| PushFault::Target)?;
                let stream = tls.connect(name, socket).await.map_err(PushFault::Failed)?;
                handshake(stream).await.map_err(PushFault::Failed)
            }
        }
    }

    /// Sends a push once, and keeps the connection if the answer is whole.
    async fn send(
        &self,
        origin: &EndpointUrl,
        mut sender: SendRequest<RequestBody>,
        request: Request<RequestBody>,
    ) -> Result<Response<Bytes>, Failed> {
        let answer = sender.try_send_request(request).await;
        let mut response = answer.map_err(|mut error| match error.take_message() {
            Some(unsent) => Failed::NotSent(Box::new(unsent), io::Error::other(error.into_error())),
            None => Failed::MaybeSent(io::Error::other(error.into_error())),
        })?;
        prepare_response(&mut response);
        let (head, mut body) = response.into_parts();
        match read_whole(&mut body, MAX_RESPONSE).await {
            Ok(body) => {
                self.pool.put(origin, sender);
                Ok(Response::from_parts(head, body))
            }
            Err(Unread::TooLarge(_)) => Err(Failed::MaybeSent(io::Error::other("the answer is too large"))),
            Err(Unread::Broken(error)) => Err(Failed::MaybeSent(io::Error::other(error))),
        }
    }

    /// Connects to the first address that is allowed and answers. It connects to the address that it has checked, so a name
    /// that resolves to another address the next time (DNS rebinding) has no effect.
    async fn connect(&self, origin: &EndpointUrl) -> Result<TcpStream, PushFault> {
        let addresses =
            tokio::net::lookup_host((origin.host.as_str(), origin.port)).await.map_err(PushFault::Failed)?;
        let mut last = PushFault::Failed(io::Error::other("the name has no address"));
        for address in addresses {
            if !self.may_reach(origin.scheme, address) || self.is_forbidden(address).await {
                last = PushFault::Target;
                continue;
            }
            last = match TcpStream::connect(address).await {
                Ok(socket) => {
                    sockets::prepare(&socket);
                    return Ok(socket);
                }
                Err(error) => PushFault::Failed(error),
            };
        }
        Err(last)
    }

    /// Whether `address` must never be a target, whatever name the application uses for it. A forbidden name that does not
    /// resolve at the moment may have any address, so then every address is forbidden.
    async fn is_forbidden(&self, address: SocketAddr) -> bool {
        if self.is_own(address) {
            return true;
        }
        for endpoint in self.forbidden.iter().filter(|endpoint| endpoint.port == address.port()) {
            let known = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
            if known.map_or(true, |mut known| known.any(|known| may_lead_to(known, address))) {
                return true;
            }
        }
        false
    }

    /// Whether `address` leads to one of this gateway's own listeners.
    fn is_own(&self, address: SocketAddr) -> bool {
        let mut same_port = self.own.iter().filter(|own| own.port() == address.port());
        same_port.any(|own| {
            is_same(own.ip(), address.ip()) || (own.ip().to_canonical().is_unspecified() && may_be_local(address))
        })
    }

    /// An allowed name is enough for an address on another network. The owner of a name can let it resolve to this machine
    /// or link (an admin listener, a cloud's metadata service), so such an address must be allowed as an address.
    fn may_reach(&self, scheme: Scheme, address: SocketAddr) -> bool {
        !is_close(address.ip()) || self.allowed.iter().any(|allowed| allowed.reaches(scheme, address))
    }
}

/// Whether a connection to `address` may reach the server that is at `known`. A server on this machine may listen on each of
/// its addresses.
fn may_lead_to(known: SocketAddr, address: SocketAddr) -> bool {
    is_same(known.ip(), address.ip()) || (may_be_local(known) && may_be_local(address))
}

/// Whether an address may belong to this machine: a socket can be bound to it. An address counts as local if another error
/// prevents that.
fn may_be_local(mut address: SocketAddr) -> bool {
    address.set_port(0);
    let bound = std::net::UdpSocket::bind(address);
    !bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Whether two addresses are equal, or both belong to this machine.
fn is_same(one: IpAddr, other: IpAddr) -> bool {
    let (one, other) = (one.to_canonical(), other.to_canonical());
    let here = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    one == other || (here(one) && here(other))
}

/// Whether an address is loopback, link-local, unspecified, multicast or broadcast. The name of an application should not
/// resolve to any of these.
fn is_close(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.octets().starts_with(&[0])
                || ip.is_multicast()
                || ip.is_broadcast()
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast(),
    }
}

/// Names the application instead of the gateway; leaves everything else that CC-Gateway wrote.
fn address_to(target: &Target, request: &mut Request<RequestBody>) -> Result<(), PushFault> {
    let authority = target.origin.to_string();
    let authority = authority.split_once("://").map_or(authority.as_str(), |(_, authority)| authority);
    let host = HeaderValue::from_str(authority).map_err(|_| PushFault::Target)?;
    *request.uri_mut() = Uri::from(target.path.clone());
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    headers.insert(header::HOST, host);
    // HTTP/1.0 servers need to be told.
    headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    Ok(())
}

async fn handshake<S>(stream: S) -> io::Result<SendRequest<RequestBody>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let builder = http1::Builder::new().preserve_header_case(true).clone();
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends when `sender` is dropped, or when the application closes.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_many_spellings() {
        for (one, other, expected) in [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "::ffff:10.1.2.3", true),
            ("127.0.0.1", "127.8.8.8", true),
            ("127.0.0.1", "0.0.0.0", true),
            ("::1", "127.0.0.1", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.2.3", "127.0.0.1", false),
        ] {
            assert_eq!(is_same(one.parse().unwrap(), other.parse().unwrap()), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_server_on_this_machine_may_listen_on_each_of_its_addresses() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        // 240.0.0.0/4 is reserved: no machine has such an address.
        assert!(may_lead_to(at("0.0.0.0:1"), at("127.0.0.1:1")) && may_lead_to(at("127.0.0.1:1"), at("[::1]:1")));
        assert!(may_lead_to(at("127.0.0.1:1"), at("[::ffff:127.9.9.9]:1")));
        assert!(!may_lead_to(at("127.0.0.1:1"), at("240.1.2.3:1")) && !may_lead_to(at("240.1.2.3:1"), at("[::1]:1")));
        assert!(may_be_local(at("[fe80::1]:1")), "without its interface it cannot be told");
    }

    #[test]
    fn addresses_on_this_machine_and_link_are_close() {
        for close in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "169.254.169.254",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(is_close(close.parse().unwrap()), "{close}");
        }
        for out_there in ["10.1.2.3", "192.168.0.1", "8.8.8.8", "2001:db8::1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(!is_close(out_there.parse().unwrap()), "{out_there}");
        }
    }
}
