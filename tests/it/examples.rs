//! Examples for new tests: one of a reload, one of a push, one of Redis. The documentation of the harness names them.

use previewgate::preview::ControlId;

use crate::push::{NUMBER, PushSite};
use crate::redis::RedisLab;
use crate::support::{Setup, id, within};

#[tokio::test]
async fn example_of_a_reload() {
    let lab = Setup::plain().lenient().start().await;
    let agent = lab.agent(101).await;
    assert_eq!(agent.call(7, "100").await.verdict(), "unknown_preview");
    lab.reload_with("validation.mode = \"monitor\"");
    assert_eq!(agent.call(7, "100").await.verdict(), "ok");
}

#[tokio::test]
async fn example_of_a_push() {
    let site = PushSite::new().await;
    let gateway = site.start();
    site.sign_in(site.push_url_sign_in()).await;
    site.handle.preview(id(101), ControlId(7), NUMBER);
    within("a push", site.handle.wait_for_pushes(1)).await;
    // The application has called the number from inside its push handler.
    assert_eq!(site.application.seen()[0].callouts, ["ok"]);
    gateway.close().await;
}

#[tokio::test]
async fn example_of_two_gateways_that_share_a_redis() {
    let Some(lab) = RedisLab::start(&["", ""]).await else { return };
    let agent = lab.gateways[0].agent(101).await;
    agent.shown(7, "100").await;
    assert_eq!(agent.through(&lab.gateways[1]).call(7, "100").await.verdict(), "ok");
}

#[tokio::test]
async fn a_reserved_port_refuses_connections_while_nothing_listens() {
    let port = crate::support::Port::reserve();
    let refused = async || tokio::net::TcpStream::connect(port.address).await.is_err();
    for _ in 0..3 {
        assert!(refused().await);
        let listener = port.listen_for_a_while();
        assert!(!refused().await);
        drop(listener);
    }
    let address = port.address;
    let _listener = port.listen();
    assert!(tokio::net::TcpStream::connect(address).await.is_ok());
}
