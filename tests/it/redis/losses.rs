//! What a Redis that has lost something must not bring back, and what it gets back.

use std::collections::HashMap;

use serde_json::Value;

use crate::support::{Cluster, Gateway, Kind, RedisServer, Sentinel, eventually, eventually_async};

use super::{LOCAL, REJECT, RedisLab, Shared};

const KEY: &str = "previewgate:agent:101";

fn command(lab: &RedisLab, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut lab.redis.client()).unwrap();
}

/// The previews in this gateway's own memory.
async fn own_previews(gateway: &Gateway, agent: u32) -> usize {
    let page = gateway.admin(&format!("/previews/{agent}")).await;
    let count = (page.status == 200).then(|| page.json()["previews"].as_array().map_or(0, Vec::len));
    count.unwrap_or(0)
}

/// The shortest trace that a model of the protocol finds.
#[tokio::test]
async fn what_was_shown_here_and_ended_elsewhere_is_not_forwarded_by_a_redis_that_is_back_and_empty() {
    let Some(mut lab) = RedisLab::start(&[LOCAL, LOCAL]).await else { return };
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.released(&lab.gateways[1], 101).await;
    eventually_async("the end to arrive", async || own_previews(&lab.gateways[0], 101).await == 0).await;
    lab.redis.kill();
    // Redis is away: the gateway's own memory decides.
    assert_eq!(lab.gateways[0].call(101, 7, "100").await.verdict(), "store_unavailable");
    lab.redis.restart();
    lab.all_well().await;
    assert_eq!(lab.gateways[0].call(101, 7, "100").await.verdict(), "unknown_preview");
    let ends = lab.gateways[0].store().recent_ends(crate::support::id(101));
    assert!(ends.iter().any(|end| end.cause.as_str() == "elsewhere"), "{ends:?}");
}

#[tokio::test]
async fn a_redis_that_lost_its_memory_gets_back_what_was_shown_without_a_new_event() {
    let Some(mut lab) = RedisLab::start(&[LOCAL, REJECT]).await else { return };
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.redis.kill();
    lab.all_lost().await;
    lab.redis.restart();
    lab.all_well().await;
    let reject = &lab.gateways[1];
    eventually_async("the preview to be there", async || reject.call(101, 7, "100").await.verdict() == "ok").await;
}

/// Nothing breaks a connection: only the epoch shows that everything is gone.
#[tokio::test]
async fn a_redis_that_is_flushed_gets_back_what_was_shown_and_what_has_ended() {
    let Some(lab) = RedisLab::start(&[LOCAL, REJECT, REJECT]).await else { return };
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.shown(&lab.gateways[0], 102, 8, "200").await;
    lab.released(&lab.gateways[1], 102).await;
    command(&lab, &["FLUSHALL"]);
    let reject = &lab.gateways[2];
    eventually_async("the preview to be there", async || reject.call(101, 7, "100").await.verdict() == "ok").await;
    assert_eq!(reject.call(102, 8, "200").await.verdict(), "unknown_preview");
    let losses: f64 = lab.gateways.iter().map(|gateway| gateway.metric("previewgate_store_data_losses_total")).sum();
    assert!(losses >= 1.0);
}

/// A replica becomes the master before it has the last writes, behind the same address.
#[tokio::test]
async fn an_end_that_a_failover_loses_is_written_again() {
    let Some(lab) = RedisLab::start(&[LOCAL, REJECT]).await else { return };
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    let mut client = lab.redis.client();
    let keys: Vec<String> = redis::cmd("KEYS").arg("previewgate:*").query(&mut client).unwrap();
    let of = |key: &String, client: &mut redis::Connection| {
        redis::cmd("HGETALL").arg(key).query::<HashMap<String, Vec<u8>>>(client).unwrap()
    };
    let before: Vec<_> = keys.iter().map(|key| of(key, &mut client)).collect();
    lab.released(&lab.gateways[0], 101).await;
    let numbers = keys.iter().filter(|key| key.contains("heartbeat:"));
    assert_eq!(numbers.clone().count(), 2, "{keys:?}");
    for key in numbers {
        let last = of(key, &mut client);
        eventually("a heartbeat of each gateway", || of(key, &mut lab.redis.client()) != last).await;
    }
    for (key, fields) in keys.iter().zip(&before) {
        let mut set = redis::cmd("HSET");
        set.arg(key);
        fields.iter().for_each(|(name, value)| _ = set.arg(name).arg(value));
        set.exec(&mut client).unwrap();
    }
    // Each gateway knows the end: a read is merged with what it knows.
    for gateway in &lab.gateways {
        assert_ne!(gateway.call(101, 7, "100").await.verdict(), "ok");
    }
    eventually("the end to be written again", || {
        let state: Vec<u8> = redis::cmd("HGET").arg(KEY).arg("state").query(&mut lab.redis.client()).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        state["previews"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
    for gateway in &lab.gateways {
        let losses = || gateway.metric("previewgate_store_data_losses_total");
        eventually("both gateways to learn of the loss", || losses() > 0.0).await;
    }
}

/// While one gateway is being replaced, the other one is of the version before: it writes records without tombstones, and
/// broadcasts nothing.
#[tokio::test]
async fn a_gateway_of_the_version_before_beside_this_one() {
    let Some(lab) = RedisLab::start(&[LOCAL]).await else { return };
    let one = &lab.gateways[0];
    lab.shown(one, 101, 7, "100").await;
    let mut client = lab.redis.client();
    let mut rewritten = |change: fn(&mut Value)| {
        let key = KEY;
        let state: Vec<u8> = redis::cmd("HGET").arg(key).arg("state").query(&mut client).unwrap();
        let mut state: Value = serde_json::from_slice(&state).unwrap();
        for member in ["pushes", "begun"] {
            state.as_object_mut().unwrap().remove(member);
        }
        change(&mut state);
        let text = state.to_string();
        redis::cmd("HSET").arg(key).arg(&["tag", "other", "state", &text]).exec(&mut client).unwrap();
    };
    // It shows a second preview.
    rewritten(|state| {
        let mut second = state["previews"][0].clone();
        second["id"] = 8.into();
        second.as_object_mut().unwrap().remove("began");
        state["previews"].as_array_mut().unwrap().push(second);
    });
    assert_eq!(one.call(101, 8, "100").await.verdict(), "ok");
    assert_eq!(one.call(101, 7, "100").await.verdict(), "ok");
    // It ends everything, at the time of the latest.
    rewritten(|state| {
        let latest = state["previews"][0]["at"].as_u64().unwrap();
        state["previews"] = Value::Array(Vec::new());
        state["ended"] = (latest + 1).into();
    });
    assert_eq!(one.call(101, 7, "100").await.verdict(), "unknown_preview");
}

#[tokio::test]
async fn a_node_of_a_cluster_is_refused_in_words() {
    let Some(server) = RedisServer::start(Kind::Cluster) else { return };
    let lab = RedisLab::unconnected(server, &["start_timeout = \"0s\""]).await;
    eventually("the refusal", || lab.gateways[0].logged().contains("a node of a Redis Cluster")).await;
    assert!(!lab.gateways[0].is_well());
}

/// The master of a cluster dies, and its replica takes over.
#[tokio::test]
async fn a_failover_in_a_cluster_is_followed_and_ends_stay_ended() {
    let Some(mut cluster) = Cluster::start() else { return };
    eventually("a cluster", || cluster.is_complete()).await;
    let lab = RedisLab::reaching((), &cluster.settings(), &[LOCAL, REJECT]).await;
    lab.all_well().await;
    let reject = &lab.gateways[1];
    let store: Value = reject.admin("/store").await.json();
    assert_eq!(store["node"], cluster.master.address().to_string(), "{store}");
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.shown(&lab.gateways[0], 102, 8, "200").await;
    assert_eq!(reject.call(102, 8, "200").await.verdict(), "ok");
    lab.released(&lab.gateways[0], 102).await;
    cluster.fail_over();
    eventually_async("the new master to be used", async || reject.call(101, 7, "100").await.verdict() == "ok").await;
    assert_eq!(reject.call(102, 8, "200").await.verdict(), "unknown_preview");
}

/// The master dies, and a sentinel makes the replica the master.
#[tokio::test]
async fn a_failover_by_sentinel_is_followed_and_ends_stay_ended() {
    let (Some(master), Some(replica)) = (RedisServer::start(Kind::Plain), RedisServer::start(Kind::Plain)) else {
        return;
    };
    replica.follow(&master);
    let sentinel = Sentinel::watch(&master);
    eventually("the sentinel to know the replica", || sentinel.replicas() == Some(1)).await;
    let mut lab = RedisLab::reaching(master, &sentinel.settings(), &[LOCAL, REJECT]).await;
    lab.all_well().await;
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.shown(&lab.gateways[0], 102, 8, "200").await;
    lab.released(&lab.gateways[0], 102).await;
    lab.redis.kill();
    let reject = &lab.gateways[1];
    eventually_async("the new master to be used", async || reject.call(101, 7, "100").await.verdict() == "ok").await;
    assert_eq!(reject.call(102, 8, "200").await.verdict(), "unknown_preview");
}

/// What this gateway has seen itself, what all gateways share, and which Redis that is.
#[tokio::test]
async fn operators_see_both_views_of_an_agent_and_which_redis_is_used() {
    let Some(mut lab) = RedisLab::start(&[LOCAL, REJECT]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(one, 101, 7, "13800001111").await;
    lab.shown(other, 101, 8, "13800002222").await;
    assert_eq!(one.call(101, 8, "13800002222").await.verdict(), "ok");
    let page: Value = one.admin("/previews/101").await.json();
    let control_ids = |view: &str| {
        let shown = page[view].as_array().unwrap().iter();
        shown.map(|preview| preview["control_id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((control_ids("previews"), control_ids("shared")), (vec![7], vec![7, 8]));
    assert!(!page.to_string().contains("1380000"), "{page}");

    for (gateway, guarantee) in [(one, "available"), (other, "strict")] {
        let store: Value = gateway.admin("/store").await.json();
        assert_eq!(store["node"], lab.redis.address().to_string(), "{store}");
        let words = ["kind", "guarantee", "state", "role"].map(|name| store[name].as_str().unwrap());
        assert_eq!(words, ["redis", guarantee, "ok", "master"]);
        // A Valkey that stands in the PATH under the name of Redis says what it is.
        assert!(matches!(store["server"].as_str().unwrap(), "redis" | "valkey"), "{store}");
        assert!(store["version"].as_str().unwrap().contains('.') && store["agents_pending"] == 0, "{store}");
    }
    lab.redis.kill();
    let one = &lab.gateways[0];
    eventually("the loss to be noticed", || !one.is_well()).await;
    lab.shown(one, 102, 9, "100").await;
    let store: Value = one.admin("/store").await.json();
    assert_eq!((&store["state"], &store["role"], &store["node"]), (&"failing".into(), &Value::Null, &Value::Null));
    assert_eq!(store["agents_pending"], 1);
}

/// Read twice, the time of a cut-off gateway's own clock is over.
#[tokio::test]
async fn a_gateway_without_redis_forwards_for_the_grace_time_only() {
    let Some(mut lab) = RedisLab::start(&["local_grace = \"0s\""]).await else { return };
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.redis.kill();
    lab.clocks_tick().await;
    assert_eq!(lab.gateways[0].call(101, 7, "100").await.verdict(), "store_unavailable");
}
