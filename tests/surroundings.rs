//! Surroundings that fail: nobody reads the log, no file descriptor is left, a name cannot be resolved, clients are
//! silent. The gateway is a process of its own, as it would be there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking, in its helpers too"
)]

mod process;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use previewgate::preview::ControlId;
use process::{Client, Outside, PATIENCE, Platform, RUN, Site, eventually, metric, shell};

const DROPPED: &str = "previewgate_log_lines_dropped_total";

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&[format!("http://{}", platform.address)], "log.access = \"all\"");
    let mut gateway = Outside::start(shell(RUN, &site));
    let mut client = Client::connect(gateway.address);
    let agent = client.sign_in(101);
    platform.show(&mut client, &agent, 7, "5550101");
    let full = Arc::new(AtomicBool::new(false));
    let chatter: Vec<_> = (0..4)
        .map(|_| {
            let (full, agent, address) = (Arc::clone(&full), agent.clone(), gateway.address);
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                while !full.load(Ordering::Relaxed) {
                    client.call(&agent, 99, "1");
                }
            })
        })
        .collect();
    eventually("lines to be dropped", || metric(gateway.admin, DROPPED) > 0.0);
    full.store(true, Ordering::Relaxed);
    chatter.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(client.call(&agent, 7, "5550101").retcode(), "0");
    assert_eq!(client.call(&agent, 7, "5550199").reason(), "number_not_in_preview");
    platform.show(&mut client, &agent, 8, "5550102");
    let begun = Instant::now();
    assert!(gateway.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Processor time that a process has used, in hundredths of a second.
fn processor_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn without_file_descriptors_it_waits_and_recovers() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&[format!("http://{}", platform.address)], "limits.first_byte_timeout = \"1h\"");
    let gateway = Outside::start(shell(&format!("ulimit -n 64 && {RUN}"), &site));
    let mut kept = Client::connect(gateway.address);
    let agent = kept.sign_in(101);
    platform.show(&mut kept, &agent, 7, "5550101");

    let crowd: Vec<_> = (0..200).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    gateway.says("connection cannot be accepted");
    // Who is connected is served, over the upstream connection that was kept.
    assert_eq!(kept.call(&agent, 7, "5550101").retcode(), "0");
    // Not a wait for something, but the time during which it is observed: a busy loop would use all of it.
    let (before, second) = (processor_time(gateway.child.id()), Duration::from_secs(1));
    std::thread::sleep(second);
    let used = processor_time(gateway.child.id()) - before;
    assert!(used < 30, "{used} of 100 ticks used while nothing could be done");

    drop(crowd);
    assert_eq!(Client::connect(gateway.address).call(&agent, 7, "5550101").retcode(), "0");
}

#[test]
fn a_name_that_does_not_resolve_is_no_dead_end() {
    let (platform, site) = (Platform::start(), Site::new());
    let nowhere = "http://cc-gateway.invalid:8000".to_owned();
    site.configure(std::slice::from_ref(&nowhere), "upstream.connect_timeout = \"500ms\"");
    let mut gateway = Outside::start(shell(RUN, &site));
    let mut client = Client::connect(gateway.address);
    let begun = Instant::now();
    let answer = client.get("/agentgateway/x");
    assert_eq!((answer.status, answer.reason()), (502, "upstream_failure"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let second = format!("http://{}", platform.address);
    site.configure(&[nowhere, second], "upstream.connect_timeout = \"500ms\"");
    gateway.signal("HUP");
    eventually("the reload", || client.get("/agentgateway/x").status == 200);
    let begun = Instant::now();
    assert!(gateway.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(5), "the resolver is not waited for: {:?}", begun.elapsed());
}

#[test]
fn five_hundred_silent_clients_are_in_nobodys_way() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&[format!("http://{}", platform.address)], "limits.connections = 520");
    let gateway = Outside::start(shell(RUN, &site));
    let mut client = Client::connect(gateway.address);
    let agent = client.sign_in(101);
    let mut silent: Vec<_> = (0..500).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    // Half of them say a little and then nothing.
    for socket in silent.iter_mut().skip(250) {
        std::io::Write::write_all(socket, b"GET /agentgateway/x HTTP/1.1\r\nHo").unwrap();
    }
    eventually("all to be connected", || {
        metric(gateway.admin, "previewgate_connections_open{side=\"downstream\"}") >= 501.0
    });
    for control_id in 1..20 {
        platform.handle.preview(process::id(101), ControlId(control_id), "5550101");
        client.poll(&agent);
        let begun = Instant::now();
        assert_eq!(Client::connect(gateway.address).call(&agent, control_id, "5550101").retcode(), "0");
        assert!(begun.elapsed() < PATIENCE / 3);
    }
    // Above the limit connections are closed at once, and those that were there stay.
    let more: Vec<_> = (0..50).map(|_| TcpStream::connect(gateway.address).unwrap()).collect();
    eventually("connections to be shed", || {
        metric(gateway.admin, "previewgate_requests_shed_total{kind=\"connection\"}") > 0.0
    });
    assert_eq!(client.call(&agent, 19, "5550101").retcode(), "0");
    drop((more, silent));
    eventually("all to be gone", || metric(gateway.admin, "previewgate_connections_open{side=\"downstream\"}") <= 1.0);
}
