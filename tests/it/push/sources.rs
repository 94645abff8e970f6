//! `push.sources`: the networks that pushes may come from.

use std::net::{IpAddr, SocketAddr};

use super::preview;
use super::site::{PushSite, path_of, pushes};
use crate::support::{Access, Request, Wire, id};
use serde_json::json;
use tokio::net::TcpSocket;

/// Sends a request to `to` from this address of the machine.
async fn send_from(access: &Access, from: IpAddr, to: SocketAddr, request: &Request) -> u16 {
    let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    let stream = socket.connect(to).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(access.tls.clone().unwrap());
    let name = rustls::pki_types::ServerName::from(IpAddr::from([127, 0, 0, 1]));
    Wire::over(connector.connect(name, stream).await.unwrap()).send(request).await.status
}

fn loopback(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

#[tokio::test]
async fn pushes_from_other_networks_are_refused_before_anything_else() {
    for (sources, allowed, refused) in [
        (r#""127.0.0.2""#, vec![2], vec![1, 3]),
        (r#""10.0.0.0/8", "127.0.0.2/31""#, vec![2, 3], vec![1, 4]),
        (r#""::ffff:127.0.0.2""#, vec![2], vec![1]),
        (r#""::ffff:127.0.0.2/127""#, vec![2, 3], vec![1]),
        (r#""::/0""#, vec![], vec![1, 2]),
        (r#""0.0.0.0/0""#, vec![1, 2], vec![]),
    ] {
        let site = PushSite::new().await;
        let settings = PushSite::loopback().replace("timeout =", &format!("sources = [{sources}]\ntimeout ="));
        let gateway = site.start_with(&settings);
        // A sign-in may come from anywhere.
        assert_eq!(site.sign_in(site.push_url_sign_in()).await.passed().retcode(), "0");
        let path = site.push_path();
        let body = json!({"retcode": "0", "event": preview(7)}).to_string();
        let push = Request::post(path.clone()).guid("g").body(body);
        for source in refused {
            let status = send_from(&gateway, loopback(source), gateway.address, &push).await;
            assert_eq!((status, site.application.seen().len()), (403, 0), "{sources} {source}");
            // Not even that the address is wrong is said to a stranger.
            let wrong = Request::post(path.replace("/101/", "/102/")).body("{}");
            assert_eq!(send_from(&gateway, loopback(source), gateway.address, &wrong).await, 403);
        }
        assert!(gateway.store().local().previews(id(101)).is_none(), "{sources}");
        assert_eq!(gateway.metric(&pushes("refused_signature")), 0.0);
        for source in allowed {
            let status = send_from(&gateway, loopback(source), gateway.address, &push).await;
            assert_eq!(status, 200, "{sources} {source}");
        }
        gateway.close().await;
    }
}

/// A listener on `[::]` sees IPv4 clients as `::ffff:…`.
#[tokio::test]
async fn a_client_in_ipv6_form_is_the_ipv4_client_that_it_is() {
    let site = PushSite::new().await;
    let first = site.start();
    assert_eq!(site.sign_in(site.push_url_sign_in()).await.passed().retcode(), "0");
    let path = path_of(&site.push_url(), site.gateway_address());
    let push = Request::post(path).guid("g").body("{}");
    for (sources, four, six) in
        [("127.0.0.0/8", 200, 403), ("::ffff:127.0.0.0/104", 200, 403), ("::1", 403, 200), ("::/0", 403, 200)]
    {
        let settings = PushSite::loopback().replace("timeout =", &format!("sources = [\"{sources}\"]\ntimeout ="));
        let gateway = site.start_another(&format!("listener.address = \"[::]:0\"\n{settings}"));
        let port = gateway.address.port();
        let from_four = send_from(&gateway, loopback(1), SocketAddr::new(loopback(1), port), &push).await;
        let loopback_six = IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
        let from_six = send_from(&gateway, loopback_six, SocketAddr::new(loopback_six, port), &push).await;
        assert_eq!((from_four, from_six), (four, six), "{sources}");
        gateway.close().await;
    }
    first.close().await;
}

#[tokio::test]
async fn sources_change_with_a_reload() {
    let site = PushSite::new().await;
    let gateway = site.start();
    assert_eq!(site.sign_in(site.push_url_sign_in()).await.passed().retcode(), "0");
    assert_eq!(site.post("{}").await.status, 200);
    let settings = PushSite::loopback().replace("timeout =", "sources = [\"10.0.0.0/8\"]\ntimeout =");
    site.configure(&format!("log.level = \"debug\"\nshutdown.drain = \"2s\"\n{settings}"));
    gateway.reload().unwrap();
    assert_eq!(site.post("{}").await.status, 403);
    gateway.close().await;
}
