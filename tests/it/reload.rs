//! A new configuration or new certificates, while connections, held polls and previews go on.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use previewgate::preview::ControlId;
use previewgate::simulator::{Authority, SelfSigned, Simulator, SimulatorConfig};
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};

use crate::support::{API, Agent, Lab, Request, Setup, Site, Wire, id, leaf, trusting, trusting_by, within};

const SUCCESSFUL: &str = "previewgate_config_last_reload_successful";
const ENFORCING: &str = "previewgate_validation_mode{mode=\"enforce\"}";
const MONITORING: &str = "previewgate_validation_mode{mode=\"monitor\"}";

fn x() -> Request {
    Request::get(format!("{API}/x"))
}

/// Starts the agent's poll on this connection, and waits until the simulator holds it.
async fn hold(lab: &Lab, mut wire: Wire, agent: &Agent) -> Wire {
    let before = lab.simulator.held_polls();
    wire.write(&agent.poll_request().bytes()).await;
    within("the poll to be held", lab.simulator.wait_for_held_polls(before + 1)).await;
    wire
}

#[tokio::test]
async fn the_mode_changes_and_nothing_is_lost() {
    let lab = Setup::plain().lenient().start().await;
    let mut wire = lab.connect().await;
    let (agent, other) = (lab.agent(101).await, lab.agent(102).await);
    agent.shown(7, "5550101").await;
    assert_eq!(wire.send(&agent.callout(7, "5550199")).await.verdict(), "number_not_in_preview");
    let mut polling = hold(&lab, lab.connect().await, &other).await;

    lab.reload_with("validation.mode = \"monitor\"");

    // An older connection gets the new rule at its next request, and older previews are still known.
    assert_eq!(wire.send(&agent.callout(7, "5550199")).await.passed().retcode(), "0");
    assert_eq!((lab.scraped(MONITORING).await, lab.scraped(ENFORCING).await), (1.0, 0.0));
    lab.reload_with("");
    assert_eq!(wire.send(&agent.callout(7, "5550101")).await.verdict(), "ok");
    assert_eq!(wire.send(&agent.callout(7, "5550199")).await.verdict(), "number_not_in_preview");

    // The held poll gets its event, the gateway records it, and the connection stays open.
    lab.simulator.preview(id(102), ControlId(8), "5550102");
    assert_eq!(polling.answer().await.passed().json()["event"]["content"]["controlid"], 8);
    assert_eq!(polling.send(&other.callout(8, "5550102")).await.verdict(), "ok");
}

#[tokio::test]
async fn limits_and_the_log_level_change() {
    let lab = Setup::plain().lenient().settings("log.level = \"error\"").start().await;
    let mut wire = lab.connect().await;
    let agent = lab.agent(101).await;
    let long = agent.callout(7, &"5".repeat(400));
    assert_eq!(wire.send(&long).await.verdict(), "malformed_body");
    assert!(!lab.logged().contains("configuration reloaded"));

    lab.reload_with("log.level = \"info\"\nlimits.callout_body = \"256B\"");
    assert_eq!(wire.send(&long).await.verdict(), "too_large");
    let line = lab.log.message("configuration reloaded").await;
    assert_eq!(line["changes"], "log.level: \"error\" -> \"info\", limits.callout_body: \"64KiB\" -> \"256B\"");
    assert_eq!((&line["trigger"], &line["mode"]), (&"SIGHUP".into(), &"enforce".into()));
    assert!(lab.admin("/config").await.text().contains("callout_body = \"256B\""));
}

#[tokio::test]
async fn a_reload_logs_its_trigger_its_changes_and_a_mode_that_refuses_nothing() {
    let lab = Setup::plain().lenient().start().await;
    let hash_before = lab.running().generation().config.hash();
    let info = |hash: &str| format!("previewgate_config_info{{hash=\"{hash}\"}}");
    assert_eq!(lab.scraped(&info(&hash_before)).await, 1.0);
    assert!(lab.scraped("previewgate_config_last_reload_timestamp_seconds").await > 1e9);

    lab.site.configure("validation.mode = \"monitor\"");
    assert_eq!(lab.admin_send(&Request::admin("POST", "/reload")).await.status, 200);
    let line = lab.log.message("configuration reloaded").await;
    let hash = lab.running().generation().config.hash();
    assert_ne!(hash, hash_before);
    assert_eq!(line["message"], "configuration reloaded in MONITOR mode: no callout is refused");
    assert_eq!(line["changes"], "validation.mode: \"enforce\" -> \"monitor\"");
    assert_eq!((&line["mode"], &line["config_hash"]), (&"monitor".into(), &hash.as_str().into()));
    assert!(line["trigger"].as_str().unwrap().starts_with("admin 127.0.0.1:"), "{line}");
    assert_eq!(lab.scraped(&info(&hash)).await, 1.0);
    assert!(!lab.admin("/metrics").await.text().contains(&hash_before), "one configuration is in force");

    lab.site.configure("validation.mode = 7");
    lab.reload().unwrap_err();
    assert_eq!(lab.log.message("reload refused").await["trigger"], "SIGHUP");
    assert_eq!(lab.scraped(&info(&hash)).await, 1.0);
}

#[tokio::test]
async fn the_upstream_moves() {
    let lab = Setup::plain().lenient().start().await;
    let lenient = SimulatorConfig { lenient_callouts: true, follow_ups: false, ..SimulatorConfig::default() };
    let new = Simulator::start(lenient).await.unwrap();
    let mut idle = lab.connect().await;
    let agent = lab.agent(101).await;
    idle.send(&x()).await.passed();
    let mut polling = hold(&lab, lab.connect().await, &agent).await;

    lab.reload_with(&format!("upstream.endpoints = [\"http://{}\"]", new.address()));

    idle.send(&x()).await.passed();
    assert_eq!((lab.simulator.requests(), new.handle().requests()), (3, 1));
    lab.simulator.preview(id(101), ControlId(7), "5550101");
    assert_eq!(polling.answer().await.passed().json()["event"]["content"]["controlid"], 7);
    // The connections to the old upstream are closed, although the client is still connected.
    within("the old connections to close", lab.simulator.wait_for_connections_open(0)).await;
    assert_eq!(polling.send(&agent.callout(7, "5550101")).await.verdict(), "ok");
    assert_eq!((lab.simulator.callouts().len(), new.handle().callouts().len()), (0, 1));
    let metrics = lab.admin("/metrics").await.text();
    let old = format!("healthy{{endpoint=\"http://{}\"}}", lab.site.upstream_address());
    assert!(!metrics.contains(&old), "{metrics}");
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing_and_the_refusal_names_its_problems() {
    let lab = Setup::plain().lenient().start().await;
    let mut operator = Wire::plain(lab.admin_address).await.unwrap();
    let before = operator.send(&Request::admin("GET", "/config")).await.text();
    let reload = Request::admin("POST", "/reload");

    lab.site.configure("validation.mood = \"monitor\"\nlimits.requests = 0\nlog.level = 3");
    let answer = operator.send(&reload).await;
    assert_eq!(answer.status, 409);
    for problem in ["nothing has changed", "validation.mood", "limits.requests", "log.level"] {
        assert!(answer.text().contains(problem), "{problem}: {}", answer.text());
    }
    assert_eq!(lab.scraped(SUCCESSFUL).await, 0.0);
    assert_eq!(operator.send(&Request::admin("GET", "/config")).await.text(), before);
    assert!(lab.logged().contains("reload refused"));

    std::fs::remove_file(lab.site.config_file()).unwrap();
    assert_eq!(operator.send(&reload).await.status, 409);
    lab.site.configure("");
    assert_eq!(operator.send(&reload).await.status, 200);
    assert_eq!(lab.scraped(SUCCESSFUL).await, 1.0);
    assert_eq!(operator.send(&Request::admin("GET", "/reload")).await.status, 405);
}

#[tokio::test]
async fn keys_that_cannot_change_are_named() {
    let lab = Setup::plain().lenient().start().await;
    let fixed = "runtime.workers = 7\nlog.format = \"text\"\nlog.mask_numbers = false\npreviews.per_agent = 3\n\
                 previews.ttl = \"1m\"\npreviews.store = { kind = \"redis\", url = \"redis://127.0.0.1\" }";
    lab.site.configure(&format!("{fixed}\nvalidation.mode = \"monitor\""));
    let refusal = lab.reload().unwrap_err().to_string();
    let keys =
        ["runtime.workers", "log.format", "log.mask_numbers", "previews.per_agent", "previews.ttl", "previews.store"];
    for key in keys {
        assert!(refusal.contains(key), "{refusal}");
    }
    assert!(!refusal.contains("validation"), "{refusal}");
    assert_eq!(lab.scraped(ENFORCING).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_lose_nothing() {
    let lab = Setup::plain().lenient().settings("runtime.workers = 2").start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for number in 101..105 {
        let agent = lab.agent(number).await;
        agent.shown(7, "5550101").await;
        let (stop, mut kept) = (Arc::clone(&stop), lab.connect().await);
        clients.spawn(async move {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(kept.send(&agent.callout(7, "5550101")).await.passed().retcode(), "0");
                assert_eq!(agent.call(7, "5550101").await.passed().retcode(), "0");
                calls += 2;
            }
            calls
        });
    }
    for round in 0..50 {
        let mode = if round % 2 == 0 { "monitor" } else { "enforce" };
        lab.reload_with(&format!("runtime.workers = 2\nvalidation.mode = \"{mode}\""));
    }
    stop.store(true, Ordering::Relaxed);
    let calls: usize = clients.join_all().await.into_iter().sum();
    assert_eq!(lab.simulator.callouts().len(), calls);
}

const SERVER_TLS: &str = "[listener.tls]\ncertificate = \"tls/server.crt\"\nprivate_key = \"tls/server.key\"\n";

/// Writes certificate and key into a new directory of the site.
fn write_identity(site: &Site, directory: &str, identity: &SelfSigned) {
    std::fs::create_dir(site.path(directory)).unwrap();
    site.write(&format!("{directory}/server.crt"), &identity.certificate);
    site.write(&format!("{directory}/server.key"), &identity.private_key);
}

#[tokio::test]
async fn a_certificate_is_renewed_by_a_swapped_link() {
    let (site, authority) = (Setup::plain().lenient().site().await, Authority::new().unwrap());
    let [old, new] = [(); 2].map(|()| authority.issue(&["127.0.0.1"]).unwrap());
    write_identity(&site, "old", &old);
    write_identity(&site, "new", &new);
    symlink("old", site.path("tls")).unwrap();
    let gateway = site.start(SERVER_TLS);
    let trust = trusting(&authority.pem(), None);
    let mut kept = Wire::encrypted(gateway.address, Arc::clone(&trust)).await.unwrap();
    assert_eq!(kept.certificate, leaf(&old));
    let agent = gateway.agent_from_elsewhere(101);
    let mut polling = Wire::encrypted(gateway.address, Arc::clone(&trust)).await.unwrap();
    polling.write(&agent.poll_request().bytes()).await;
    within("the poll to be held", site.handle.wait_for_held_polls(1)).await;

    symlink("new", site.path("tls.next")).unwrap();
    std::fs::rename(site.path("tls.next"), site.path("tls")).unwrap();
    gateway.check_certificate_files();

    // The client has no ticket of the old session; with one the server would not show its certificate.
    let fresh = Wire::encrypted(gateway.address, trusting(&authority.pem(), None)).await.unwrap();
    assert_eq!(fresh.certificate, leaf(&new));
    // A client with a ticket is served as well.
    Wire::encrypted(gateway.address, trust).await.unwrap().send(&x()).await.passed();
    assert_eq!(kept.send(&x()).await.passed().status, 200);
    site.handle.preview(id(101), ControlId(7), "5550101");
    assert_eq!(polling.answer().await.passed().json()["event"]["content"]["controlid"], 7);
    let line = gateway.log.message("certificates reloaded").await;
    assert_eq!(line["trigger"], "certificate files");
    assert_eq!(line["config_hash"], gateway.running().generation().config.hash());
}

#[tokio::test]
async fn a_half_written_pair_never_breaks_the_listener() {
    let (site, authority) = (Setup::plain().lenient().site().await, Authority::new().unwrap());
    let [old, new] = [(); 2].map(|()| authority.issue(&["127.0.0.1"]).unwrap());
    write_identity(&site, "tls", &old);
    let gateway = site.start(SERVER_TLS);
    let shown = async || Wire::encrypted(gateway.address, trusting(&authority.pem(), None)).await.unwrap().certificate;

    let (half, _) = new.certificate.split_at(new.certificate.len() / 5);
    for certificate in ["", half, &new.certificate] {
        site.write("tls/server.crt", certificate);
        for _ in 0..3 {
            gateway.check_certificate_files();
            assert_eq!(shown().await, leaf(&old));
        }
    }
    // A reload is refused now, and the listener still serves.
    let refusal = gateway.reload().unwrap_err().to_string();
    assert!(refusal.contains("private_key") || refusal.contains("key"), "{refusal}");
    assert_eq!(shown().await, leaf(&old));
    std::fs::remove_file(site.path("tls/server.key")).unwrap();
    gateway.check_certificate_files();
    assert_eq!(shown().await, leaf(&old));

    site.write("tls/server.key", &new.private_key);
    gateway.check_certificate_files();
    assert_eq!(shown().await, leaf(&new));
    // The log warns once about each state of the files, although they are read repeatedly.
    assert_eq!(gateway.logged().matches("new certificates cannot be used yet").count(), 4);
}

#[tokio::test]
async fn the_client_authority_changes() {
    let site = Setup::plain().lenient().site().await;
    let [ours, first, second] = [(); 3].map(|()| Authority::new().unwrap());
    let server = ours.issue(&["127.0.0.1"]).unwrap();
    write_identity(&site, "tls", &server);
    site.write("clients.crt", first.pem());
    let gateway = site.start(&format!("{SERVER_TLS}client_ca = \"clients.crt\""));
    let [alice, bob] = [&first, &second].map(|authority| authority.issue(&["application"]).unwrap());
    // With TLS 1.3 a client learns only at its first request that it was refused.
    let gets_through = async |client| match Wire::encrypted(gateway.address, trusting(&server.ca, Some(client))).await {
        Ok(mut wire) => wire.try_send(&x()).await.is_ok(),
        Err(_) => false,
    };
    assert_eq!((gets_through(&alice).await, gets_through(&bob).await), (true, false));

    // An empty file would let no client in.
    site.write("clients.crt", "");
    gateway.check_certificate_files();
    assert_eq!((gets_through(&alice).await, gets_through(&bob).await), (true, false));
    site.write("clients.crt", second.pem());
    gateway.check_certificate_files();
    assert_eq!((gets_through(&alice).await, gets_through(&bob).await), (false, true));
}

/// A connection that a removed authority admitted is closed: at once if it is idle, else after its request. Connections
/// of other clients stay.
#[tokio::test]
async fn connections_of_a_removed_client_authority_are_closed_after_their_request() {
    for version in [&TLS12, &TLS13] {
        let site = Setup::plain().lenient().site().await;
        let [ours, first, second] = [(); 3].map(|()| Authority::new().unwrap());
        let server = ours.issue(&["127.0.0.1"]).unwrap();
        write_identity(&site, "tls", &server);
        site.write("clients.crt", first.pem() + &second.pem());
        let gateway = site.start(&format!("{SERVER_TLS}client_ca = \"clients.crt\""));
        let [alice, bob] = [&first, &second].map(|authority| authority.issue(&["application"]).unwrap());
        let [alice, bob] = [&alice, &bob].map(|client| trusting_by(&server.ca, &[version], Some(client)));
        let connect = async |client: &Arc<ClientConfig>| {
            let mut wire = Wire::encrypted(gateway.address, Arc::clone(client)).await.unwrap();
            wire.send(&x()).await.passed();
            wire
        };
        let (mut idle, mut polling, mut other) = (connect(&alice).await, connect(&alice).await, connect(&bob).await);
        let agent = gateway.agent_from_elsewhere(101);
        polling.write(&agent.poll_request().bytes()).await;
        within("the poll to be held", site.handle.wait_for_held_polls(1)).await;

        // The same authorities, in a file that has changed.
        site.write("clients.crt", first.pem() + "\n" + &second.pem());
        gateway.check_certificate_files();
        idle.send(&x()).await.passed();

        site.write("clients.crt", second.pem());
        gateway.check_certificate_files();
        idle.closed().await;
        site.handle.preview(id(101), ControlId(7), "5550101");
        let answer = polling.answer().await.passed();
        assert_eq!(answer.json()["event"]["content"]["controlid"], 7);
        polling.closed().await;
        other.send(&x()).await.passed();
        // Neither does a session ticket of before let the client in again.
        if let Ok(mut wire) = Wire::encrypted(gateway.address, alice).await {
            assert!(wire.try_send(&x()).await.is_err());
        }
    }
}

/// Once client certificates are demanded, a connection without one is closed as well.
#[tokio::test]
async fn connections_without_a_certificate_are_closed_when_one_is_demanded() {
    let (site, authority) = (Setup::plain().lenient().site().await, Authority::new().unwrap());
    let server = authority.issue(&["127.0.0.1"]).unwrap();
    write_identity(&site, "tls", &server);
    let gateway = site.start(SERVER_TLS);
    let mut anonymous = Wire::encrypted(gateway.address, trusting(&server.ca, None)).await.unwrap();
    anonymous.send(&x()).await.passed();
    site.write("clients.crt", authority.pem());
    site.configure(&format!("{SERVER_TLS}client_ca = \"clients.crt\""));
    gateway.reload().unwrap();
    anonymous.closed().await;
}

#[tokio::test]
async fn the_client_certificate_for_the_upstream_changes() {
    let (theirs, strangers) = (Authority::new().unwrap(), Authority::new().unwrap());
    let upstream = theirs.issue(&["127.0.0.1"]).unwrap();
    let tls = Some(upstream.mutual_server_config().unwrap());
    let site = Setup::plain().lenient().simulator(|simulator| simulator.tls = tls).site().await;
    let [wrong, right] = [&strangers, &theirs].map(|authority| authority.issue(&["previewgate"]).unwrap());
    site.write("ca.crt", &upstream.ca);
    site.write("own.crt", &wrong.certificate);
    site.write("own.key", &wrong.private_key);
    let gateway = site.start(
        "upstream.endpoints = [\"https://{upstream}\"]\n[upstream.tls]\nca = \"ca.crt\"\n\
         client_certificate = \"own.crt\"\nclient_private_key = \"own.key\"",
    );
    assert_eq!(gateway.send(&x()).await.own().status, 502);

    site.write("own.crt", &right.certificate);
    gateway.check_certificate_files();
    assert_eq!(gateway.send(&x()).await.own().status, 502);
    site.write("own.key", &right.private_key);
    gateway.check_certificate_files();
    assert_eq!(gateway.send(&x()).await.passed().status, 200);
}
