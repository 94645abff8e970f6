//! The gateway is killed (`kill -9`) at the worst moments: what has ended stays ended, and what has not is still good.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::{API, Agent, Process, RUN, Request, Setup, Site, outcome};

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
