//! The gateway is killed (`kill -9`) at the worst moments: what has ended stays ended, and what has not is still good.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};
use serde_json::json;

use crate::support::{API, Agent, Process, RUN, Request, Setup, Site, eventually, outcome};

const SNAPSHOT: &str = "previews.snapshot";

/// A gateway that saves at its end only, unless `interval` is shorter than the test.
async fn site(interval: &str) -> Site {
    let settings = format!("previews.snapshot = \"{SNAPSHOT}\"\npreviews.snapshot_interval = \"{interval}\"");
    Setup::plain().lenient().settings(&settings).site().await
}

async fn kill(mut gateway: Process) {
    gateway.signal("KILL");
    gateway.ended().await;
}

/// A gateway whose snapshot shows 101 and 102 a preview each, restarted after it was saved.
async fn restarted_with_previews(site: &Site) -> (Process, Agent, Agent) {
    let mut first = site.run().await;
    let (one, other) = (first.agent(101).await, first.agent(102).await);
    one.shown(7, "5550101").await;
    other.shown(8, "5550102").await;
    assert!(first.stop().await.success());
    let second = site.run().await;
    let (one, other) = (one.through(&second), other.through(&second));
    assert_eq!(one.call(7, "5550101").await.retcode(), "0");
    (second, one, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_end_is_lost_when_the_gateway_is_killed_after_the_answer() {
    for end in ["release", "cancel", "sign-out", "sign-in"] {
        let site = site("1h").await;
        let (gateway, one, other) = restarted_with_previews(&site).await;
        let session = format!("{API}/onlineagent/101");
        match end {
            "release" => one.released().await,
            "cancel" => {
                let path = format!("{API}/voicecall/101/cancelPreviewCallout");
                let request = Request::put(path).guid(&one.guid).json(&json!({"callcontrolid": 7}));
                assert_eq!(gateway.send(&request).await.retcode(), "0");
            }
            "sign-out" => {
                let request = Request::new("DELETE", format!("{session}/logout")).guid(&one.guid);
                assert_eq!(gateway.send(&request).await.retcode(), "0");
            }
            _ => {
                let request = Request::put(format!("{session}/forcelogin")).json(&json!({"phonenum": "40038"}));
                assert_eq!(gateway.send(&request).await.retcode(), "0");
            }
        }
        kill(gateway).await;
        let third = site.run().await;
        let refused = one.through(&third).call(7, "5550101").await;
        assert!(!refused.reason().is_empty(), "{end}: {refused:?}");
        assert_eq!(other.through(&third).call(8, "5550102").await.retcode(), "0", "{end}");
        // The start has saved what it restored: another crash changes nothing.
        kill(third).await;
        let fourth = site.run().await;
        assert!(!one.through(&fourth).call(7, "5550101").await.reason().is_empty(), "{end}");
        assert_eq!(other.through(&fourth).call(8, "5550102").await.retcode(), "0", "{end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_breaks_off_in_the_middle_of_a_line_revives_nothing() {
    let site = site("1h").await;
    let (gateway, one, other) = restarted_with_previews(&site).await;
    one.released().await;
    kill(gateway).await;
    let journal = fs::read_dir(site.path(".")).unwrap().map(|entry| entry.unwrap().path());
    let journal = journal.into_iter().find(|path| path.to_str().unwrap().contains(".journal.")).unwrap();
    let content = fs::read(&journal).unwrap();
    fs::write(&journal, &content[..content.len() - 5]).unwrap();
    let gateway = site.run().await;
    assert_eq!(one.through(&gateway).call(7, "5550101").await.reason(), "unknown_preview");
    assert_eq!(other.through(&gateway).call(8, "5550102").await.retcode(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_while_snapshots_are_saved_one_after_the_other_are_not_lost() {
    let site = site("100ms").await;
    let mut gateway = site.run().await;
    let mut signed_in = Vec::new();
    for number in 101..111 {
        signed_in.push(gateway.agent(number).await);
    }
    for round in 0..8 {
        let agents: Vec<_> = signed_in.iter().map(|agent| agent.through(&gateway)).collect();
        for agent in &agents {
            agent.shown(round, "5550101").await;
        }
        let saved = "previewgate_snapshot_last_success_timestamp_seconds";
        gateway.scraped_until(saved, |saved| saved > 0.0).await;
        for agent in &agents[..5] {
            agent.released().await;
        }
        kill(gateway).await;
        gateway = site.run().await;
        for agent in &agents[..5] {
            let answer = agent.through(&gateway).call(round, "5550101").await;
            assert!(!answer.reason().is_empty(), "round {round}, agent {}: {answer:?}", agent.number);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_gateway_on_one_snapshot_does_not_start() {
    let site = site("1h").await;
    let mut first = site.run().await;
    let own_ports = fs::read_to_string(site.config_file()).unwrap();
    let lines = own_ports.lines().map(|line| match line.split_once(" = \"127.0.0.1:") {
        Some((key @ ("listener.address" | "admin.address"), _)) => format!("{key} = \"127.0.0.1:0\"\n"),
        _ => format!("{line}\n"),
    });
    let other = site.write("other.toml", lines.collect::<String>());
    let mut command = site.shell(RUN);
    command.env("CONFIG", other);
    let (status, complaint) = outcome(command).await;
    assert!(!status.success() && complaint.contains("another gateway uses this snapshot"), "{complaint}");
    assert!(first.stop().await.success());
    assert!(site.run().await.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_others_can_write_is_not_used() {
    let site = site("1h").await;
    assert!(site.run().await.stop().await.success());
    fs::set_permissions(site.path(SNAPSHOT), fs::Permissions::from_mode(0o666)).unwrap();
    let (status, complaint) = outcome(site.shell(RUN)).await;
    assert!(!status.success() && complaint.contains("can be written by other users (mode 666)"), "{complaint}");
}

/// Ownership of GUIDs outlives both an orderly end and a crash, and no GUID is in any file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_of_a_guid_is_known_after_a_restart() {
    let settings = format!(
        "previews.snapshot = \"{SNAPSHOT}\"\npreviews.snapshot_interval = \"1h\"\nvalidation.session = \"enforce\""
    );
    let site = Setup::plain().lenient().settings(&settings).site().await;
    let mut gateway = site.run().await;
    let (one, stranger) = (gateway.agent(101).await, gateway.agent(102).await);
    one.shown(7, "5550101").await;
    for crash in [false, true, true] {
        if crash {
            kill(gateway).await;
        } else {
            assert!(gateway.stop().await.success());
        }
        assert_no_file_contains(&site, &[&one.guid, &stranger.guid]);
        gateway = site.run().await;
        let own = one.through(&gateway);
        for guid in [stranger.guid.as_str(), "invented.node"] {
            let foreign = own.callout(7, "5550101").without("Guid").guid(guid);
            assert_eq!(gateway.send(&foreign).await.reason(), "foreign_session", "{guid}");
        }
        assert_eq!(own.call(7, "5550101").await.retcode(), "0", "crash: {crash}");
    }
    // A session that began after the last snapshot.
    let request = Request::put(format!("{API}/onlineagent/101/forcelogin")).json(&json!({"phonenum": "40038"}));
    let answer = gateway.send(&request).await;
    let guid = answer.header("set-guid").trim_start_matches("JSESSIONID=").to_owned();
    kill(gateway).await;
    let gateway = site.run().await;
    let mut own = one.through(&gateway);
    own.guid = guid;
    assert_eq!(one.through(&gateway).call(7, "5550101").await.reason(), "foreign_session");
    assert_eq!(own.call(7, "5550101").await.reason(), "unknown_preview");
    own.shown(8, "5550102").await;
    assert_eq!(own.call(8, "5550102").await.retcode(), "0");
}

fn assert_no_file_contains(site: &Site, secrets: &[&str]) {
    for entry in fs::read_dir(site.path(".")).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        let content = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
        for secret in secrets {
            assert!(!content.contains(secret), "{:?}", entry.path());
        }
    }
}

/// Without the key, or with another one, nothing is known of any session; the previews are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_whose_key_is_lost_has_no_sessions() {
    let settings = format!("previews.snapshot = \"{SNAPSHOT}\"\nvalidation.session = \"enforce\"");
    let site = Setup::plain().lenient().settings(&settings).site().await;
    let mut gateway = site.run().await;
    let one = gateway.agent(101).await;
    one.shown(7, "5550101").await;
    assert!(gateway.stop().await.success());
    let key = site.path(&format!("{SNAPSHOT}.key"));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&key, [1; 32]).unwrap();
    let gateway = site.run().await;
    let any = one.through(&gateway).callout(7, "5550101").without("Guid").guid("invented.node");
    assert_eq!(gateway.send(&any).await.retcode(), "0");
}

/// The gateway is killed while many agents are shown previews and lose them. What has ended, as the client was answered,
/// is refused afterwards, and what was shown before the last snapshot and has not ended is callable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_revives_when_the_gateway_is_killed_under_load() {
    const AGENTS: u32 = 8;
    let site = site("100ms").await;
    let (mut gateway, steady, _) = restarted_with_previews(&site).await;
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        agents.push(gateway.agent(201 + number).await);
    }
    let mut checked = 0;
    for seed in 0..5_u64 {
        let work: Vec<_> =
            agents.iter().map(|agent| tokio::spawn(show_and_end(agent.through(&gateway), seed))).collect();
        let killed_after = 5 + seed * 17;
        let all = "previewgate_preview_events_total{event_type=\"AgentEvent_Preview_CallOut\",delivery=\"poll\"}";
        gateway.scraped_until(all, |shown| shown >= killed_after as f64).await;
        kill(gateway).await;
        gateway = site.run().await;
        assert_eq!(steady.through(&gateway).call(7, "5550101").await.retcode(), "0", "seed {seed}");
        for (agent, work) in agents.iter().zip(work) {
            for (control_id, number) in work.await.unwrap() {
                let answer = agent.through(&gateway).call(control_id, &number).await;
                assert!(!answer.reason().is_empty(), "seed {seed}, agent {}, {control_id}: {answer:?}", agent.number);
                checked += 1;
            }
        }
    }
    assert!(checked > AGENTS, "{checked}");
}

/// Shows previews and ends them in an order that the seed decides, until the gateway is gone. Returns the previews whose end
/// was answered.
async fn show_and_end(agent: Agent, seed: u64) -> Vec<(i64, String)> {
    let mut ended = Vec::new();
    let mut random = seed * 1000 + u64::from(agent.number);
    let mut shown: Vec<(i64, String)> = Vec::new();
    for round in 0.. {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (control_id, number) = (i64::try_from(seed * 100_000 + round).unwrap(), format!("555{round:04}"));
        if agent.try_shown(control_id, &number).await.is_none() {
            return ended;
        }
        shown.push((control_id, number));
        let path = format!("{API}/voicecall/{}/cancelPreviewCallout", agent.number);
        let cancel = Request::put(path).guid(&agent.guid).json(&json!({"callcontrolid": control_id}));
        match (random >> 33) % 3 {
            0 => {}
            1 => match agent.try_send(&cancel).await {
                Some(answer) if answer.retcode() == "0" => ended.extend(shown.pop()),
                Some(_) => {}
                None => return ended,
            },
            _ => match agent.try_released().await {
                Some(()) => ended.append(&mut shown),
                None => return ended,
            },
        }
    }
    ended
}

/// `previews.calls_per_number`: a crash gives no call back, whether the snapshot knows it or only the journal does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_given_back_when_the_gateway_is_killed() {
    for interval in ["1h", "100ms"] {
        let settings = format!(
            "previews.snapshot = \"{SNAPSHOT}\"\npreviews.snapshot_interval = \"{interval}\"\npreviews.calls_per_number = 2"
        );
        let site = Setup::plain().lenient().settings(&settings).site().await;
        let (gateway, one, other) = restarted_with_previews(&site).await;
        // The upstream has it and does not answer; the gateway is killed.
        let stall = Fault::Break { at: Stage::AfterRequest, how: Ending::Stall };
        site.handle.misbehave(Misbehaviour::new(stall).on("previewCallout"));
        let before = site.handle.callouts().len();
        let mut calling = gateway.connect().await;
        calling.write(&one.callout(7, "5550101").bytes()).await;
        eventually("the callout to arrive", || site.handle.callouts().len() > before).await;
        kill(gateway).await;
        for _ in 0..2 {
            let gateway = site.run().await;
            assert_eq!(one.through(&gateway).call(7, "5550101").await.reason(), "number_used", "{interval}");
            kill(gateway).await;
        }
        let gateway = site.run().await;
        let other = other.through(&gateway);
        for verdict in ["ok", "ok", "number_used"] {
            assert_eq!(other.call(8, "5550102").await.verdict(), verdict, "{interval}");
        }
    }
}
