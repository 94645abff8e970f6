//! What stands in front of Tomcat: previewgate in this process, nginx or HAProxy as children.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use previewgate::app::{App, Running};
use previewgate::config::{self, Files};
use previewgate::store::StoreState;
use previewgate::telemetry::Logging;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::CapturedLog;
use crate::wire::Target;

/// A gateway in this process; stopped when dropped.
pub(crate) struct Gate {
    running: Option<Running>,
    logging: Logging,
    log: CapturedLog,
    _directory: TempDir,
    /// Where it listens.
    pub(crate) target: Target,
}

impl Gate {
    /// Starts one in front of the Tomcat at `upstream`, with further lines of configuration.
    pub(crate) fn start(upstream: u16, settings: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), upstream, settings)
    }

    /// The same, with TLS towards the clients.
    pub(crate) fn start_with_tls(upstream: u16) -> Self {
        let identity = previewgate::simulator::self_signed(&["localhost"]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("crt"), &identity.certificate).unwrap();
        fs::write(directory.path().join("key"), &identity.private_key).unwrap();
        let settings = "[listener.tls]\ncertificate = \"crt\"\nprivate_key = \"key\"\n";
        let mut gate = Self::start_in(directory, upstream, settings);
        gate.target.tls = Some(identity.client_config().unwrap());
        gate
    }

    /// The same without TLS, but pushes are relayed.
    pub(crate) fn start_with_push(upstream: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("push.key"), [42; 32]).unwrap();
        let settings = "[push]\npublic_url = \"http://gateway.example:8043\"\nkey = \"push.key\"\n\
                        allowed_targets = [\"http://127.0.0.0/8\"]\n";
        Self::start_in(directory, upstream, settings)
    }

    fn start_in(directory: TempDir, upstream: u16, settings: &str) -> Self {
        let text = format!(
            "[listener]\naddress = \"127.0.0.1:0\"\n[upstream]\nendpoints = [\"http://127.0.0.1:{upstream}\"]\n\
             [admin]\naddress = \"127.0.0.1:0\"\n[runtime]\nworkers = 1\n[shutdown]\ndrain = \"100ms\"\n{settings}"
        );
        let config = config::parse(&text, directory.path(), Files::Check).unwrap();
        let log = CapturedLog::default();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone())).unwrap();
        let running = App::bind(config, &logging).and_then(App::start).unwrap();
        let target = Target { address: running.address, tls: None };
        Self { running: Some(running), logging, log, _directory: directory, target }
    }

    /// Waits for the shared store.
    pub(crate) fn until_connected(&self) {
        let store = &self.running.as_ref().unwrap().services.ledger;
        let deadline = Instant::now() + Duration::from_secs(10);
        while store.state() != StoreState::Ok {
            assert!(Instant::now() < deadline, "the gateway does not find Redis");
            std::thread::yield_now();
        }
    }

    /// Ends it and returns the lines of its log.
    pub(crate) fn log(mut self) -> Vec<Value> {
        self.stop();
        assert!(self.logging.writer.flush(Duration::from_secs(20)));
        self.log.lines()
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            let _ = running.wait();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A transparent proxy; killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    _directory: TempDir,
    /// Where it listens.
    pub(crate) target: Target,
}

impl Proxy {
    /// nginx with `proxy_pass` and kept upstream connections.
    pub(crate) fn nginx(upstream: u16) -> Self {
        Self::start(|directory, port| {
            let here = directory.display();
            let conf = format!(
                "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\n\
                 events {{ worker_connections 512; }}\n\
                 http {{ access_log off; client_max_body_size 0; client_body_temp_path {here}/b;\n\
                 proxy_temp_path {here}/p; fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
                 upstream tomcat {{ server 127.0.0.1:{upstream}; keepalive 16; }}\n\
                 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://tomcat;\n\
                 proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_request_buffering off; }} }} }}"
            );
            fs::write(directory.join("conf"), conf).unwrap();
            let mut command = Command::new("nginx");
            command.arg("-p").arg(directory).arg("-c").arg(directory.join("conf"));
            command
        })
    }

    /// HAProxy with `mode http` and kept connections on both sides.
    pub(crate) fn haproxy(upstream: u16) -> Self {
        Self::start(|directory, port| {
            let conf = format!(
                "defaults\n mode http\n option http-keep-alive\n http-reuse safe\n timeout connect 2s\n\
                 timeout client 5s\n timeout server 5s\nfrontend front\n bind 127.0.0.1:{port}\n\
                 default_backend tomcat\nbackend tomcat\n server tomcat 127.0.0.1:{upstream}\n"
            );
            fs::write(directory.join("conf"), conf).unwrap();
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(directory.join("conf"));
            command
        })
    }

    fn start(command: impl FnOnce(&Path, u16) -> Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = command(directory.path(), port).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let proxy = Self { child: child.unwrap(), _directory: directory, target: Target { address, tls: None } };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the proxy does not start");
            std::thread::yield_now();
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
