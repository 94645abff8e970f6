//! Several gateways that share their previews through a real Redis, which is killed, stalled, restarted and filled.
//!
//! `redis-server` is started from the PATH, each test its own. Without one the tests are skipped, except in CI. No test
//! sleeps to synchronise: it waits for what it needs to have happened.

mod audit;
mod calls;
mod chaos;
mod joining;
mod lab;
mod losses;
mod network;
mod rights;
mod strict;

use std::time::Duration;

use previewgate::preview::{Clock, SystemClock};
use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};
use previewgate::store::snapshot::{Restored, SnapshotFile};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{API, Kind, RedisServer, Request, SECRET, eventually, eventually_async, id, record, within};

pub(crate) use lab::{RedisLab, Shared};

const LOCAL: &str = "";
const REJECT: &str = "on_store_failure = \"reject\"";
const FORWARD: &str = "on_store_failure = \"forward\"";

#[tokio::test]
async fn an_agent_polls_through_one_gateway_and_calls_through_another() {
    let Some(lab) = RedisLab::start(&[LOCAL, LOCAL]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(one, 101, 7, "100,200").await;
    assert_eq!(other.call(101, 7, "200").await.verdict(), "ok");
    assert_eq!(other.call(101, 7, "20").await.verdict(), "number_not_in_preview");
    assert_eq!(other.call(101, 8, "100").await.verdict(), "control_id_mismatch");
    assert_eq!(other.call(102, 7, "100").await.verdict(), "unknown_preview");

    // Numbers of one control ID add up, whichever gateways saw the announcements.
    lab.shown(other, 101, 7, "300").await;
    for number in ["100", "300"] {
        assert_eq!(one.call(101, 7, number).await.verdict(), "ok", "{number}");
    }
    let lifetime: u64 = redis::cmd("PTTL").arg("previewgate:agent:101").query(&mut lab.redis.client()).unwrap();
    assert!((1..=2 * 30 * 60 * 1000).contains(&lifetime), "{lifetime}");
    assert!(one.counted("write", "ok") > 0.0 && other.counted("read", "ok") > 0.0);
    assert_eq!(one.admin_store(101).await, "ok");
}

#[tokio::test]
async fn an_end_at_one_gateway_counts_at_the_other() {
    let Some(lab) = RedisLab::start(&[LOCAL, LOCAL]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(one, 101, 7, "100").await;
    lab.shown(other, 101, 8, "200").await;
    assert_eq!(other.cancel(101, 7).await.retcode(), "0");
    assert_eq!(one.call(101, 7, "100").await.verdict(), "control_id_mismatch");
    assert_eq!(one.call(101, 8, "200").await.verdict(), "ok");
    lab.released(one, 101).await;
    // This gateway saw the preview, and its own memory still has it.
    assert_eq!(other.call(101, 8, "200").await.verdict(), "unknown_preview");

    lab.shown(one, 101, 9, "300").await;
    assert_eq!(other.sign_out(101).await.retcode(), "0");
    assert_eq!(one.call(101, 9, "300").await.verdict(), "unknown_preview");
}

#[tokio::test]
async fn what_is_pushed_through_one_gateway_counts_at_the_other_before_the_application_sees_it() {
    let Some(server) = RedisServer::start(Kind::Plain) else { return };
    let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", application.local_addr().unwrap());
    std::fs::write(server.directory.path().join("push.key"), [42; 32]).unwrap();
    let push =
        "[push]\npublic_url = \"http://gate.example:8043\"\nkey = \"push.key\"\nallowed_targets = [\"127.0.0.1\"]";
    let lab = RedisLab::with(server, &[push, push]).await;
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(other, 101, 6, "50").await;
    let path = one.sign_in_for_push(101, &url).await;
    assert_eq!(other.call(101, 6, "50").await.verdict(), "unknown_preview", "it was shown to the session before");

    let in_the_handler = async {
        let (mut socket, _) = within("a push", application.accept()).await.unwrap();
        assert_eq!(other.call(101, 7, "100").await.verdict(), "ok");
        socket.read_exact(&mut [0; 1]).await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        socket
    };
    let (answer, _socket) = tokio::join!(one.push(&path, 7, "100"), in_the_handler);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_snapshot_holds_the_previews_of_this_gateway_and_is_used_while_redis_is_empty() {
    let Some(server) = RedisServer::start(Kind::Plain) else { return };
    let file = server.directory.path().join("previews.snapshot");
    let mut lab = RedisLab::with(server, &[LOCAL, LOCAL]).await;
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.shown(&lab.gateways[0], 102, 8, "200").await;
    let (snapshot, clock) = (SnapshotFile::open(file, Duration::from_secs(5), 100).unwrap(), SystemClock::new());
    snapshot.save(&lab.gateways[0].store(), &clock).unwrap();
    lab.released(&lab.gateways[0], 102).await;

    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    let restored = || snapshot.restore(&other.store(), clock.now());
    assert!(matches!(restored(), Restored::Previews { previews: 2, .. }));
    assert_eq!(other.call(102, 8, "200").await.verdict(), "unknown_preview", "it has ended since, and Redis knows it");
    assert_eq!(one.call(101, 7, "100").await.verdict(), "ok");
    lab.redis.kill();
    lab.redis.restart();
    lab.all_well().await;
    assert_eq!(lab.gateways[1].call(101, 7, "100").await.verdict(), "ok");
}

#[tokio::test]
async fn monitor_mode_forwards_a_callout_that_cannot_be_looked_up() {
    let Some(mut lab) = RedisLab::start(&["on_store_failure = \"reject\"\n[validation]\nmode = \"monitor\""]).await
    else {
        return;
    };
    lab.redis.kill();
    let [gateway] = &lab.gateways[..] else { unreachable!() };
    assert_eq!(gateway.call(101, 7, "100").await.verdict(), "ok");
    let unverified = "previewgate_preview_callouts_total{decision=\"unverified\",reason=\"store_unavailable\"}";
    assert!((gateway.metric(unverified) - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn without_redis_events_arrive_and_callouts_follow_the_policy() {
    let Some(mut lab) = RedisLab::start(&[LOCAL, REJECT, FORWARD]).await else { return };
    lab.shown(&lab.gateways[1], 103, 9, "300").await;
    assert_eq!(lab.gateways[0].call(103, 9, "300").await.verdict(), "ok");
    lab.redis.kill();
    let [local, reject, forward] = &lab.gateways[..] else { unreachable!() };
    for (gateway, id) in [(local, 101), (reject, 102), (forward, 104)] {
        lab.shown(gateway, id, 7, "100").await;
        assert!(gateway.counted("write", "failed") > 0.0);
        assert_eq!(gateway.admin_store(id).await, "failing");
    }
    assert_eq!(local.call(101, 7, "100").await.verdict(), "ok");
    // Another gateway has shown it, and has told this one.
    assert_eq!(local.call(103, 9, "300").await.verdict(), "ok");
    assert_eq!(local.call(199, 9, "300").await.verdict(), "store_unavailable");
    let refused = reject.call(102, 7, "100").await;
    assert_eq!((refused.status, refused.reason()), (503, "store_unavailable"));
    assert_eq!((refused.retcode(), refused.json().get("result")), ("100-007".to_owned(), None));
    assert_eq!(forward.call(104, 7, "999").await.verdict(), "ok");
    let unverified = "previewgate_preview_callouts_total{decision=\"unverified\",reason=\"store_unavailable\"}";
    assert!((forward.metric(unverified) - 1.0).abs() < f64::EPSILON);
    for gateway in [local, reject, forward] {
        assert!(gateway.counted("read", "failed") > 0.0);
    }

    // Redis is back and empty. The gateways write the previews that were shown in the meantime.
    lab.redis.restart();
    lab.all_well().await;
    let [local, reject, forward] = &lab.gateways[..] else { unreachable!() };
    assert_eq!(reject.call(101, 7, "100").await.verdict(), "ok");
    assert_eq!(forward.call(102, 7, "999").await.verdict(), "number_not_in_preview");
    // Redis had lost this preview, and has it again.
    eventually_async("the preview", async || reject.call(103, 9, "300").await.verdict() == "ok").await;
    lab.shown(local, 105, 7, "100").await;
    assert_eq!(reject.call(105, 7, "100").await.verdict(), "ok");
}

#[tokio::test]
async fn a_redis_that_lost_its_memory_costs_no_preview_at_the_gateway_that_saw_it() {
    let Some(mut lab) = RedisLab::start(&[LOCAL, LOCAL]).await else { return };
    lab.shown(&lab.gateways[0], 101, 7, "100").await;
    lab.redis.kill();
    lab.all_lost().await;
    lab.redis.restart();
    lab.all_well().await;
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    assert_eq!(one.call(101, 7, "100").await.verdict(), "ok");
    // The next event of the agent writes the earlier previews too.
    lab.shown(one, 101, 8, "200").await;
    assert_eq!(other.call(101, 7, "100").await.verdict(), "ok");
    assert_eq!(other.call(101, 8, "200").await.verdict(), "ok");
}

#[tokio::test]
async fn a_redis_that_hangs_delays_by_its_time_limit_and_ends_arrive_when_it_is_back() {
    let Some(lab) = RedisLab::start(&[LOCAL, REJECT]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(one, 101, 7, "100").await;
    assert_eq!(other.call(101, 7, "100").await.verdict(), "ok");
    lab.redis.stall();
    lab.released(one, 101).await;
    assert!(one.counted("write", "timeout") > 0.0);
    assert_eq!(other.call(101, 7, "100").await.verdict(), "store_unavailable");
    assert!(other.counted("read", "timeout") > 0.0);
    // The gateway knows now that Redis hangs, so it waits no longer.
    eventually("the hanging connection to be given up", || !one.is_well() && !other.is_well()).await;
    lab.shown(one, 101, 8, "200").await;

    lab.redis.resume();
    lab.all_well().await;
    assert_eq!(other.call(101, 7, "100").await.verdict(), "control_id_mismatch");
    assert_eq!(other.call(101, 8, "200").await.verdict(), "ok");
}

#[tokio::test]
async fn a_full_redis_is_counted_and_ends_still_arrive() {
    let Some(lab) = RedisLab::start(&[LOCAL, LOCAL]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(one, 101, 7, "100").await;
    lab.redis.limit_memory("1mb");
    lab.redis.fill();
    lab.shown(one, 102, 8, "200").await;
    assert!(one.counted("write", "failed") > 0.0);
    assert_eq!(one.call(102, 8, "200").await.verdict(), "ok");
    assert_eq!(other.call(102, 8, "200").await.verdict(), "unknown_preview");
    lab.released(one, 101).await;
    assert_eq!(other.call(101, 7, "100").await.verdict(), "unknown_preview");
    assert_eq!(one.admin_store(101).await, "failing");

    lab.redis.limit_memory("0");
    eventually("what was late to be written", || one.is_well()).await;
    assert_eq!(other.call(102, 8, "200").await.verdict(), "ok");
    assert_eq!(other.call(101, 7, "100").await.verdict(), "unknown_preview");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_one_agent_through_two_gateways_at_the_same_time_are_all_kept() {
    const EACH: i64 = 40;
    let Some(lab) = RedisLab::start(&[LOCAL, LOCAL]).await else { return };
    let id = id(101);
    let mut writers = Vec::new();
    for (offset, gateway) in (0..).zip(&lab.gateways) {
        for number in 0..EACH {
            let store = gateway.store();
            writers.push(tokio::spawn(async move {
                record(&store, id, offset * EACH + number, "100");
                store.share(&[id]).await.unwrap();
            }));
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    lab.all_well().await;
    for gateway in &lab.gateways {
        let known = gateway.store().previews(id).await.unwrap().unwrap();
        let mut control_ids: Vec<_> = known.iter().map(|preview| preview.control_id.0).collect();
        control_ids.sort_unstable();
        assert_eq!(control_ids, (0..2 * EACH).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn tls_and_an_acl_user_with_the_documented_rights_and_no_secret_in_sight() {
    let Some(server) = RedisServer::start(Kind::Protected) else { return };
    let lab = RedisLab::with(server, &[LOCAL, LOCAL]).await;
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    lab.shown(one, 101, 7, "100").await;
    assert_eq!(other.call(101, 7, "100").await.verdict(), "ok");
    lab.released(other, 101).await;
    assert_eq!(one.call(101, 7, "100").await.verdict(), "unknown_preview");
    for gateway in [one, other] {
        let failed = gateway.counted("write", "failed") + gateway.counted("read", "failed");
        assert!(failed.abs() < f64::EPSILON, "{}", gateway.logged());
        assert!(!gateway.logged().contains(SECRET), "{}", gateway.logged());
        assert!(!gateway.admin("/config").await.text().contains(SECRET));
    }
}

#[tokio::test]
async fn a_wrong_password_is_reported_without_showing_it() {
    let Some(server) = RedisServer::start(Kind::Protected) else { return };
    std::fs::write(server.directory.path().join("redis.password"), "hunter2\n").unwrap();
    let lab = RedisLab::unconnected(server, &[LOCAL]).await;
    let one = &lab.gateways[0];
    eventually("the refusal to be logged", || one.logged().contains("authentication failed")).await;
    assert!(!one.logged().contains("hunter2"), "{}", one.logged());
    lab.shown(one, 101, 7, "100").await;
    assert_eq!(one.call(101, 7, "100").await.verdict(), "ok");

    // The password file is read for every connection, so a correction needs no restart.
    std::fs::write(lab.redis.directory.path().join("redis.password"), SECRET).unwrap();
    eventually("what was late to be written", || one.is_well()).await;
    assert_eq!(one.call(101, 7, "100").await.verdict(), "ok");
    assert_eq!(one.admin("/previews/101").await.json()["previews"].as_array().map(Vec::len), Some(1));
    assert_ne!(one.admin("/previews/101").await.json()["store"], Value::Null);
}

const ENFORCE: &str = "[validation]\nsession = \"enforce\"";

/// The state of the session of `number` in Redis, as text.
fn stored(lab: &RedisLab, number: u32) -> String {
    let name = format!("previewgate:agent:{number}");
    redis::cmd("HGET").arg(name).arg("state").query(&mut lab.redis.client()).unwrap()
}

#[tokio::test]
async fn a_gateway_knows_the_sessions_that_others_have_seen_and_no_guid_is_in_redis() {
    let Some(lab) = RedisLab::start(&[ENFORCE, ENFORCE]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    let (agent, stranger) = (one.agent(101).await, one.agent(102).await);
    agent.shown(7, "100").await;
    let foreign = agent.callout(7, "100").without("Guid");
    assert_eq!(agent.through(other).call(7, "100").await.verdict(), "ok");
    for guid in ["invented.node", &stranger.guid] {
        assert_eq!(other.send(&foreign.clone().guid(guid)).await.verdict(), "foreign_session", "{guid}");
    }
    let state = stored(&lab, 101);
    assert!(state.contains("\"session\"") && !state.contains(&agent.guid), "{state}");

    // A new session, which the first gateway does not see.
    let again = Request::put(format!("{API}/onlineagent/101/forcelogin")).json(&json!({"phonenum": "1"}));
    let answer = other.send(&again).await.passed();
    let guid = answer.header("set-guid").strip_prefix("JSESSIONID=").unwrap();
    let new = foreign.clone().guid(guid);
    assert_eq!(one.send(&new).await.verdict(), "unknown_preview", "known to be the agent's own");
    assert_eq!(agent.call(7, "100").await.verdict(), "foreign_session", "the session before is over");
}

/// A stranger cannot end previews at a gateway that has not seen the agent's session itself.
#[tokio::test]
async fn an_unknown_outcome_at_another_gateway_ends_previews_by_the_own_guid_only() {
    let Some(lab) = RedisLab::start(&[LOCAL, LOCAL]).await else { return };
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    let agent = one.agent(101).await;
    agent.shown(7, "100").await;
    for (guid, verdict) in [("invented.node", "ok"), (agent.guid.as_str(), "unknown_preview")] {
        lab.clocks_tick().await;
        let broken = Misbehaviour::new(Fault::Break { at: Stage::BeforeRequest, how: Ending::Close });
        other.simulator.misbehave(broken.on("logout"));
        let sign_out = Request::new("DELETE", format!("{API}/onlineagent/101/logout")).guid(guid);
        assert_eq!(other.send(&sign_out).await.own().status, 502, "{guid}");
        assert_eq!(agent.call(7, "100").await.verdict(), verdict, "{guid}");
    }
}

#[tokio::test]
async fn a_configured_session_key_is_shared_by_configuration_and_not_in_redis() {
    let Some(server) = RedisServer::start(Kind::Plain) else { return };
    let key = server.directory.path().join("session.key");
    std::fs::write(&key, [7; 32]).unwrap();
    let settings = format!("previews.session_key = \"{}\"\n{ENFORCE}", key.display());
    let lab = RedisLab::with(server, &[&settings, &settings]).await;
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    let agent = one.agent(101).await;
    agent.shown(7, "100").await;
    assert_eq!(agent.through(other).call(7, "100").await.verdict(), "ok");
    let foreign = agent.callout(7, "100").without("Guid").guid("invented.node");
    assert_eq!(other.send(&foreign).await.verdict(), "foreign_session");
    assert_eq!(key_in_redis(&lab), None);
}

#[tokio::test]
async fn a_redis_that_lost_its_memory_gets_a_new_session_key() {
    let Some(mut lab) = RedisLab::start(&[ENFORCE]).await else { return };
    let first = key_in_redis(&lab);
    lab.redis.kill();
    eventually("the loss to be noticed", || !lab.gateways[0].is_well()).await;
    lab.redis.restart();
    lab.all_well().await;
    assert!(first.is_some() && key_in_redis(&lab).is_some_and(|second| Some(second) != first));
    let one = &lab.gateways[0];
    let agent = one.agent(101).await;
    agent.shown(7, "100").await;
    assert_eq!(agent.call(7, "100").await.verdict(), "ok");
}

fn key_in_redis(lab: &RedisLab) -> Option<Vec<u8>> {
    redis::cmd("HGET").arg("previewgate:session-key").arg("key").query(&mut lab.redis.client()).unwrap()
}

/// Gateways of the version before write records without a session, and lose the one that was there.
#[tokio::test]
async fn records_of_the_version_before_are_read() {
    let Some(lab) = RedisLab::start(&[ENFORCE]).await else { return };
    let one = &lab.gateways[0];
    let now = SystemClock::new().now().0;
    let state = format!(
        r#"{{"previews":[{{"id":7,"numbers":["100"],"at":{now},"times":[{now}]}}],"ended":null,"cancelled":[],"signed_in":null}}"#
    );
    let mut client = lab.redis.client();
    redis::cmd("HSET")
        .arg("previewgate:agent:101")
        .arg(&["seen", "1", "tag", "x", "state", &state])
        .exec(&mut client)
        .unwrap();
    assert_eq!(one.call(101, 7, "100").await.verdict(), "ok");
}
