//! Certificates, files, the simulated CC-Gateway and the gateways of one test.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use previewgate::app::{App, Running};
use previewgate::config::{self, Files};
use previewgate::simulator::{Authority, Delivery, SelfSigned, Simulator, SimulatorConfig, SimulatorHandle};
use previewgate::telemetry::Logging;
use tempfile::TempDir;

use crate::application::Application;
use crate::client::{Answer, call, call_out, request_to};
use crate::{NUMBER, agent};

pub(crate) const TOKEN: &str = "service-token-0123456789";
/// Longer than anything takes, on any machine: says only when a test has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that gives no signal.
const LOOK: Duration = Duration::from_millis(5);

/// Everything but the gateways: certificates, files, the simulated CC-Gateway, the application.
pub(crate) struct Site {
    pub(crate) directory: TempDir,
    pub(crate) identity: SelfSigned,
    pub(crate) simulator: Simulator,
    pub(crate) application: Application,
    /// Where the gateway of this site listens.
    pub(crate) gateway: SocketAddr,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let identity = Authority::new().unwrap().issue(&["127.0.0.1", "localhost"]).unwrap();
        let write = |name: &str, content: &[u8]| std::fs::write(directory.path().join(name), content).unwrap();
        write("site.crt", identity.certificate.as_bytes());
        write("site.key", identity.private_key.as_bytes());
        write("ca.crt", identity.ca.as_bytes());
        write("push.key", &[42; 32]);
        let tls = Some(identity.server_config().unwrap());
        let simulator = Simulator::start(SimulatorConfig { tls, ..SimulatorConfig::default() }).await.unwrap();
        let gateway = free_address();
        let application = Application::start(&identity, gateway).await;
        Self { directory, identity, simulator, application, gateway }
    }

    pub(crate) fn simulated(&self) -> SimulatorHandle {
        self.simulator.handle()
    }

    /// `[push]` that allows `targets`, with CC-Gateway pushing to `public`.
    pub(crate) fn push(public: SocketAddr, targets: &str) -> String {
        format!(
            "[push]\npublic_url = \"https://{public}\"\nkey = \"push.key\"\nallowed_targets = [{targets}]\n\
             timeout = \"5s\"\n[push.tls]\nca = \"ca.crt\"\n"
        )
    }

    /// The usual `[push]`.
    pub(crate) fn loopback(&self) -> String {
        Self::push(self.gateway, "\"https://127.0.0.0/8\"")
    }

    pub(crate) fn start(&self, more: &str) -> Gateway {
        self.start_at(self.gateway, more)
    }

    pub(crate) fn start_at(&self, address: SocketAddr, more: &str) -> Gateway {
        self.start_with(address, self.simulator.address(), more)
    }

    pub(crate) fn start_with(&self, address: SocketAddr, upstream: SocketAddr, more: &str) -> Gateway {
        let text = format!(
            "[listener]\naddress = \"{address}\"\n\
             [listener.tls]\ncertificate = \"site.crt\"\nprivate_key = \"site.key\"\n\
             [upstream]\nendpoints = [\"https://{upstream}\"]\n[upstream.tls]\nca = \"ca.crt\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\n[runtime]\nworkers = 1\n[log]\naccess = \"all\"\nlevel = \"debug\"\n\
             [shutdown]\ndrain = \"2s\"\n{more}",
        );
        Gateway::start(&text, self.directory.path())
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        call(&self.identity, self.gateway, request_to(method, path, fields, body.into())).await
    }

    /// Signs in and returns what the gateway said.
    pub(crate) async fn sign_in(&self, body: impl Into<Bytes>) -> Answer {
        let fields = [("content-type", "application/json;charset=UTF-8")];
        self.call(Method::PUT, "/agentgateway/resource/onlineagent/101/forcelogin", &fields, body).await
    }

    pub(crate) async fn call_out(&self, control_id: i64) -> String {
        let guid = self.simulated().guid(agent()).unwrap();
        call_out(&self.identity, self.gateway, agent(), &guid, control_id, NUMBER).await
    }

    /// A sign-in for the current form of push, with the members in an order of their own.
    pub(crate) fn call_back_sign_in(&self) -> String {
        format!(
            "{{ \"phonenum\":\"40038\",\"callBackUri\" : \"{}\",\"serviceToken\":\"{TOKEN}\"}}",
            self.application.url()
        )
    }

    /// A sign-in for the older form of push.
    pub(crate) fn push_url_sign_in(&self) -> String {
        format!("{{\"password\":\"\",\"pushUrl\":\"{}\",\"phonenum\":\"40038\"}}", self.application.url())
    }

    /// Where the simulated CC-Gateway was told to push to.
    pub(crate) fn push_url(&self) -> String {
        match self.simulated().delivery(agent()) {
            Some(Delivery::Push { uri, .. } | Delivery::PushUrl { uri }) => uri,
            other => panic!("{other:?}"),
        }
    }

    /// Posts to a push address as CC-Gateway would.
    pub(crate) async fn post(&self, url: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let uri: http::Uri = url.parse().unwrap();
        let address = uri.authority().unwrap().as_str().parse().unwrap();
        call(&self.identity, address, request_to(Method::POST, uri.path(), fields, body.into())).await
    }
}

/// A port that nobody listens on: the gateway's address must be known before it starts, and stay when it restarts.
pub(crate) fn free_address() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// The series that counts pushes that ended so.
pub(crate) fn pushes(outcome: &str) -> String {
    format!("previewgate_pushes_total{{outcome=\"{outcome}\"}}")
}

pub(crate) struct Gateway {
    pub(crate) running: Running,
    pub(crate) log: CapturedLog,
    pub(crate) logging: Logging,
}

impl Gateway {
    pub(crate) fn start(text: &str, base: &Path) -> Self {
        let config = config::parse(text, base, Files::Check).unwrap_or_else(|problems| panic!("{problems}"));
        let log = CapturedLog::default();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone())).unwrap();
        let running = App::bind(config, &logging).unwrap().start().unwrap();
        Self { running, log, logging }
    }

    pub(crate) fn metric(&self, series: &str) -> String {
        let page = self.running.services.metrics.encode();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series}")).to_owned()
    }

    pub(crate) fn pushes(&self, outcome: &str) -> String {
        self.metric(&pushes(outcome))
    }

    pub(crate) fn sign_ins(&self, handling: &str) -> String {
        self.metric(&format!("previewgate_push_sign_ins_total{{handling=\"{handling}\"}}"))
    }

    /// For what is counted when an exchange ends, a moment after its answer: nobody tells when a metric changes.
    pub(crate) async fn counts(&self, series: &str, value: &str) {
        let begun = Instant::now();
        while self.metric(series) != value {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {series} to become {value}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends it and returns its log.
    pub(crate) async fn stop(self) -> String {
        let Self { running, log, logging } = self;
        running.stop();
        tokio::task::spawn_blocking(move || running.wait()).await.unwrap().unwrap();
        assert!(logging.writer.flush(PATIENCE));
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }
}

#[derive(Clone, Default)]
pub(crate) struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
