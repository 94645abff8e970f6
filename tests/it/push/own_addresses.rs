//! The gateway's own listeners and the upstream are never a target, under whatever name.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use futures_util::future::join_all;
use serde_json::json;

use super::site::{PushSite, pushes, sign_in};
use crate::support::{Access, Gateway, Peer, Request, Upstream};

/// Allows everything that the configuration can allow.
const EVERYTHING: &str = r#""0.0.0.0/0", "[::]/0", "localhost", "localhost.", "gate.example""#;

/// An address of this machine that other machines know, if it has one. Nothing is sent.
fn interface_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// Spellings of this machine.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "127.0.0.1",
        "127.0.0.2",
        "127.255.255.254",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::FFFF:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
        "[::ffff:0.0.0.0]",
        "[::127.0.0.1]",
        "[::1%25lo]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.000.000.001",
        "1.0.0.127.in-addr.arpa",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "user@127.0.0.1",
        "127.0.0.1#",
        "127.0.0.1\\\\",
    ]
    .map(str::to_owned)
    .into();
    if let Some(ip) = interface_address() {
        names.push(ip.to_string());
        names.push(format!("[::ffff:{ip}]"));
    }
    names
}

/// One gateway that signs agent 101 in and is pushed to.
struct Tested<'a> {
    site: &'a PushSite,
    gateway: &'a Gateway,
    /// How the test reaches it.
    access: Access,
}

impl<'a> Tested<'a> {
    fn new(site: &'a PushSite, gateway: &'a Gateway) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], gateway.address.port()));
        Self { site, gateway, access: Access { address, ..(**gateway).clone() } }
    }

    /// Asks for pushes to `url` and pushes once. The status of the push; nothing if the sign-in was refused.
    async fn pushed(&self, url: &str) -> Option<u16> {
        let answer = self.access.send(&sign_in(json!({"pushUrl": url}).to_string())).await;
        if answer.is_own() {
            assert_eq!(answer.own().retcode, "100-001", "{url}");
            return None;
        }
        Some(self.access.send(&Request::post(self.site.push_path()).body("{}")).await.status)
    }

    /// Fails if a push to `url` can have reached something: it must be refused, unless nothing can be reached there.
    async fn assert_refused(&self, scheme: &str, host: &str, port: u16) {
        let url = format!("{scheme}://{host}:{port}/reload");
        let before = self.gateway.metric(&pushes("refused_target"));
        match self.pushed(&url).await {
            None => {}
            Some(403) => assert_eq!(self.gateway.metric(&pushes("refused_target")), before + 1.0, "{url}"),
            Some(status) => {
                let reached = tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
                assert!(reached.is_err() && matches!(status, 502 | 504), "{url} was pushed to: {status}");
            }
        }
    }
}

/// A gateway of its own for each listener and port: a name that nothing can tell takes seconds, all of them at once no longer.
#[tokio::test]
async fn no_listener_of_the_gateway_is_a_target_under_any_name() {
    let listeners = [
        "",
        "listener.address = \"0.0.0.0:0\"\nadmin.address = \"0.0.0.0:0\"\n",
        "listener.address = \"[::]:0\"\nadmin.address = \"[::]:0\"\n",
    ];
    let each =
        listeners.iter().flat_map(|listeners| [false, true].map(|admin| no_target_under_any_name(listeners, admin)));
    join_all(each).await;
}

async fn no_target_under_any_name(listeners: &str, admin: bool) {
    let site = PushSite::new().await;
    let gateway = site.start_another(&format!("{listeners}{}", PushSite::push(EVERYTHING)));
    let tested = Tested::new(&site, &gateway);
    let port = if admin { gateway.admin_address.port() } else { gateway.address.port() };
    for (name, scheme) in names().iter().zip(["http", "https"].iter().cycle()) {
        tested.assert_refused(scheme, name, port).await;
    }
    gateway.close().await;
}

/// What other gateways and clients call this gateway leads to it, through whatever stands in front.
#[tokio::test]
async fn the_public_url_is_no_target() {
    let site = PushSite::new().await;
    let settings = PushSite::push(EVERYTHING).replace("https://{gateway}", "https://gate.example:8443");
    let gateway = site.start_with(&settings);
    let tested = Tested::new(&site, &gateway);
    for url in ["https://gate.example:8443/x", "https://GATE.example:8443/", "http://gate.example:8443/"] {
        assert_eq!(tested.pushed(url).await, None, "{url}");
    }
    gateway.close().await;
}

#[tokio::test]
async fn own_listeners_are_no_target_after_a_reload_either() {
    let site = PushSite::new().await;
    let gateway = site.start();
    let tested = Tested::new(&site, &gateway);
    let ports = [gateway.address.port(), gateway.admin_address.port()];
    for round in 0..2 {
        for port in ports {
            for host in ["127.0.0.1", "127.0.0.9", "[::1]", "localhost"] {
                tested.assert_refused("https", host, port).await;
            }
        }
        if round == 0 {
            site.configure(&format!("log.level = \"debug\"\nshutdown.drain = \"2s\"\n{}", PushSite::push(EVERYTHING)));
            gateway.reload().unwrap();
        }
    }
    gateway.close().await;
}

#[tokio::test]
async fn the_upstream_is_no_target_under_any_name() {
    let site = PushSite::new().await;
    let gateway = site.start_with(&PushSite::push(EVERYTHING));
    let tested = Tested::new(&site, &gateway);
    for (name, scheme) in names().iter().zip(["https", "http"].iter().cycle()) {
        let requests = site.handle.requests() + 1;
        tested.assert_refused(scheme, name, site.upstream_address().port()).await;
        assert!(site.handle.requests() <= requests, "more than the sign-in: {scheme}://{name}");
    }
    gateway.close().await;
}

/// An application cannot lead the gateway on.
#[tokio::test]
async fn redirects_are_not_followed() {
    let site = PushSite::new().await;
    let gateway = site.start_with(&PushSite::push(r#""http://127.0.0.0/8""#));
    for (status, location) in [
        ("301 Moved Permanently", format!("http://{}/reload", gateway.admin_address)),
        ("302 Found", format!("https://{}/agentgateway/resource/onlineagent/101/logout", site.upstream_address())),
        ("307 Temporary Redirect", format!("https://{}/", gateway.address)),
        ("308 Permanent Redirect", "/elsewhere".to_owned()),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 2\r\n\r\n{{}}");
        let application = Upstream::start(move |mut peer: Peer| {
            let answer = answer.clone();
            async move {
                while peer.request().await.is_some() {
                    let _ = peer.write(&answer).await;
                }
            }
        });
        let tested = Tested::new(&site, &gateway);
        let requests = site.handle.requests() + 1;
        let passed = tested.pushed(&format!("http://{}/", application.address)).await;
        assert_eq!(passed.map(|code| code.to_string()).as_deref(), status.split(' ').next());
        assert_eq!((application.connections(), site.handle.requests()), (1, requests), "{status}");
    }
    gateway.close().await;
}
