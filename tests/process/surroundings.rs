//! Faults of the environment: the log is not read, no file descriptor is left, a name cannot be resolved, clients are
//! silent.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::{API, RUN, Request, Setup, Wire, eventually_async, within};

const REFUSALS_DROPPED: &str = "previewgate_log_lines_dropped_by_class_total{class=\"refusal\"}";
const CALLS_DROPPED: &str = "previewgate_log_lines_dropped_by_class_total{class=\"call\"}";
const OPEN: &str = "previewgate_connections_open{side=\"downstream\"}";

fn x() -> Request {
    Request::get(format!("{API}/x"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_not_read_does_not_stop_the_gateway() {
    // A stop that waits for the log would take longer than the test.
    let site = Setup::plain().lenient().settings("shutdown.drain = \"1h\"\nlog.refusals_per_minute = 0").site().await;
    let mut gateway = site.run().await;
    let mut client = gateway.client();
    let agent = gateway.agent(101).await;
    agent.shown(7, "5550101").await;
    let full = Arc::new(AtomicBool::new(false));
    let mut chatter = JoinSet::new();
    for _ in 0..4 {
        let (full, mut client, request) = (Arc::clone(&full), gateway.client(), agent.callout(99, "1"));
        chatter.spawn(async move {
            while !full.load(Ordering::Relaxed) {
                client.send(&request).await;
            }
        });
    }
    gateway.scraped_until(REFUSALS_DROPPED, |dropped| dropped > 0.0).await;
    // The flood goes on while calls are made.
    for number in 0..20 {
        let callout = agent.callout(7, "5550101").id(&format!("call-{number}"));
        assert_eq!(client.send(&callout).await.passed().retcode(), "0");
    }
    full.store(true, Ordering::Relaxed);
    chatter.join_all().await;
    assert_eq!(client.send(&agent.callout(7, "5550199")).await.verdict(), "number_not_in_preview");
    assert_eq!(gateway.scraped(CALLS_DROPPED).await, 0.0);
    // Once the log is read, it has each call, although refusals are missing.
    for number in 0..20 {
        let line = gateway.says(&format!("\"request_id\":\"call-{number}\"")).await;
        assert!(line.contains("\"decision\":\"forwarded\""), "{line}");
    }
    agent.shown(8, "5550102").await;
    assert!(gateway.stop().await.success());
}

#[tokio::test]
async fn the_gateway_recovers_from_a_lack_of_file_descriptors() {
    let settings = "limits.first_byte_timeout = \"1h\"\nlimits.idle_timeout = \"1h\"";
    let site = Setup::plain().lenient().settings(settings).site().await;
    let mut gateway = site.run_with(site.shell(&format!("ulimit -n 64 && {RUN}"))).await;
    let agent = gateway.agent(101).await;
    agent.shown(7, "5550101").await;
    let mut kept = gateway.connect().await;
    assert_eq!(kept.send(&x()).await.passed().status, 200);

    let crowd: Vec<_> = (0..200).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    gateway.says("connection cannot be accepted").await;
    // A client that is connected is served, over the upstream connection that was kept.
    assert_eq!(kept.send(&agent.callout(7, "5550101")).await.passed().retcode(), "0");
    // The test observes the gateway for this time: a busy loop would use all of it.
    let before = gateway.processor_time();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = gateway.processor_time() - before;
    assert!(used < 30, "{used} of 100 ticks used while nothing could be done");

    drop(crowd);
    assert_eq!(agent.call(7, "5550101").await.passed().retcode(), "0");
}

#[tokio::test]
async fn without_file_descriptors_no_endpoint_is_at_fault() {
    let settings = "limits.first_byte_timeout = \"1h\"\nlimits.idle_timeout = \"1h\"\nupstream.probe.interval = \"1s\"";
    let site = Setup::plain().lenient().settings(settings).site().await;
    let mut gateway = site.run_with(site.shell(&format!("ulimit -n 64 && {RUN}"))).await;
    let agent = gateway.agent(101).await;
    let (mut polling, mut calling) = (gateway.connect().await, gateway.connect().await);
    calling.send(&x()).await.passed();
    // The poll takes the only connection to the upstream that is kept.
    polling.write(&agent.poll_request().bytes()).await;
    site.handle.wait_for_held_polls(1).await;
    let mut operator = Wire::plain(gateway.admin_address).await.unwrap();
    operator.send(&Request::admin("GET", "/livez")).await;

    let crowd: Vec<_> = (0..200).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    gateway.says("connection cannot be accepted").await;
    for _ in 0..5 {
        let own = calling.send(&x()).await.own();
        assert_eq!((own.status, own.reason.as_str(), own.retcode.as_str()), (503, "overloaded", "100-007"));
    }
    let line = gateway.says("this machine has no descriptor").await;
    assert!(line.contains("local_resources"), "{line}");
    let shown = operator.send(&Request::admin("GET", "/upstreams")).await.json();
    assert_eq!(shown["upstreams"][0]["state"], "in_use", "{shown}");
    let page = operator.send(&Request::admin("GET", "/metrics")).await.text();
    let endpoint = format!("endpoint=\"http://{}\"", site.upstream_address());
    assert!(page.contains(&format!("previewgate_upstream_failures_total{{{endpoint},kind=\"local_resources\"}} 5")));
    assert!(page.contains(&format!("previewgate_upstream_healthy{{{endpoint}}} 1")));

    drop(crowd);
    eventually_async("a request to pass", async || gateway.send(&x()).await.status == 200).await;
}

#[tokio::test]
async fn an_endpoint_whose_name_does_not_resolve_is_skipped() {
    let nowhere = "http://cc-gateway.invalid:8000";
    let timeout = "upstream.connect_timeout = \"500ms\"";
    let settings = format!("upstream.endpoints = [\"{nowhere}\"]\n{timeout}");
    let site = Setup::plain().lenient().settings(&settings).site().await;
    let mut gateway = site.run().await;
    let own = gateway.send(&x()).await.own();
    assert_eq!((own.status, own.reason.as_str()), (502, "upstream_failure"));

    site.configure(&format!("upstream.endpoints = [\"{nowhere}\", \"http://{{upstream}}\"]\n{timeout}"));
    gateway.signal("HUP");
    eventually_async("the reload", async || gateway.send(&x()).await.status == 200).await;
    // The gateway does not wait for the resolver.
    assert!(gateway.stop().await.success());
}

#[tokio::test]
async fn five_hundred_silent_clients_do_not_disturb_others() {
    let site = Setup::plain().lenient().settings("limits.connections = 520").site().await;
    let gateway = site.run().await;
    let agent = gateway.agent(101).await;
    let mut client = gateway.client();
    assert_eq!(client.send(&x()).await.passed().status, 200);
    let mut silent: Vec<_> = (0..500).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    // Half of them send a part of a head and then nothing.
    for socket in silent.iter_mut().skip(250) {
        std::io::Write::write_all(socket, b"GET /agentgateway/x HTTP/1.1\r\nHo").unwrap();
    }
    gateway.scraped_until(OPEN, |open| open >= 501.0).await;
    for control_id in 1..20 {
        agent.shown(control_id, "5550101").await;
        assert_eq!(agent.call(control_id, "5550101").await.passed().retcode(), "0");
    }
    // Above the limit connections are closed at once, and those that were there stay.
    let more: Vec<_> = (0..50).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    gateway.scraped_until("previewgate_requests_shed_total{kind=\"connection\"}", |shed| shed > 0.0).await;
    assert_eq!(client.send(&agent.callout(19, "5550101")).await.passed().retcode(), "0");
    drop((more, silent));
    gateway.scraped_until(OPEN, |open| open <= 1.0).await;
}

#[tokio::test]
async fn the_soft_limit_of_descriptors_is_raised_and_a_limit_that_is_too_low_is_reported() {
    let site = Setup::plain().settings("limits.connections = 1000").site().await;
    let mut gateway = site.run_with(site.shell(&format!("ulimit -Sn 128; ulimit -Hn 3000; {RUN}"))).await;
    assert_eq!(gateway.scraped("process_max_fds").await, 3000.0);
    let open = gateway.scraped("process_open_fds").await;
    assert!((5.0..128.0).contains(&open), "{open}");
    assert!(gateway.stop().await.success());

    let mut command = site.shell(&format!("ulimit -n 1500; {RUN}"));
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut log = String::new();
    let mut output = child.stdout.take().unwrap();
    let reading = async {
        while !log.contains("limits.connections cannot be met") {
            let mut piece = [0; 4096];
            let count = tokio::io::AsyncReadExt::read(&mut output, &mut piece).await.unwrap();
            assert!(count > 0, "{log}");
            log.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
    };
    within("the warning", reading).await;
    assert!(log.contains("\"limit\":1500,\"needed\":2128"), "{log}");
}
