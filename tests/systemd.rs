//! What systemd does with the gateway: tells when it is ready, reloads it, and holds its socket while it restarts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking, in its helpers too"
)]

mod process;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use process::{Client, Inside, Outside, PATIENCE, Platform, RUN, Site, complaint, eventually, metric, shell};

#[test]
fn systemd_is_told_how_it_goes() {
    let (platform, site) = (Platform::start(), Site::new());
    let endpoints = [format!("http://{}", platform.address)];
    site.configure(&endpoints, "");
    let ear = UnixDatagram::bind(site.path("notify")).unwrap();
    ear.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut message = [0; 4096];
        let length = ear.recv(&mut message).unwrap_or_else(|error| panic!("systemd is told nothing: {error}"));
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut command = shell(RUN, &site);
    command.env("NOTIFY_SOCKET", site.path("notify"));
    let mut gateway = Outside::start(command);
    assert_eq!(heard(), "READY=1\nSTATUS=serving\n");

    gateway.signal("HUP");
    let reloading = heard();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(heard(), "READY=1\nSTATUS=serving\n");

    site.configure(&endpoints, "log.level = \"loud\"\nvalidation.mode = \"maybe\"");
    assert_eq!(Client::connect(gateway.admin).send("POST", "/reload", "", "").status, 409);
    assert!(heard().starts_with("RELOADING=1\n"));
    let refused = heard();
    assert!(refused.starts_with("READY=1\nSTATUS=serving; the last reload was refused: "), "{refused}");
    assert!(refused.contains("log.level") && refused.contains("validation.mode"), "{refused}");
    assert_eq!(refused.lines().count(), 2, "{refused}");

    gateway.signal("TERM");
    assert!(heard().starts_with("STOPPING=1\nSTATUS="));
    assert!(gateway.ended().success());
}

/// As systemd would: the sockets are descriptors 3 and 4, and the process that they are meant for is named.
fn activated(site: &Site, listener: &TcpListener, admin: &TcpListener) -> Command {
    let mut command = shell(
        &format!(
            "exec 3<&0 4<&2 0</dev/null 2>/dev/null; export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=listener:admin; {RUN}"
        ),
        site,
    );
    command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
    command.stderr(OwnedFd::from(admin.try_clone().unwrap()));
    command
}

#[test]
fn restarts_refuse_nobody() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&[format!("http://{}", platform.address)], "runtime.workers = 2");
    let [listener, admin] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let mut gateway = Outside::start(activated(&site, &listener, &admin));
    assert_eq!((gateway.address, gateway.admin), (address, admin.local_addr().unwrap()));

    let hammer = Hammer::start(address, 4);
    for _ in 0..5 {
        hammer.wait_for(200);
        assert!(gateway.stop().success());
        gateway = Outside::start(activated(&site, &listener, &admin));
    }
    hammer.wait_for(200);
    hammer.stop();
    assert!(metric(gateway.admin, "previewgate_config_last_reload_successful") >= 0.0);
    assert!(gateway.stop().success());
}

#[test]
fn who_was_accepted_gets_an_answer() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&[format!("http://{}", platform.address)], "runtime.workers = 1");
    let gateway = Inside::start(&site);
    let mut fresh = Client::connect(gateway.address);
    eventually("the client to be accepted", || {
        metric(gateway.admin, "previewgate_connections_open{side=\"downstream\"}") > 0.0
    });
    gateway.running().stop();
    eventually("the drain to begin", || gateway.logged().contains("draining"));
    let answer = fresh.get("/agentgateway/x");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
}

#[test]
fn who_waits_in_the_backlog_gets_an_answer() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&[format!("http://{}", platform.address)], "runtime.workers = 1");
    let app = Inside::bind(&site);
    // More than tokio lets a task accept in one go. They have asked already: whoever is slow to do so once the drain has
    // begun is not waited for.
    let mut waiting: Vec<_> = (0..300).map(|_| Client::connect(app.address())).collect();
    for client in &mut waiting {
        client.ask("GET", "/agentgateway/x", "", "").unwrap();
    }
    let gateway = app.start();
    gateway.running().stop();
    for client in &mut waiting {
        assert_eq!(client.answer().unwrap().status, 200);
    }
}

/// Clients that connect, ask once, want an answer, and connect again.
struct Hammer {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Hammer {
    fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = Client::connect(address).get("/agentgateway/x");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, answers, clients }
    }

    /// Waits for so many more answers.
    fn wait_for(&self, more: u64) {
        let enough = self.answers.load(Ordering::Relaxed) + more;
        eventually(&format!("{more} more answers"), || {
            assert!(self.clients.iter().all(|client| !client.is_finished()), "a client has failed");
            self.answers.load(Ordering::Relaxed) >= enough
        });
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // Each waits for one answer at the most.
        self.clients.into_iter().for_each(|client| client.join().unwrap());
    }
}

#[test]
fn sockets_that_make_no_sense_are_refused() {
    let (platform, site) = (Platform::start(), Site::new());
    site.configure(&[format!("http://{}", platform.address)], "");
    let [listener, admin] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let script = "exec 3<&0 4<&1 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b";
    let mut command = shell(&format!("{script}; {RUN}"), &site);
    command.stdin(OwnedFd::from(listener)).stdout(OwnedFd::from(admin));
    let (status, complaint) = complaint(command);
    assert_eq!(status.code(), Some(1));
    assert!(complaint.contains("two sockets were passed"), "{complaint}");
}
