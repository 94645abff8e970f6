//! `run --takeover`: a new process takes over from the one that runs, and no client notices.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use previewgate::preview::ControlId;
use previewgate::simulator::{Fault, Misbehaviour};

use crate::hammer::Hammer;
use crate::support::{API, Process, RUN, Request, Setup, Site, eventually_async, id, outcome, within};

const TAKE_OVER: &str = "exec \"$PREVIEWGATE\" run --takeover --config \"$CONFIG\"";

/// Starts a process that takes over, and waits until it serves.
async fn take_over(site: &Site) -> Process {
    site.run_with(site.shell(TAKE_OVER)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takeovers_refuse_no_client() {
    tokio::join!(five_takeovers(Setup::plain(), 600), five_takeovers(Setup::encrypted(), 100));
}

async fn five_takeovers(setup: Setup, requests: u64) {
    let site = setup.settings("runtime.workers = 2\nshutdown.drain = \"10s\"").site().await;
    let mut gateway = site.run().await;
    let hammer = Hammer::start(&gateway, 4);
    for _ in 0..5 {
        hammer.wait_for(requests).await;
        let next = take_over(&site).await;
        assert_eq!((next.address, next.admin_address), (gateway.address, gateway.admin_address));
        assert!(gateway.ended().await.success());
        gateway = next;
    }
    hammer.wait_for(requests).await;
    hammer.stop().await;
    assert!(gateway.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_and_callouts_in_progress_are_answered_and_their_previews_are_handed_on() {
    let site = Setup::encrypted().lenient().settings("shutdown.drain = \"1h\"").site().await;
    let mut old = site.run().await;
    let (first, second) = (old.agent(101).await, old.agent(102).await);
    first.shown(7, "5550101").await;
    let mut held = old.connect().await;
    held.write(&second.poll_request().bytes()).await;
    within("the poll to be held", site.handle.wait_for_held_polls(1)).await;
    site.handle.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 1500 }).on("previewCallout"));
    let calls = site.handle.requests() + 1;
    let mut calling = old.connect().await;
    calling.write(&first.callout(7, "5550101").bytes()).await;
    within("the callout to arrive", site.handle.wait_for_requests(calls)).await;

    let new = take_over(&site).await;
    // What was shown before.
    assert_eq!(first.through(&new).call(7, "5550101").await.verdict(), "ok");
    assert_eq!(first.through(&new).call(7, "5550199").await.verdict(), "number_not_in_preview");
    assert_eq!(second.through(&new).call(8, "5550102").await.verdict(), "unknown_preview");
    // What the old process still shows: its client may ask the new one at once.
    site.handle.preview(id(102), ControlId(8), "5550102");
    let event = held.answer().await.passed();
    assert_eq!(
        (event.json()["event"]["content"]["controlid"].as_i64(), event.header("connection")),
        (Some(8), "close")
    );
    assert_eq!(second.through(&new).call(8, "5550102").await.verdict(), "ok");
    assert_eq!(calling.answer().await.passed().retcode(), "0");
    assert!(old.ended().await.success());
    assert_eq!(second.through(&new).call(8, "5550102").await.verdict(), "ok");
}

#[tokio::test]
async fn the_new_process_has_the_new_configuration() {
    let site = Setup::plain().lenient().settings("runtime.workers = 3").site().await;
    let mut old = site.run().await;
    let agent = old.agent(101).await;
    for settings in ["runtime.workers = 1\nvalidation.mode = \"monitor\"", "runtime.workers = 4"] {
        site.configure(settings);
        let new = take_over(&site).await;
        assert!(old.ended().await.success());
        let verdict = if settings.contains("monitor") { "ok" } else { "unknown_preview" };
        for _ in 0..20 {
            assert_eq!(agent.through(&new).call(1, "1").await.verdict(), verdict, "{settings}");
        }
        old = new;
    }
}

#[tokio::test]
async fn a_new_process_that_fails_leaves_the_old_one_serving() {
    let site = Setup::encrypted().lenient().site().await;
    let mut old = site.run().await;
    let agent = old.agent(101).await;
    agent.shown(7, "5550101").await;

    site.configure("validation.mode = \"maybe\"");
    let (status, complaint) = outcome(site.shell(TAKE_OVER)).await;
    assert!(status.code() == Some(78) && complaint.contains("validation.mode"), "{complaint}");
    // Processes that end before they have taken over.
    let name = format!("previewgate-takeover {}", old.address);
    for words in ["", "nonsense\n", "previewgate takeover 1\n", "previewgate takeover 1\nready\n"] {
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let mut stream = UnixStream::connect_addr(&address).unwrap();
        stream.write_all(words.as_bytes()).unwrap();
        if words.starts_with("previewgate") {
            stream.read_exact(&mut [0]).unwrap();
        }
        drop(stream);
        old.says("failed: this process continues to serve").await;
        assert_eq!(agent.call(7, "5550101").await.verdict(), "ok", "{words}");
    }

    site.configure("");
    let new = take_over(&site).await;
    assert!(old.ended().await.success());
    assert_eq!(agent.through(&new).call(7, "5550101").await.verdict(), "ok");
}

#[tokio::test]
async fn without_a_gateway_it_starts_as_usual() {
    let site = Setup::plain().lenient().site().await;
    let mut gateway = take_over(&site).await;
    assert_eq!(gateway.send(&Request::get(format!("{API}/x"))).await.passed().status, 200);
    assert!(gateway.stop().await.success());
    // Without the option, a second gateway does not start.
    let _gateway = site.run().await;
    let (status, complaint) = outcome(site.shell(RUN)).await;
    assert!(status.code() == Some(1) && complaint.contains("listener.address"), "{complaint}");
}

#[tokio::test]
async fn the_snapshot_goes_to_the_new_process() {
    let settings = "previews.snapshot = \"previews\"\nshutdown.drain = \"1h\"";
    let site = Setup::plain().lenient().settings(settings).site().await;
    let mut old = site.run().await;
    let agent = old.agent(101).await;
    agent.shown(7, "5550101").await;
    for control_id in 8..11 {
        let mut held = old.connect().await;
        held.write(&agent.poll_request().bytes()).await;
        within("the poll to be held", site.handle.wait_for_held_polls(1)).await;
        let new = take_over(&site).await;
        site.handle.preview(id(101), ControlId(control_id), "5550101");
        assert_eq!(held.answer().await.passed().retcode(), "0");
        assert!(old.ended().await.success());
        // The file belongs to the new process now, which saves.
        let saved = "previewgate_snapshot_last_success_timestamp_seconds";
        eventually_async("a snapshot", async || new.scraped(saved).await > 0.0).await;
        assert_eq!(new.scraped("previewgate_snapshot_failures_total").await, 0.0);
        old = new;
    }
    assert!(old.stop().await.success());
    let restarted = site.run().await;
    for control_id in 7..11 {
        let verdict = agent.through(&restarted).call(control_id, "5550101").await.verdict();
        assert_eq!(verdict, "ok", "{control_id}");
    }
}

/// Both processes serve for a moment, and together they forward as many callouts as one would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_count_of_calls_is_one_for_both_processes() {
    let settings = "shutdown.drain = \"1h\"\npreviews.calls_per_number = 2";
    let site = Setup::plain().lenient().settings(settings).site().await;
    let mut old = site.run().await;
    let (agent, keeping) = (old.agent(101).await, old.agent(102).await);
    agent.shown(7, "100,200,300").await;
    assert_eq!(agent.call(7, "100").await.verdict(), "ok");
    // A held poll keeps the old process from ending, and connections that are open already lead to it.
    let mut held = old.connect().await;
    held.write(&keeping.poll_request().bytes()).await;
    within("the poll to be held", site.handle.wait_for_held_polls(1)).await;
    let mut begun = Vec::new();
    for number in ["100", "200", "200", "200", "200"] {
        let mut connection = old.connect().await;
        // The head arrives before the takeover, the body after it.
        let request = agent.callout(7, number).bytes();
        connection.write(&request[..request.len() - 1]).await;
        begun.push((connection, request));
    }
    let served = site.handle.requests();
    let new = take_over(&site).await;
    assert_eq!(site.handle.requests(), served);
    let through_new = agent.through(&new);
    assert_eq!(through_new.call(7, "100").await.verdict(), "ok");
    assert_eq!(through_new.call(7, "100").await.verdict(), "number_used");
    let finished = begun.iter_mut().map(|(connection, request)| async {
        connection.write(&request[request.len() - 1..]).await;
        connection.answer().await.verdict()
    });
    let again = (0..4).map(|_| async { through_new.call(7, "200").await.verdict() });
    let (by_old, by_new) = tokio::join!(join_all(finished), join_all(again));
    assert_eq!(by_old[0], "number_used");
    let of_200: Vec<_> = by_old[1..].iter().chain(&by_new).collect();
    assert_eq!(of_200.iter().filter(|verdict| **verdict == "ok").count(), 2, "{of_200:?}");
    assert!(of_200.iter().all(|verdict| ["ok", "number_used"].contains(&verdict.as_str())), "{of_200:?}");
    site.handle.preview(id(102), ControlId(9), "1");
    held.answer().await.passed();
    assert!(old.ended().await.success());
    for (number, verdict) in [("200", "number_used"), ("300", "ok")] {
        assert_eq!(through_new.call(7, number).await.verdict(), verdict, "{number}");
    }
}

/// Asks the gateway behind the Unix socket for its configuration hash: one for each configuration.
fn hash_at(socket: &std::path::Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let line = answer.lines().find(|line| line.starts_with("previewgate_config_info{")).expect("an answer");
    Ok(line.to_owned())
}

/// The Unix socket for operators leads to the process that serves, at every moment, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unix_socket_of_the_operators_follows_the_takeover() {
    let settings = |level: &str| format!("admin.socket = \"a.sock\"\nlog.refusals_per_minute = {level}");
    let site = Setup::plain().lenient().settings(&settings("1")).site().await;
    let socket = site.path("a.sock");
    let mut old = site.run().await;
    let (first, over) = (hash_at(&socket).unwrap(), Arc::new(AtomicBool::new(false)));
    // A process that fails, at once or after it has the state, leaves the socket to the old one.
    site.configure("admin.socket = \"a.sock\"\nvalidation.mode = \"maybe\"");
    assert_eq!(outcome(site.shell(TAKE_OVER)).await.0.code(), Some(78));
    site.configure("admin.socket = \"a.sock\"\nadmin.address = \"192.0.2.1:1\"");
    assert_eq!(outcome(site.shell(TAKE_OVER)).await.0.code(), Some(1));
    let name = format!("previewgate-takeover {}", old.address);
    let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    stream.write_all(b"previewgate takeover 1\nready\n").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    drop(stream);
    assert_eq!(hash_at(&socket).unwrap(), first);
    // Two takeovers one after the other. The old process's end does not remove the file of the new one.
    let clients = std::thread::spawn({
        let (socket, over) = (socket.clone(), Arc::clone(&over));
        move || {
            while !over.load(Ordering::Relaxed) {
                UnixStream::connect(&socket).expect("a process listens");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    for level in ["2", "3"] {
        site.configure(&settings(level));
        let before = hash_at(&socket).unwrap();
        let new = take_over(&site).await;
        eventually_async("the socket to lead to the new process", async || hash_at(&socket).unwrap() != before).await;
        assert!(old.ended().await.success());
        assert_ne!(hash_at(&socket).unwrap(), before);
        old = new;
    }
    over.store(true, Ordering::Relaxed);
    clients.join().unwrap();
    assert!(old.stop().await.success());
    let sockets = std::fs::read_dir(site.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = sockets.filter(|name| name.to_string_lossy().starts_with("a.soc")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Without a snapshot the key of the hashes is random, and goes to the new process with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_process_knows_whose_each_guid_is() {
    for settings in ["", "previews.snapshot = \"previews\"\n"] {
        let site =
            Setup::plain().lenient().settings(&format!("{settings}validation.session = \"enforce\"")).site().await;
        let mut old = site.run().await;
        let (agent, stranger) = (old.agent(101).await, old.agent(102).await);
        agent.shown(7, "5550101").await;
        let mut foreign = agent.clone();
        foreign.guid.clone_from(&stranger.guid);
        for _ in 0..2 {
            let new = take_over(&site).await;
            assert!(old.ended().await.success());
            assert_eq!(agent.through(&new).call(7, "5550101").await.verdict(), "ok");
            assert_eq!(foreign.through(&new).call(7, "5550101").await.verdict(), "foreign_session", "{settings}");
            old = new;
        }
    }
}
