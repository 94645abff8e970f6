//! A new configuration or new certificates, while connections, held polls and previews go on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking, in its helpers too"
)]

mod process;

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use previewgate::preview::ControlId;
use previewgate::simulator::{Authority, SelfSigned, SimulatorConfig};
use process::{Client, Inside, Platform, Site, hold, id, metric};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

const SUCCESSFUL: &str = "previewgate_config_last_reload_successful";

fn plain(address: SocketAddr) -> Vec<String> {
    vec![format!("http://{address}")]
}

#[test]
fn the_mode_changes_and_nothing_is_lost() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&plain(platform.address), "");
    let gateway = Inside::start(&site);
    let mut client = Client::connect(gateway.address);
    let (agent, other) = (client.sign_in(101), client.sign_in(102));
    platform.show(&mut client, &agent, 7, "5550101");
    assert_eq!(client.call(&agent, 7, "5550199").reason(), "number_not_in_preview");
    let poll = hold(&platform, Client::connect(gateway.address), &other);

    site.configure(&plain(platform.address), "validation.mode = \"monitor\"");
    gateway.running().reload().unwrap();

    // A connection from before finds the new rule at its next request, and previews from before are still known.
    let answer = client.call(&agent, 7, "5550199");
    assert_eq!((answer.retcode().as_str(), answer.reason()), ("0", ""));
    assert_eq!(metric(gateway.admin, "previewgate_validation_mode{mode=\"monitor\"}"), 1.0);
    assert_eq!(metric(gateway.admin, "previewgate_validation_mode{mode=\"enforce\"}"), 0.0);
    site.configure(&plain(platform.address), "");
    gateway.running().reload().unwrap();
    assert_eq!(client.call(&agent, 7, "5550101").reason(), "");
    assert_eq!(client.call(&agent, 7, "5550199").reason(), "number_not_in_preview");

    // The poll that was held all the time gets its event, the gateway learns of it, and its connection goes on.
    platform.handle.preview(id(102), ControlId(8), "5550102");
    let (mut polling, answer) = poll.join().unwrap();
    assert_eq!(answer.json()["event"]["content"]["controlid"], 8);
    assert_eq!(polling.call(&other, 8, "5550102").reason(), "");
}

#[test]
fn limits_and_the_log_level_change() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&plain(platform.address), "log.level = \"error\"");
    let gateway = Inside::start(&site);
    let mut client = Client::connect(gateway.address);
    let agent = client.sign_in(101);
    let long = "5".repeat(400);
    assert_eq!(client.call(&agent, 7, &long).reason(), "malformed_body");
    assert!(!gateway.logged().contains("configuration reloaded"));

    site.configure(&plain(platform.address), "log.level = \"info\"\nlimits.callout_body = \"256B\"");
    gateway.running().reload().unwrap();
    assert_eq!(client.call(&agent, 7, &long).reason(), "too_large");
    let line = gateway.logged().lines().find(|line| line.contains("configuration reloaded")).unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["changes"], "log.level: \"error\" -> \"info\", limits.callout_body: \"64KiB\" -> \"256B\"");
    assert!(Client::connect(gateway.admin).get("/config").body.contains("callout_body = \"256B\""));
}

#[test]
fn the_upstream_moves() {
    let (old, new, site) = (Platform::start(), Platform::start(), Site::new());
    site.configure(&plain(old.address), "");
    let gateway = Inside::start(&site);
    let (mut client, mut idle) = (Client::connect(gateway.address), Client::connect(gateway.address));
    let agent = client.sign_in(101);
    idle.get("/agentgateway/x");
    let poll = hold(&old, client, &agent);

    site.configure(&plain(new.address), "");
    gateway.running().reload().unwrap();

    idle.get("/agentgateway/y");
    assert_eq!((old.handle.requests(), new.handle.requests()), (3, 1));
    old.handle.preview(id(101), ControlId(7), "5550101");
    let (mut client, answer) = poll.join().unwrap();
    assert_eq!(answer.json()["event"]["content"]["controlid"], 7);
    // Nothing keeps the old upstream's connections open, although the client is still connected.
    old.wait("the old connections to close", old.handle.wait_for_connections_open(0));
    assert_eq!(client.call(&agent, 7, "5550101").reason(), "");
    assert_eq!((old.handle.callouts().len(), new.handle.callouts().len()), (0, 1));
    let metrics = Client::connect(gateway.admin).get("/metrics").body;
    assert!(!metrics.contains(&format!("healthy{{endpoint=\"http://{}\"}}", old.address)), "{metrics}");
}

#[test]
fn a_bad_configuration_changes_nothing_and_says_why() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&plain(platform.address), "");
    let gateway = Inside::start(&site);
    let mut operator = Client::connect(gateway.admin);
    let before = operator.get("/config").body;

    site.configure(&plain(platform.address), "validation.mood = \"monitor\"\nlimits.requests = 0\nlog.level = 3");
    let answer = operator.send("POST", "/reload", "", "");
    assert_eq!(answer.status, 409);
    for problem in ["nothing has changed", "validation.mood", "limits.requests", "log.level"] {
        assert!(answer.body.contains(problem), "{problem}: {}", answer.body);
    }
    assert_eq!(metric(gateway.admin, SUCCESSFUL), 0.0);
    assert_eq!(operator.get("/config").body, before);
    assert!(gateway.logged().contains("reload refused"));

    std::fs::remove_file(site.config()).unwrap();
    assert_eq!(operator.send("POST", "/reload", "", "").status, 409);
    site.configure(&plain(platform.address), "");
    assert_eq!(operator.send("POST", "/reload", "", "").status, 200);
    assert_eq!(metric(gateway.admin, SUCCESSFUL), 1.0);
    assert_eq!(operator.send("GET", "/reload", "", "").status, 405);
}

#[test]
fn what_cannot_change_is_named() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&plain(platform.address), "");
    let gateway = Inside::start(&site);
    let fixed = "runtime.workers = 7\nlog.format = \"text\"\nlog.mask_numbers = false\npreviews.per_agent = 3\n\
                 previews.ttl = \"1m\"\npreviews.store = { kind = \"redis\", url = \"redis://127.0.0.1\" }";
    site.configure(&plain(platform.address), &format!("{fixed}\nvalidation.mode = \"monitor\""));
    let refusal = gateway.running().reload().unwrap_err().to_string();
    let keys =
        ["runtime.workers", "log.format", "log.mask_numbers", "previews.per_agent", "previews.ttl", "previews.store"];
    for key in keys {
        assert!(refusal.contains(key), "{refusal}");
    }
    assert!(!refusal.contains("validation"), "{refusal}");
    assert_eq!(metric(gateway.admin, "previewgate_validation_mode{mode=\"enforce\"}"), 1.0);
}

#[test]
fn reloads_under_load_lose_nothing() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&plain(platform.address), "runtime.workers = 2");
    let gateway = Inside::start(&site);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (101..105)
        .map(|number| {
            let (stop, address) = (Arc::clone(&stop), gateway.address);
            let mut kept = Client::connect(address);
            let agent = kept.sign_in(number);
            platform.show(&mut kept, &agent, 7, "5550101");
            std::thread::spawn(move || {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(kept.call(&agent, 7, "5550101").retcode(), "0");
                    assert_eq!(Client::connect(address).call(&agent, 7, "5550101").retcode(), "0");
                    calls += 2;
                }
                calls
            })
        })
        .collect();
    for round in 0..50 {
        let mode = if round % 2 == 0 { "monitor" } else { "enforce" };
        site.configure(&plain(platform.address), &format!("runtime.workers = 2\nvalidation.mode = \"{mode}\""));
        gateway.running().reload().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let calls: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(platform.handle.callouts().len(), calls);
}

/// A client that trusts `ca` and may have a certificate.
fn trusting(ca: &str, own: Option<&SelfSigned>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(own.private_key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

fn leaf(of: &SelfSigned) -> Vec<u8> {
    CertificateDer::from_pem_slice(of.certificate.as_bytes()).unwrap().to_vec()
}

const SERVER_TLS: &str = "[listener.tls]\ncertificate = \"tls/server.crt\"\nprivate_key = \"tls/server.key\"\n";

#[test]
fn a_certificate_is_renewed_by_a_swapped_link() {
    let (platform, site, authority) = (Platform::start(), Site::new(), Authority::new().unwrap());
    let [old, new] = [(); 2].map(|()| authority.issue(&["127.0.0.1"]).unwrap());
    for (directory, identity) in [("old", &old), ("new", &new)] {
        std::fs::create_dir(site.path(directory)).unwrap();
        site.write(&format!("{directory}/server.crt"), &identity.certificate);
        site.write(&format!("{directory}/server.key"), &identity.private_key);
    }
    symlink("old", site.path("tls")).unwrap();
    site.configure(&plain(platform.address), SERVER_TLS);
    let gateway = Inside::start(&site);
    let trust = trusting(&authority.pem(), None);
    let (mut kept, shown) = Client::secure(gateway.address, Arc::clone(&trust)).unwrap();
    assert_eq!(shown, leaf(&old));
    let agent = kept.sign_in(101);
    let (polling, _) = Client::secure(gateway.address, Arc::clone(&trust)).unwrap();
    let poll = hold(&platform, polling, &agent);

    symlink("new", site.path("tls.next")).unwrap();
    std::fs::rename(site.path("tls.next"), site.path("tls")).unwrap();
    gateway.running().look_at_certificates();

    // Without a ticket of the old certificate, which would spare the server to show one.
    let (_, shown) = Client::secure(gateway.address, trusting(&authority.pem(), None)).unwrap();
    assert_eq!(shown, leaf(&new));
    // One with a ticket gets through as well.
    Client::secure(gateway.address, trust).unwrap().0.get("/agentgateway/x");
    assert_eq!(kept.get("/agentgateway/x").status, 200);
    platform.handle.preview(id(101), ControlId(7), "5550101");
    assert_eq!(poll.join().unwrap().1.json()["event"]["content"]["controlid"], 7);
    assert!(gateway.logged().contains("certificates reloaded"));
}

#[test]
fn a_half_written_pair_never_breaks_the_listener() {
    let (platform, site, authority) = (Platform::start(), Site::new(), Authority::new().unwrap());
    let [old, new] = [(); 2].map(|()| authority.issue(&["127.0.0.1"]).unwrap());
    std::fs::create_dir(site.path("tls")).unwrap();
    site.write("tls/server.crt", &old.certificate);
    site.write("tls/server.key", &old.private_key);
    site.configure(&plain(platform.address), SERVER_TLS);
    let gateway = Inside::start(&site);
    let shown = || Client::secure(gateway.address, trusting(&authority.pem(), None)).unwrap().1;

    let (half, _) = new.certificate.split_at(new.certificate.len() / 5);
    for certificate in ["", half, &new.certificate] {
        site.write("tls/server.crt", certificate);
        for _ in 0..3 {
            gateway.running().look_at_certificates();
            assert_eq!(shown(), leaf(&old));
        }
    }
    // Whoever asks for a reload now is told, and the listener goes on as well.
    let refusal = gateway.running().reload().unwrap_err().to_string();
    assert!(refusal.contains("private_key") || refusal.contains("key"), "{refusal}");
    assert_eq!(shown(), leaf(&old));
    std::fs::remove_file(site.path("tls/server.key")).unwrap();
    gateway.running().look_at_certificates();
    assert_eq!(shown(), leaf(&old));

    site.write("tls/server.key", &new.private_key);
    gateway.running().look_at_certificates();
    assert_eq!(shown(), leaf(&new));
    // Each state of the files was complained about once, however often it was looked at.
    assert_eq!(gateway.logged().matches("new certificates cannot be used yet").count(), 4);
}

#[test]
fn the_client_authority_changes() {
    let (platform, site) = (Platform::start(), Site::new());
    let [ours, first, second] = [(); 3].map(|()| Authority::new().unwrap());
    let server = ours.issue(&["127.0.0.1"]).unwrap();
    std::fs::create_dir(site.path("tls")).unwrap();
    site.write("tls/server.crt", &server.certificate);
    site.write("tls/server.key", &server.private_key);
    site.write("clients.crt", &first.pem());
    site.configure(&plain(platform.address), &format!("{SERVER_TLS}client_ca = \"clients.crt\""));
    let gateway = Inside::start(&site);
    let [alice, bob] = [&first, &second].map(|authority| authority.issue(&["application"]).unwrap());
    // With TLS 1.3 a client learns only at its first request that it was refused.
    let gets_through = |who| {
        let connected = Client::secure(gateway.address, trusting(&server.ca, Some(who)));
        connected.and_then(|(mut client, _)| client.try_send("GET", "/agentgateway/x", "", "")).is_ok()
    };
    assert_eq!((gets_through(&alice), gets_through(&bob)), (true, false));

    // An empty file would let nobody in.
    site.write("clients.crt", "");
    gateway.running().look_at_certificates();
    assert_eq!((gets_through(&alice), gets_through(&bob)), (true, false));
    site.write("clients.crt", &second.pem());
    gateway.running().look_at_certificates();
    assert_eq!((gets_through(&alice), gets_through(&bob)), (false, true));
}

#[test]
fn the_identity_towards_the_upstream_changes() {
    let (site, theirs, strangers) = (Site::new(), Authority::new().unwrap(), Authority::new().unwrap());
    let upstream = theirs.issue(&["127.0.0.1"]).unwrap();
    let tls = Some(upstream.mutual_server_config().unwrap());
    let platform = Platform::with(SimulatorConfig { tls, ..SimulatorConfig::default() });
    let [wrong, right] = [&strangers, &theirs].map(|authority| authority.issue(&["previewgate"]).unwrap());
    site.write("ca.crt", &upstream.ca);
    site.write("own.crt", &wrong.certificate);
    site.write("own.key", &wrong.private_key);
    let identity =
        "[upstream.tls]\nca = \"ca.crt\"\nclient_certificate = \"own.crt\"\nclient_private_key = \"own.key\"";
    site.configure(&[format!("https://{}", platform.address)], identity);
    let gateway = Inside::start(&site);
    let mut client = Client::connect(gateway.address);
    assert_eq!(client.get("/agentgateway/x").status, 502);

    site.write("own.crt", &right.certificate);
    gateway.running().look_at_certificates();
    assert_eq!(Client::connect(gateway.address).get("/agentgateway/x").status, 502);
    site.write("own.key", &right.private_key);
    gateway.running().look_at_certificates();
    assert_eq!(Client::connect(gateway.address).get("/agentgateway/x").status, 200);
}
