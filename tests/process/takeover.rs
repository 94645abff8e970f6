//! `run --takeover`: a new process takes over from the one that runs, and no client notices.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

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
    for (setup, requests) in [(Setup::plain(), 600), (Setup::encrypted(), 100)] {
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
        old.says("failed: serving on").await;
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
