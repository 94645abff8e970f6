//! A network between the gateways and Redis that is slow, or that separates one gateway from the others.

use std::time::Duration;

use crate::support::{Gateway, Kind, Passage, RedisServer, Relay, eventually, eventually_async, id, record};

use super::{LOCAL, REJECT, RedisLab, Shared};

/// Longer than any answer of Redis here takes, on a busy machine too.
const PATIENT: &str = "timeout = \"1s\"";
const STRICT: &str = "on_store_failure = \"reject\"\non_end_timeout = \"fail\"\nend_timeout = \"60s\"";

/// A Redis, and gateways that reach it through a relay each.
async fn start(settings: &[&str]) -> Option<(RedisLab, Vec<Relay>)> {
    let redis = RedisServer::start(Kind::Plain)?;
    let relays: Vec<_> = settings.iter().map(|_| Relay::to(redis.address())).collect();
    let lab = RedisLab::through(redis, &relays, settings).await;
    lab.all_well().await;
    Some((lab, relays))
}

#[tokio::test]
async fn a_redis_that_is_far_away_is_shared_as_one_that_is_near() {
    for millis in [50, 150, 300] {
        let Some((lab, relays)) = start(&[PATIENT, PATIENT]).await else { return };
        relays.iter().for_each(|relay| relay.is(Passage::Slow(Duration::from_millis(millis))));
        let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
        lab.shown(one, 101, 7, "100").await;
        assert_eq!(other.call(101, 7, "100").await.verdict(), "ok", "{millis} ms");
        lab.released(other, 101).await;
        assert_eq!(one.call(101, 7, "100").await.verdict(), "unknown_preview", "{millis} ms");
        // Both change the same agent at once: one of them needs a second round trip.
        let shared = async |gateway: &Gateway, control_id, number| {
            record(&gateway.store(), id(102), control_id, number);
            gateway.store().share(&[id(102)]).await.unwrap();
        };
        tokio::join!(shared(one, 8, "200"), shared(other, 9, "300"));
        for gateway in [one, other] {
            assert_eq!(gateway.call(102, 8, "200").await.verdict(), "ok", "{millis} ms");
            assert_eq!(gateway.call(102, 9, "300").await.verdict(), "ok", "{millis} ms");
            assert!(gateway.is_well());
        }
    }
}

/// Answers come later than `timeout`, heartbeats in time.
#[tokio::test]
async fn a_redis_that_is_too_far_away_judges_nothing_and_still_gets_each_end() {
    let quick = "timeout = \"100ms\"\n";
    let slow = format!("{quick}{STRICT}");
    let Some((lab, relays)) = start(&[&slow, PATIENT]).await else { return };
    let (far, near) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(far, 101, 7, "100").await;
    relays[0].is(Passage::Slow(Duration::from_millis(300)));
    assert_eq!(far.call(101, 7, "100").await.verdict(), "store_unavailable");
    assert_eq!(near.call(101, 7, "100").await.verdict(), "ok");
    // Its client learns of the end when Redis has it.
    lab.released(far, 101).await;
    assert_eq!(near.call(101, 7, "100").await.verdict(), "unknown_preview");
    relays[0].is(Passage::Open);
    eventually_async("Redis to be near again", async || far.call(101, 7, "100").await.verdict() == "unknown_preview")
        .await;
}

#[tokio::test]
async fn a_gateway_that_is_cut_off_alone_forwards_what_its_guarantee_allows_and_catches_up() {
    for passage in [Passage::Cut, Passage::Silent] {
        let no_grace = "local_grace = \"0s\"";
        let Some((lab, relays)) = start(&[no_grace, REJECT, LOCAL]).await else { return };
        let [local, reject, other] = &lab.gateways[..] else { unreachable!() };
        lab.shown(local, 101, 7, "100").await;
        lab.shown(reject, 102, 8, "200").await;
        relays[..2].iter().for_each(|relay| relay.is(passage));
        eventually("the loss to be noticed", || !local.is_well() && !reject.is_well()).await;
        // The other gateway has noticed nothing, and what it sees the two do not learn.
        lab.released(other, 101).await;
        lab.released(other, 102).await;
        assert_eq!(local.call(101, 7, "100").await.verdict(), "store_unavailable", "{passage:?}: its grace is over");
        assert_eq!(reject.call(102, 8, "200").await.verdict(), "store_unavailable", "{passage:?}");
        // Events arrive meanwhile.
        lab.shown(reject, 103, 9, "300").await;
        assert_eq!(other.call(103, 9, "300").await.verdict(), "unknown_preview", "{passage:?}");

        relays.iter().for_each(|relay| relay.is(Passage::Open));
        lab.all_well().await;
        for gateway in &lab.gateways {
            assert_eq!(gateway.call(103, 9, "300").await.verdict(), "ok", "{passage:?}");
            assert_eq!(gateway.call(101, 7, "100").await.verdict(), "unknown_preview", "{passage:?}");
            assert_eq!(gateway.call(102, 8, "200").await.verdict(), "unknown_preview", "{passage:?}");
        }
    }
}

/// The end waits with its answer until the gateway is connected again; nobody forwards what a client knows to have ended.
#[tokio::test]
async fn an_end_at_a_gateway_that_is_cut_off_is_held_until_all_know_it() {
    let Some((lab, relays)) = start(&[STRICT, STRICT]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(one, 101, 7, "100").await;
    relays[0].is(Passage::Silent);
    let agent = one.agent_from_elsewhere(101);
    let mut released = std::pin::pin!(agent.released());
    let tried = eventually("the write to be tried", || one.counted("write", "timeout") > 0.0);
    tokio::select! {
        () = &mut released => panic!("the client knows of the end, and Redis does not"),
        () = tried => {}
    }
    assert_eq!(other.call(101, 7, "100").await.verdict(), "ok", "no client knows of an end");
    relays[0].is(Passage::Open);
    released.await;
    assert_eq!(other.call(101, 7, "100").await.verdict(), "unknown_preview");
}

#[tokio::test]
async fn a_redis_that_loads_its_data_is_not_used() {
    let Some(mut lab) = RedisLab::start(&[LOCAL, REJECT]).await else { return };
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.redis.end_and_load_slowly();
    lab.all_lost().await;
    lab.redis.restart();
    let (local, reject) = (&lab.gateways[0], &lab.gateways[1]);
    eventually("the log to say so", || reject.logged().contains("loading the dataset")).await;
    assert_eq!(reject.metric("previewgate_store_up"), 0.0);
    assert_eq!(reject.call(101, 7, "100").await.verdict(), "store_unavailable");
    assert_eq!(local.call(101, 7, "100").await.verdict(), "ok");
    lab.redis.loads_fast();
    lab.all_well().await;
    assert_eq!(lab.gateways[1].call(101, 7, "100").await.verdict(), "ok");
}

/// The other server that speaks the protocol of Redis 7.
#[tokio::test]
async fn valkey_is_shared_as_redis_is() {
    let Some(server) = RedisServer::valkey(Kind::Durable) else { return };
    let mut lab = RedisLab::with(server, &[LOCAL, REJECT]).await;
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.shown(&lab.gateways[0], 102, 8, "200").await;
    assert_eq!(lab.gateways[1].call(101, 7, "100").await.verdict(), "ok");
    lab.released(&lab.gateways[1], 102).await;
    assert_eq!(lab.gateways[0].call(102, 8, "200").await.verdict(), "unknown_preview");
    lab.redis.kill();
    lab.redis.restart();
    lab.all_well().await;
    assert_eq!(lab.gateways[1].call(101, 7, "100").await.verdict(), "ok");
    assert_eq!(lab.gateways[1].call(102, 8, "200").await.verdict(), "unknown_preview");
}
