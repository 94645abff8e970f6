//! `on_store_failure = "reject"`: an answer that ends previews is held until Redis has the end.

use std::pin::pin;

use crate::support::{eventually, eventually_async};

use super::{RedisLab, Shared};

const STRICT: &str = "on_store_failure = \"reject\"\nend_timeout = \"60s\"";

#[tokio::test]
async fn an_answer_with_an_end_is_held_until_redis_has_it() {
    let Some(lab) = RedisLab::start(&[STRICT, STRICT]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(one, 101, 7, "100").await;
    lab.redis.stall();
    let agent = one.agent_from_elsewhere(101);
    let mut released = pin!(agent.released());
    let tried = eventually("the write to be tried", || one.counted("write", "timeout") > 0.0);
    tokio::select! {
        () = &mut released => panic!("the client knows of the end, and Redis does not"),
        () = tried => {}
    }
    lab.redis.resume();
    released.await;
    assert_eq!(other.call(101, 7, "100").await.verdict(), "unknown_preview");
    assert_eq!(one.call(101, 7, "100").await.verdict(), "unknown_preview");
}

#[tokio::test]
async fn after_the_end_timeout_the_answer_is_delivered_or_not_as_configured() {
    for (action, status) in [("pass", 200), ("fail", 503)] {
        let settings = format!("on_store_failure = \"reject\"\nend_timeout = \"50ms\"\non_end_timeout = \"{action}\"");
        let Some(mut lab) = RedisLab::start(&[&settings]).await else { return };
        lab.shown(&lab.gateways[0], 101, 7, "100").await;
        lab.redis.kill();
        let one = &lab.gateways[0];
        assert_eq!(one.sign_out(101).await.status, status, "{action}");
        assert_eq!(one.metric("previewgate_store_end_timeouts_total"), 1.0);
        // The end is not lost.
        lab.redis.restart();
        lab.all_well().await;
        let one = &lab.gateways[0];
        eventually_async("the end to count", async || one.call(101, 7, "100").await.verdict() != "store_unavailable")
            .await;
        assert_ne!(one.call(101, 7, "100").await.verdict(), "ok");
    }
}
