//! The beginning and the end of a gateway with Redis, and a Redis that is there and cannot be used.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Kind, Lab, MovableClock, RedisServer, Setup, eventually, eventually_async};

use super::{RedisLab, Shared};

const REJECT: &str = "on_store_failure = \"reject\"\n";

fn command(lab: &RedisLab, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut lab.redis.client()).unwrap();
}

async fn readiness(lab: &RedisLab) -> u16 {
    lab.gateways[0].admin("/readyz").await.status
}

#[tokio::test]
async fn a_gateway_that_has_not_reached_redis_is_not_ready_and_its_callouts_wait() {
    let Some(mut server) = RedisServer::start(Kind::Plain) else { return };
    server.kill();
    let mut lab = RedisLab::unconnected(server, &[&format!("{REJECT}start_timeout = \"60s\"")]).await;
    assert_eq!(readiness(&lab).await, 503);
    // Events pass and are recorded.
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    let agent = lab.gateways[0].agent_from_elsewhere(101);
    let mut wire = lab.gateways[0].connect().await;
    wire.write(&agent.callout(7, "100").bytes()).await;
    assert_eq!(lab.gateways[0].simulator.callouts().len(), 0);
    lab.redis.restart();
    assert_eq!(wire.answer().await.verdict(), "ok");
    eventually_async("the gateway to be ready", async || readiness(&lab).await == 200).await;
}

#[tokio::test]
async fn after_start_timeout_a_gateway_without_redis_does_as_on_store_failure_says() {
    for (policy, verdict) in [("reject", "store_unavailable"), ("local", "ok"), ("forward", "ok")] {
        let Some(mut server) = RedisServer::start(Kind::Plain) else { return };
        server.kill();
        let settings = format!("on_store_failure = \"{policy}\"\nstart_timeout = \"50ms\"");
        let lab = RedisLab::unconnected(server, &[&settings]).await;
        lab.shown(&lab.gateways[0], 101, 7, "100").await;
        assert_eq!(lab.gateways[0].call(101, 7, "100").await.verdict(), verdict, "{policy}");
        eventually_async("the gateway to be ready", async || readiness(&lab).await == 200).await;
        eventually("the log to say so", || lab.gateways[0].logged().contains("not reached since the start")).await;
    }
}

/// A demoted node answers reads with what was true before the failover.
#[tokio::test]
async fn a_redis_that_became_a_replica_is_not_used() {
    let Some(lab) = RedisLab::start(&[REJECT]).await else { return };
    let one = &lab.gateways[0];
    lab.shown(one, 101, 7, "100").await;
    assert_eq!(one.metric("previewgate_store_up"), 1.0);
    command(&lab, &["REPLICAOF", "127.0.0.1", "1"]);
    eventually("the gateway to notice", || !one.is_well()).await;
    assert_eq!(one.metric("previewgate_store_up"), 0.0);
    assert_eq!(one.call(101, 7, "100").await.verdict(), "store_unavailable");
    assert!(one.logged().contains("read only replica"), "{}", one.logged());
    command(&lab, &["REPLICAOF", "NO", "ONE"]);
    lab.all_well().await;
    assert_eq!(lab.gateways[0].call(101, 7, "100").await.verdict(), "ok");
}

#[tokio::test]
async fn a_key_of_another_type_is_replaced() {
    let Some(lab) = RedisLab::start(&[REJECT, REJECT]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    for (name, agent) in [("previewgate:agent:101", 101), ("previewgate:agent:102", 102)] {
        command(&lab, &["SET", name, "something else"]);
        assert_eq!(other.call(agent, 7, "100").await.verdict(), "unknown_preview");
        lab.shown(one, agent, 7, "100").await;
        assert_eq!(other.call(agent, 7, "100").await.verdict(), "ok");
    }
    command(&lab, &["DEL", "previewgate:session-key"]);
    command(&lab, &["SET", "previewgate:session-key", "something else"]);
    eventually("the key to be replaced", || {
        redis::cmd("TYPE").arg("previewgate:session-key").query::<String>(&mut lab.redis.client()).unwrap() == "hash"
    })
    .await;
    assert!(one.is_well());
}

#[tokio::test]
async fn clocks_that_differ_are_reported() {
    let Some(server) = RedisServer::start(Kind::Plain) else { return };
    let clock = Arc::new(MovableClock::default());
    let lab = Setup::plain().settings(&server.settings()).clock(clock.clone()).start().await;
    let ahead = |lab: &Lab| lab.metric("previewgate_store_clock_ahead_seconds");
    eventually("a heartbeat", || lab.is_well()).await;
    assert!(ahead(&lab).abs() < 2.0, "{}", ahead(&lab));
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    clock.advance(Duration::from_secs(3600));
    eventually("the difference to be measured", || ahead(&lab) > 3590.0).await;
    eventually("a warning", || lab.logged().contains("clocks of this gateway and of the shared store differ")).await;
    // The next heartbeat knows Redis's time again: the preview is as old as it was.
    eventually_async("the preview to count", async || agent.call(7, "100").await.verdict() == "ok").await;
    let later = lab.agent(102).await;
    later.shown(8, "100").await;
    assert_eq!(later.call(8, "100").await.verdict(), "ok");
}

/// What ended while Redis was away is written before the process ends.
#[tokio::test]
async fn a_gateway_that_ends_writes_what_waits() {
    let Some(mut lab) = RedisLab::start(&[REJECT, REJECT]).await else { return };
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    assert_eq!(lab.gateways[1].call(101, 7, "100").await.verdict(), "ok");
    lab.redis.stall();
    lab.released(&lab.gateways[0], 101).await;
    let mut leaving = lab.gateways.remove(0);
    leaving.stop();
    eventually("the drain", || leaving.logged().contains("draining")).await;
    lab.redis.resume();
    leaving.ended().await.unwrap();
    assert!(leaving.logged().contains("shared store has every change"), "{}", leaving.logged());
    lab.all_well().await;
    assert_eq!(lab.gateways[0].call(101, 7, "100").await.verdict(), "unknown_preview");
}

#[tokio::test]
async fn a_gateway_that_ends_without_redis_says_what_is_left() {
    let Some(mut lab) = RedisLab::start(&["shutdown.drain = \"1s\"\n"]).await else { return };
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.redis.kill();
    lab.released(&lab.gateways[0], 101).await;
    let mut leaving = lab.gateways.remove(0);
    leaving.stop();
    leaving.ended().await.unwrap();
    let log = leaving.logged();
    assert!(log.contains("do not reach the shared store") && log.contains("\"agents\":1"), "{log}");
}
