//! The orderly end: not ready, delay, drain, cut.

use std::time::Duration;

use previewgate::preview::ControlId;
use previewgate::simulator::{Fault, Misbehaviour};

use crate::support::{API, Access, Agent, Lab, Request, Setup, Wire, id, within};

const LONG: Duration = Duration::from_secs(600);

fn x() -> Request {
    Request::get(format!("{API}/x"))
}

async fn says(lab: &Lab, message: &str) {
    lab.log.line(|line| line["message"].as_str().is_some_and(|text| text.starts_with(message))).await;
}

#[tokio::test]
async fn a_stopping_gateway_is_not_ready_but_still_serves() {
    let lab = Setup::plain().config(|config| config.shutdown.delay = LONG).start().await;
    let ready = lab.admin("/readyz").await;
    assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));
    lab.stop();
    says(&lab, "shutting down").await;
    assert_eq!(lab.admin("/readyz").await.status, 503);
    assert_eq!(lab.admin("/livez").await.status, 200);
    let mut wire = lab.connect().await;
    for _ in 0..2 {
        let answer = wire.send(&x()).await.passed();
        assert_eq!((answer.status, answer.header("connection")), (200, ""));
    }
}

#[tokio::test]
async fn open_requests_are_finished_and_no_client_is_refused_before_the_end() {
    for setup in [Setup::plain(), Setup::encrypted()] {
        // A follow-up event of the callout would be the answer to the held poll.
        let setup = setup.lenient().simulator(|simulator| simulator.poll_wait = LONG);
        let mut lab = setup.config(|config| config.shutdown.drain = LONG).start().await;
        let agent = lab.agent(101).await;
        agent.shown(7, "5550101").await;
        let mut idle = lab.connect().await;
        idle.send(&x()).await.passed();
        let mut unused = lab.connect().await;
        let mut held = lab.connect().await;
        held.write(&agent.poll_request().bytes()).await;
        within("the poll to be held", lab.simulator.wait_for_held_polls(1)).await;
        let bytes = lab.simulator.body_bytes();
        let mut upload = lab.connect().await;
        upload.write(format!("POST {API}/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na").as_bytes()).await;
        within("the upload to begin", lab.simulator.wait_for_body_bytes(bytes + 1)).await;

        lab.stop();
        says(&lab, "draining").await;
        idle.closed().await;
        unused.closed().await;
        // No client is refused. Polls are answered without the platform, which would hold them.
        let answer = agent.poll().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"message":"","retcode":"0"}"#));
        assert_eq!(answer.header("connection"), "close");
        let all = lab.send(&Request::get(format!("{API}/agentevent/allagentevent")).guid(&agent.guid)).await;
        assert_eq!((all.retcode().as_str(), &all.json()["event"]), ("0", &serde_json::json!([])));
        assert_eq!(lab.send(&x()).await.passed().header("connection"), "close");
        let called = agent.call(7, "5550101").await.passed();
        assert_eq!((called.retcode().as_str(), called.header("connection")), ("0", "close"));

        lab.simulator.preview(id(101), ControlId(1), "1");
        let answer = held.answer().await.passed();
        assert_eq!(answer.json()["event"]["content"]["controlid"], 1);
        assert_eq!(answer.header("connection"), "close");
        held.closed().await;
        within("new connections to be refused", async { while lab.try_connect().await.is_ok() {} }).await;
        upload.write(b"b").await;
        assert_eq!(upload.answer().await.passed().json()["result"]["bytes"], 2);
        upload.closed().await;
        lab.ended().await.unwrap();
    }
}

/// Polls as the vendor's Java client does, which signs its agent out at the first refused connection. Returns the number
/// of answers before that.
async fn polls_until_refused(agent: Agent, access: Access) -> usize {
    let mut answers = 0;
    while let Ok(mut wire) = access.try_connect().await {
        let answer = wire.send(&agent.poll_request()).await;
        assert_eq!((answer.status, answer.retcode().as_str()), (200, "0"), "{answer:?}");
        answers += 1;
    }
    answers
}

#[tokio::test]
async fn agents_that_poll_meanwhile_do_not_hold_up_the_end_and_are_not_refused_before() {
    let setup = Setup::plain().simulator(|simulator| simulator.poll_wait = LONG);
    let mut lab = setup.config(|config| config.shutdown.drain = LONG).start().await;
    let (first, second) = (lab.agent(101).await, lab.agent(102).await);
    let mut held = lab.connect().await;
    held.write(&first.poll_request().bytes()).await;
    within("the poll to be held", lab.simulator.wait_for_held_polls(1)).await;
    lab.stop();
    says(&lab, "draining").await;
    let other = tokio::spawn(polls_until_refused(second, (*lab).clone()));
    let answered = "previewgate_requests_total{operation=\"getAgentEvent\",status_class=\"2xx\"}";
    lab.scraped_until(answered, |polls| polls >= 2.0).await;
    assert!(!other.is_finished(), "refused although a poll is held");
    lab.simulator.preview(id(101), ControlId(1), "1");
    assert_eq!(held.answer().await.passed().retcode(), "0");
    lab.ended().await.unwrap();
    assert!(within("the end of the polls", other).await.unwrap() >= 2);
    // The platform saw none of the polls of the drain.
    let polls = lab.simulator.journal().into_iter().filter(|entry| entry.target.contains("agentevent"));
    assert_eq!(polls.count(), 1);
}

#[tokio::test]
async fn the_drain_deadline_bounds_the_wait_for_held_polls_too() {
    let mut lab = Setup::plain().config(|config| config.shutdown.drain = Duration::from_millis(300)).start().await;
    let agent = lab.agent(101).await;
    let mut held = lab.connect().await;
    held.write(&agent.poll_request().bytes()).await;
    within("the poll to be held", lab.simulator.wait_for_held_polls(1)).await;
    lab.stop();
    assert!(held.try_answer().await.is_err());
    lab.ended().await.unwrap();
    assert!(lab.try_connect().await.is_err());
}

/// A poll that is held longer than that uses up no time of the requests that came meanwhile.
#[tokio::test]
async fn a_request_that_is_sent_while_a_poll_is_held_has_time_after_the_listeners_close() {
    let setup = Setup::plain().simulator(|simulator| simulator.poll_wait = LONG);
    let mut lab = setup.config(|config| config.shutdown.drain = Duration::from_secs(6)).start().await;
    let agent = lab.agent(101).await;
    let mut held = lab.connect().await;
    held.write(&agent.poll_request().bytes()).await;
    within("the poll to be held", lab.simulator.wait_for_held_polls(1)).await;
    let bytes = lab.simulator.body_bytes();
    lab.stop();
    says(&lab, "draining").await;
    let mut upload = lab.connect().await;
    upload.write(format!("POST {API}/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na").as_bytes()).await;
    within("the upload to begin", lab.simulator.wait_for_body_bytes(bytes + 1)).await;
    says(&lab, "closing").await;
    upload.write(b"b").await;
    assert_eq!(upload.answer().await.passed().header("connection"), "close");
    lab.ended().await.unwrap();
}

#[tokio::test]
async fn requests_that_outlast_the_drain_are_cut() {
    let mut lab = Setup::plain().config(|config| config.shutdown.drain = Duration::from_millis(300)).start().await;
    let agent = lab.agent(101).await;
    lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 600_000 }).on("slow"));
    let mut slow = lab.connect().await;
    slow.write(&Request::get(format!("{API}/slow")).bytes()).await;
    let mut held = lab.connect().await;
    held.write(&agent.poll_request().id("cut").bytes()).await;
    within("the poll to be held", lab.simulator.wait_for_held_polls(1)).await;
    within("the slow request to arrive", lab.simulator.wait_for_requests(3)).await;
    lab.stop();
    assert!(held.try_answer().await.is_err());
    assert!(slow.try_answer().await.is_err());
    lab.ended().await.unwrap();
    within("the upstream requests to be cancelled", lab.simulator.wait_for_connections_open(0)).await;
    says(&lab, "drain deadline").await;
    // The request is cut, and still recorded.
    assert_eq!(lab.log.access("cut").await["operation"], "getAgentEvent");
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once() {
    let mut lab = Setup::plain()
        .config(|config| {
            config.shutdown.drain = LONG;
            config.runtime.workers = 2;
        })
        .start()
        .await;
    lab.stop();
    lab.ended().await.unwrap();
    says(&lab, "ended").await;
    assert!(lab.try_connect().await.is_err());
}

#[tokio::test]
async fn a_client_that_was_accepted_before_the_drain_gets_an_answer() {
    let lab = Setup::plain().config(|config| config.shutdown.drain = LONG).start().await;
    let mut fresh = lab.connect().await;
    lab.metric_becomes("previewgate_connections_open{side=\"downstream\"}", 1.0).await;
    lab.stop();
    says(&lab, "draining").await;
    let answer = fresh.send(&x()).await.passed();
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
}

#[tokio::test]
async fn clients_in_the_backlog_get_an_answer_while_the_gateway_ends() {
    let (app, _site) = Setup::plain().config(|config| config.shutdown.drain = LONG).bind().await;
    // More than tokio lets a task accept in one go. They have sent their requests already: a client that is slow to do
    // so once the drain has begun is not waited for.
    let mut waiting = Vec::new();
    for _ in 0..300 {
        let mut wire = Wire::plain(app.address()).await.unwrap();
        wire.write(&x().bytes()).await;
        waiting.push(wire);
    }
    let gateway = app.start();
    gateway.stop();
    for mut wire in waiting {
        assert_eq!(wire.answer().await.passed().status, 200);
    }
}
