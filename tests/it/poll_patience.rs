//! An upstream that restarts: polls that could not be sent wait for it, other requests do not.

use tokio::net::TcpListener;

use crate::support::{API, Lab, Port, Request, Setup, Upstream, Wire, within};

const EMPTY: &str = "{\"message\":\"\",\"retcode\":\"0\"}";

fn poll(agent: u32) -> Request {
    Request::get(format!("{API}/agentevent/{agent}")).guid("a.b")
}

/// Answers one request on each connection with an empty poll.
fn serve(listener: TcpListener) -> Upstream {
    Upstream::on(listener, |mut peer| async move {
        if peer.request().await.is_some() {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", EMPTY.len());
            peer.write(format!("{head}{EMPTY}").as_bytes()).await;
        }
    })
}

/// A gateway whose polls wait for longer than any test takes, unless `settings` says otherwise.
async fn lab(port: &Port, settings: &str) -> Lab {
    let setup = Setup::plain().upstreams(&[port.address]).settings(settings);
    setup.config(|config| config.upstream.poll_patience *= 1000).start().await
}

async fn polling(lab: &Lab, agent: u32) -> Wire {
    let mut wire = lab.connect().await;
    wire.write(&poll(agent).bytes()).await;
    wire
}

/// Waits until so many more attempts of the gateway have failed.
async fn refused(lab: &Lab, port: &Port, more: f64) {
    let series =
        format!("previewgate_upstream_failures_total{{endpoint=\"http://{}\",kind=\"connect\"}}", port.address);
    let enough = lab.scraped(&series).await + more;
    lab.scraped_until(&series, |count| count >= enough).await;
}

#[tokio::test]
async fn polls_survive_an_upstream_that_goes_away_and_returns_at_the_same_port() {
    for probes in ["upstream.probe.kind = \"none\"", "upstream.probe.kind = \"tcp\""] {
        let port = Port::reserve();
        let lab = lab(&port, probes).await;
        for _ in 0..3 {
            let mut waiting = Vec::new();
            for agent in 101..120 {
                waiting.push(polling(&lab, agent).await);
            }
            refused(&lab, &port, 3.0).await;
            // A callout is not kept, nor is anything else: its client decides.
            for request in [
                Request::get(format!("{API}/x")),
                Request::put(format!("{API}/voicecall/101/cancelPreviewCallout")).body("{\"callcontrolid\":1}"),
            ] {
                let own = lab.send(&request).await.own();
                assert_eq!((own.status, own.reason.as_str()), (502, "upstream_failure"));
            }
            let upstream = serve(port.listen_for_a_while());
            for mut wire in waiting {
                let answer = wire.answer().await.passed();
                assert_eq!((answer.status, answer.text().as_str()), (200, EMPTY));
            }
            drop(upstream);
        }
    }
}

#[tokio::test]
async fn a_shutdown_ends_the_wait() {
    let port = Port::reserve();
    let lab = lab(&port, "shutdown.drain = \"1h\"").await;
    let mut waiting = polling(&lab, 101).await;
    refused(&lab, &port, 1.0).await;
    lab.stop();
    assert_eq!(waiting.answer().await.own().status, 502);
    within("the end", lab.close()).await;
}
