//! `previews.calls_per_number` with several gateways: they race for the last call that is permitted.

use futures_util::future::join_all;

use super::lab::{RedisLab, Shared};
use super::{FORWARD, LOCAL, REJECT};
use crate::support::{Answer, Gateway, Port};

fn limited(calls: usize, policy: &str) -> String {
    format!("previews.calls_per_number = {calls}\n{policy}")
}

/// A callout that another one may accompany: the telephone rings if it is not refused.
async fn called(gateway: &Gateway, number: u32, control_id: i64, called: &str) -> Answer {
    gateway.agent_from_elsewhere(number).call(control_id, called).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_that_race_forward_exactly_as_many_as_are_permitted() {
    for limit in [1, 3] {
        // A busy machine must not make a store of a slow one: without an answer in time, a gateway goes by its own count.
        let settings = limited(limit, "timeout = \"1s\"\non_store_failure = \"reject\"");
        let Some(lab) = RedisLab::start(&[&settings, &settings]).await else { return };
        for control_id in 0..10 {
            lab.shown(&lab.gateways[0], 101, control_id, "100,200").await;
            let before = lab.gateways[0].simulator.callouts().len();
            let calls = (0..16).map(|turn| called(&lab.gateways[turn % 2], 101, control_id, "100"));
            let answers = join_all(calls).await;
            let of = |verdict: &str| answers.iter().filter(|answer| answer.verdict() == verdict).count();
            let rung = lab.gateways[0].simulator.callouts().len() - before;
            // A gateway may give up a callout that it cannot count in time, and never one more than is permitted is sent.
            assert_eq!((of("ok"), of("ok") + of("number_used") + of("store_unavailable")), (rung, 16), "{answers:?}");
            assert!(rung <= limit, "{rung} of {limit}");
            assert!(of("store_unavailable") > 0 || rung == limit, "{answers:?}");
            // The other number has a count of its own.
            assert_eq!(lab.gateways[1].call(101, control_id, "200").await.verdict(), "ok");
        }
    }
}

#[tokio::test]
async fn a_count_is_shared_and_ends_with_the_preview_at_any_gateway() {
    let settings = limited(1, LOCAL);
    let Some(lab) = RedisLab::start(&[&settings, &settings]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(one, 101, 7, "100").await;
    assert_eq!(one.call(101, 7, "100").await.verdict(), "ok");
    assert_eq!(other.call(101, 7, "100").await.verdict(), "number_used");
    lab.shown(other, 101, 7, "100,200").await;
    assert_eq!(one.call(101, 7, "100").await.verdict(), "number_used");
    assert_eq!(other.call(101, 7, "200").await.verdict(), "ok");
    lab.released(other, 101).await;
    lab.shown(one, 101, 7, "100").await;
    assert_eq!(other.call(101, 7, "100").await.verdict(), "ok");
    assert_eq!(one.call(101, 7, "100").await.verdict(), "number_used");
}

/// What happens without Redis follows on_store_failure, and what was called meanwhile counts when Redis is back.
#[tokio::test]
async fn without_redis_each_gateway_follows_the_policy() {
    let settings = [limited(1, LOCAL), limited(1, REJECT), limited(1, FORWARD)];
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let Some(lab) = RedisLab::start(&settings).await else { return };
    for (gateway, agent) in lab.gateways.iter().zip([101, 102, 103]) {
        lab.shown(gateway, agent, 7, "100,200").await;
        assert_eq!(gateway.call(agent, 7, "100").await.verdict(), "ok");
    }
    lab.redis.stall();
    let [local, reject, forward] = &lab.gateways[..] else { unreachable!() };
    // This gateway knows its own calls.
    assert_eq!(local.call(101, 7, "100").await.verdict(), "number_used");
    assert_eq!(local.call(101, 7, "200").await.verdict(), "ok");
    assert_eq!(local.call(101, 7, "200").await.verdict(), "number_used");
    assert_eq!(reject.call(102, 7, "200").await.verdict(), "store_unavailable");
    assert_eq!(forward.call(103, 7, "200").await.verdict(), "ok");
    lab.redis.resume();
    lab.all_well().await;
    let [local, reject, forward] = &lab.gateways[..] else { unreachable!() };
    for gateway in [local, reject, forward] {
        for (agent, number) in [(101, "100"), (101, "200"), (102, "100"), (103, "100"), (103, "200")] {
            assert_eq!(gateway.call(agent, 7, number).await.verdict(), "number_used", "{agent} {number}");
        }
    }
    // What was refused because of Redis did not count.
    assert_eq!(local.call(102, 7, "200").await.verdict(), "ok");
}

#[tokio::test]
async fn a_call_that_was_not_sent_is_given_back_for_all_gateways() {
    // Nothing listens there.
    let dead = Port::reserve();
    let unreachable = format!("upstream.endpoints = [\"http://{}\"]\n{}", dead.address, limited(1, LOCAL));
    let Some(lab) = RedisLab::start(&[&unreachable, &limited(1, LOCAL)]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(other, 101, 7, "100").await;
    for _ in 0..3 {
        assert_eq!(called(one, 101, 7, "100").await.verdict(), "upstream_failure");
    }
    assert_eq!(other.call(101, 7, "100").await.verdict(), "ok");
    assert_eq!(called(one, 101, 7, "100").await.verdict(), "number_used");
}
