//! Bodies of any size pass in both directions as they arrive, with constant memory.

use previewgate::simulator::{Fault, Misbehaviour};

use crate::support::{API, Broken, Lab, Request, Setup, id, within};

#[tokio::test]
async fn a_download_begins_before_it_ends() {
    let lab = Setup::encrypted().start().await;
    for chunked in [0, 1] {
        // The body never ends, so a gateway that waited for its end would never answer.
        let request = Request::get(format!("{API}/x/download?bytes={}&chunked={chunked}", u64::MAX >> 4));
        let mut wire = lab.connect().await;
        wire.write(&request.bytes()).await;
        assert_eq!(wire.head().await.status, 200);
        assert!(!wire.some().await.is_empty());
    }
    // The client stops reading, so the connection to the upstream is closed as well.
    within("the upstream connections to be closed", lab.simulator.wait_for_connections_open(0)).await;
}

#[tokio::test]
async fn an_upload_arrives_before_it_ends() {
    let lab = Setup::encrypted().start().await;
    let mut wire = lab.connect().await;
    let head = format!("POST {API}/x/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nfirst");
    wire.write(head.as_bytes()).await;
    within("the first part to arrive", lab.simulator.wait_for_body_bytes(5)).await;
    wire.write(b"last").await;
    assert_eq!(wire.answer().await.passed().json()["result"]["bytes"], 9);

    let head = format!("POST {API}/x/upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    wire.write(format!("{head}5\r\nfirst\r\n").as_bytes()).await;
    within("the first chunk to arrive", lab.simulator.wait_for_body_bytes(9 + 5)).await;
    wire.write(b"4\r\nlast\r\n0\r\n\r\n").await;
    assert_eq!(wire.answer().await.passed().json()["result"]["bytes"], 9);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_never_completed() {
    let lab = Lab::start().await;
    for framing in ["Content-Length: 9\r\n\r\nfirst", "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"] {
        let (before, bytes) = (lab.simulator.requests(), lab.simulator.body_bytes());
        let mut wire = lab.connect().await;
        wire.write(format!("POST {API}/x/upload HTTP/1.1\r\nHost: a\r\n{framing}").as_bytes()).await;
        within("the first part to arrive", lab.simulator.wait_for_body_bytes(bytes + 5)).await;
        drop(wire);
        within("the upstream to notice", lab.simulator.wait_for_requests(before + 1)).await;
        assert!(!lab.simulator.journal().last().unwrap().complete, "{framing}");
    }
}

#[tokio::test]
async fn a_huge_event_passes() {
    let lab = Lab::start().await;
    let agent = lab.agent(101).await;
    lab.simulator.misbehave(Misbehaviour::new(Fault::HugeEvent { bytes: 3_000_000 }).of(id(101)));
    let answer = agent.poll().await.passed();
    assert_eq!(answer.json()["event"]["content"]["callData"].as_str().unwrap().len(), 3_000_000);
    assert_eq!(lab.metric("previewgate_event_bodies_unread_total"), 0.0);
    // Its preview was recorded, so the callout reaches the upstream, which does not know the preview.
    assert_eq!(agent.call(1, "1").await.passed().retcode(), "200-001");
}

#[tokio::test]
async fn a_stalled_body_is_ended_in_either_direction() {
    let brief = |config: &mut previewgate::config::Config| {
        config.limits.body_idle_timeout = std::time::Duration::from_millis(200);
    };
    let lab = Setup::plain().config(brief).start().await;
    // The client stops sending.
    let mut wire = lab.connect().await;
    wire.write(format!("POST {API}/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nfirst").as_bytes()).await;
    assert!(!matches!(wire.try_answer().await, Ok(answer) if answer.status == 200));
    within("the upstream connection to be closed", lab.simulator.wait_for_connections_open(0)).await;
    // The upstream stops sending.
    use previewgate::simulator::{Ending, Stage};
    lab.simulator.misbehave(Misbehaviour::new(Fault::Break { at: Stage::InsideBody, how: Ending::Stall }));
    let mut wire = lab.connect().await;
    let broken = wire.try_send(&Request::get(format!("{API}/x/download?bytes=100000"))).await;
    assert!(matches!(broken, Err(Broken::Cut { body: 50_000 })), "{broken:?}");
    within("the upstream connection to be closed", lab.simulator.wait_for_connections_open(0)).await;
}
