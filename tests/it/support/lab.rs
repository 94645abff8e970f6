//! Simulator and gateway in this process.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use previewgate::app::{App, Running};
use previewgate::config::{self, Config, EndpointUrl, Files, Scheme, UpstreamEndpoint};
use previewgate::preview::{Clock, SystemClock};
use previewgate::simulator::{Authority, SelfSigned, Simulator, SimulatorConfig, SimulatorHandle};
use previewgate::systemd::Inherited;
use previewgate::telemetry::Logging;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use super::{Agent, Answer, CapturedLog, PATIENCE, Request, Wire, within};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    None,
    Both,
    /// Client certificates demanded on both sides.
    Mutual,
}

type Adjust<T> = Box<dyn FnOnce(&mut T)>;

/// What kind of lab.
///
/// ```ignore
/// let lab = Setup::encrypted().config(|config| config.limits.requests = 1).start().await;
/// ```
pub(crate) struct Setup {
    tls: Tls,
    simulator: Vec<Adjust<SimulatorConfig>>,
    config: Vec<Adjust<Config>>,
    clock: Arc<dyn Clock>,
}

impl Setup {
    /// Plain HTTP on both sides: the default, because most of what is tested does not depend on TLS.
    pub(crate) fn plain() -> Self {
        Self { tls: Tls::None, simulator: Vec::new(), config: Vec::new(), clock: Arc::new(SystemClock::new()) }
    }

    /// TLS on both sides.
    pub(crate) fn encrypted() -> Self {
        Self { tls: Tls::Both, ..Self::plain() }
    }

    /// TLS on both sides, with client certificates.
    pub(crate) fn mutual() -> Self {
        Self { tls: Tls::Mutual, ..Self::plain() }
    }

    /// Changes the simulator's configuration.
    pub(crate) fn simulator(mut self, adjust: impl FnOnce(&mut SimulatorConfig) + 'static) -> Self {
        self.simulator.push(Box::new(adjust));
        self
    }

    /// Changes the gateway's configuration. Values below the loader's minimum are possible.
    pub(crate) fn config(mut self, adjust: impl FnOnce(&mut Config) + 'static) -> Self {
        self.config.push(Box::new(adjust));
        self
    }

    /// Has the gateway judge by this clock.
    pub(crate) fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Puts the gateway in front of something else than the simulator.
    pub(crate) fn upstreams(self, addresses: &[SocketAddr]) -> Self {
        let addresses = addresses.to_vec();
        self.config(move |config| {
            config.upstream.endpoints = addresses.into_iter().map(|a| endpoint(Scheme::Http, a)).collect();
        })
    }

    /// Starts both.
    pub(crate) async fn start(self) -> Lab {
        let pki = Pki::new();
        let mut simulator = SimulatorConfig {
            tls: match self.tls {
                Tls::None => None,
                Tls::Both => Some(pki.upstream.server_config().unwrap()),
                Tls::Mutual => Some(pki.upstream.mutual_server_config().unwrap()),
            },
            ..SimulatorConfig::default()
        };
        self.simulator.into_iter().for_each(|adjust| adjust(&mut simulator));
        let simulator = Simulator::start(simulator).await.unwrap();
        let mut config = configuration(self.tls, simulator.address(), pki.directory.path());
        self.config.into_iter().for_each(|adjust| adjust(&mut config));
        let log = CapturedLog::new();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone())).unwrap();
        let running = App::bind_with(config, &logging, Inherited::default(), self.clock).unwrap().start().unwrap();
        let (address, admin_address) = (running.address, running.admin_address);
        let handle = simulator.handle();
        let encrypted = self.tls != Tls::None;
        Lab {
            simulator: handle,
            address,
            admin_address,
            log,
            pki,
            encrypted,
            running: Some(running),
            upstream: Some(simulator),
            logging,
        }
    }
}

/// The address of a simulator, or of anything else, as the configuration knows it.
pub(crate) fn endpoint(scheme: Scheme, address: SocketAddr) -> UpstreamEndpoint {
    EndpointUrl { scheme, host: address.ip().to_string(), port: address.port() }.into()
}

/// A configuration as an operator would write it, read by the real loader.
fn configuration(tls: Tls, upstream: SocketAddr, directory: &Path) -> Config {
    let scheme = if tls == Tls::None { "http" } else { "https" };
    let listener = match tls {
        Tls::None => "",
        Tls::Both => "[listener.tls]\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"",
        Tls::Mutual => {
            "[listener.tls]\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\nclient_ca = \"ca.crt\""
        }
    };
    let towards = match tls {
        Tls::None => "",
        Tls::Both => "[upstream.tls]\nca = \"upstream-ca.crt\"",
        Tls::Mutual => {
            "[upstream.tls]\nca = \"upstream-ca.crt\"\nclient_certificate = \"upstream-client.crt\"\n\
             client_private_key = \"upstream-client.key\""
        }
    };
    let text = format!(
        r#"
        [listener]
        address = "127.0.0.1:0"
        {listener}
        [upstream]
        endpoints = ["{scheme}://{upstream}"]
        {towards}
        [admin]
        address = "127.0.0.1:0"
        [log]
        access = "all"
        [runtime]
        workers = 1
        [shutdown]
        drain = "1s"
        "#
    );
    config::parse(&text, directory, Files::Check).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Certificates of one lab: one authority for the applications' side, another for the upstream's.
pub(crate) struct Pki {
    /// The files.
    pub(crate) directory: TempDir,
    server: SelfSigned,
    client: SelfSigned,
    upstream: SelfSigned,
}

impl Pki {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
        let server = ours.issue(&["127.0.0.1", "localhost"]).unwrap();
        let client = ours.issue(&["application.example"]).unwrap();
        let upstream = theirs.issue(&["127.0.0.1", "localhost"]).unwrap();
        let upstream_client = theirs.issue(&["previewgate.example"]).unwrap();
        for (name, content) in [
            ("ca.crt", &server.ca),
            ("server.crt", &server.certificate),
            ("server.key", &server.private_key),
            ("upstream-ca.crt", &upstream.ca),
            ("upstream-client.crt", &upstream_client.certificate),
            ("upstream-client.key", &upstream_client.private_key),
        ] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        Self { directory, server, client, upstream }
    }

    /// An application that trusts the gateway and has no certificate of its own.
    pub(crate) fn anonymous(&self) -> Arc<ClientConfig> {
        self.server.client_config().unwrap()
    }

    /// An application that trusts the gateway and speaks these versions of TLS, with a certificate or without.
    pub(crate) fn client(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        certificate: bool,
    ) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.server.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = if certificate {
            let chain = CertificateDer::pem_slice_iter(self.client.certificate.as_bytes()).map(Result::unwrap);
            let key = PrivateKeyDer::from_pem_slice(self.client.private_key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain.collect(), key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        Arc::new(config)
    }
}

/// A gateway with a simulator behind it. Dropping it ends both.
pub(crate) struct Lab {
    /// Remote control and evidence of the simulator.
    pub(crate) simulator: SimulatorHandle,
    /// Where applications connect to.
    pub(crate) address: SocketAddr,
    /// Where operators look.
    pub(crate) admin_address: SocketAddr,
    /// What the gateway logged.
    pub(crate) log: CapturedLog,
    /// The certificates.
    pub(crate) pki: Pki,
    encrypted: bool,
    running: Option<Running>,
    upstream: Option<Simulator>,
    /// After `running`: it writes to it to the end.
    logging: Logging,
}

impl Lab {
    /// Plain HTTP on both sides, every key at its default.
    pub(crate) async fn start() -> Self {
        Setup::plain().start().await
    }

    /// A new connection to the gateway, over TLS if the lab uses TLS.
    #[track_caller]
    pub(crate) fn connect(&self) -> impl Future<Output = Wire> {
        within("a connection", async { self.try_connect().await.unwrap() })
    }

    /// A new connection, if the gateway accepts one.
    pub(crate) async fn try_connect(&self) -> io::Result<Wire> {
        if self.encrypted {
            let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
            Wire::encrypted(self.address, self.pki.client(&versions, true)).await
        } else {
            Wire::plain(self.address).await
        }
    }

    /// Sends a request over a connection of its own.
    #[track_caller]
    pub(crate) fn send<'l>(&'l self, request: &Request) -> impl Future<Output = Answer> + use<'l> {
        let connect = self.connect();
        let request = request.clone();
        async move { connect.await.send(&request).await }
    }

    /// Signs an agent in, through the gateway.
    pub(crate) async fn agent(&self, number: u32) -> Agent<'_> {
        Agent::sign_in(self, number).await
    }

    /// Asks the admin listener.
    #[track_caller]
    pub(crate) fn admin(&self, path: &str) -> impl Future<Output = Answer> + use<> {
        let request = Request::get(path).header("Host", "localhost");
        let address = self.admin_address;
        within("the admin listener", async move { Wire::plain(address).await.unwrap().send(&request).await })
    }

    /// The running gateway.
    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// The present value of a series, spelled as in `GET /metrics`: `previewgate_head_faults_total`. 0 if absent.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let page = self.running().services.metrics.encode();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a series has this value: an exchange is counted when it is over, which can be a moment after the
    /// client has read its answer. Metrics tell nobody that they change, so this looks again and again.
    #[track_caller]
    pub(crate) fn metric_becomes(&self, series: &str, value: f64) -> impl Future<Output = ()> {
        within(format!("{series} to become {value}"), async move {
            while (self.metric(series) - value).abs() > f64::EPSILON {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    }

    /// Ends the simulator, so that nothing listens at its address any more.
    pub(crate) async fn stop_simulator(&mut self) {
        within("the simulator to stop", self.upstream.take().unwrap().stop()).await;
    }

    /// Begins the orderly end of the gateway.
    pub(crate) fn stop(&self) {
        self.running().stop();
    }

    /// Waits for the end of the gateway, and returns what the process would end with.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> impl Future<Output = io::Result<()>> + use<> {
        let running = self.running.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || running.wait());
        within("the gateway to end", async { ended.await.unwrap() })
    }

    /// Waits until everything that was logged so far can be read.
    pub(crate) fn flush_log(&self) {
        assert!(self.logging.writer.flush(PATIENCE));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop();
        }
    }
}
