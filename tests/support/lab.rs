//! What surrounds the gateways of one test: certificates, files, the simulated CC-Gateway. And one gateway of its own.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use previewgate::config::{self, Config, Files};
use previewgate::preview::{Clock, SystemClock};
use previewgate::simulator::{JournalEntry, Simulator, SimulatorConfig, SimulatorHandle};
use rustls::ClientConfig;
use tempfile::TempDir;

use super::gateway::Bound;
use super::{Access, Gateway, Pki, Port, within};

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
/// let lab = Setup::encrypted().settings("limits.requests = 1").start().await;
/// ```
pub(crate) struct Setup {
    tls: Tls,
    settings: String,
    upstreams: Vec<SocketAddr>,
    simulator: Vec<Adjust<SimulatorConfig>>,
    start: Start,
}

/// How the gateway differs from what its configuration file says.
struct Start {
    config: Vec<Adjust<Config>>,
    clock: Arc<dyn Clock>,
}

impl Start {
    /// By the file and the system's clock.
    fn ordinary() -> Self {
        Self { config: Vec::new(), clock: Arc::new(SystemClock::new()) }
    }
}

impl Setup {
    /// Plain HTTP on both sides: the default, because most tests do not depend on TLS.
    pub(crate) fn plain() -> Self {
        Self { tls: Tls::None, settings: String::new(), upstreams: vec![], simulator: vec![], start: Start::ordinary() }
    }

    /// TLS on both sides.
    pub(crate) fn encrypted() -> Self {
        Self { tls: Tls::Both, ..Self::plain() }
    }

    /// TLS on both sides, with client certificates.
    pub(crate) fn mutual() -> Self {
        Self { tls: Tls::Mutual, ..Self::plain() }
    }

    /// A platform that lets every callout through: a refusal can only come from the gateway.
    pub(crate) fn lenient(self) -> Self {
        self.simulator(|simulator| {
            simulator.lenient_callouts = true;
            simulator.follow_ups = false;
        })
    }

    /// Lines of the configuration file, dotted keys first: `limits.requests = 1`. They replace the harness's own lines
    /// for the same keys. `{upstream}` stands for the simulator's address, `{gateway}` for the gateway's, and
    /// `{directory}` for the directory of the site.
    pub(crate) fn settings(mut self, lines: &str) -> Self {
        self.settings.push_str(lines);
        self.settings.push('\n');
        self
    }

    /// Keeps an audit log in the directory `audit` of the site: see [`AuditRecords`](super::AuditRecords).
    pub(crate) fn audited(self) -> Self {
        self.settings(AUDIT)
    }

    /// Changes the simulator's configuration.
    pub(crate) fn simulator(mut self, adjust: impl FnOnce(&mut SimulatorConfig) + 'static) -> Self {
        self.simulator.push(Box::new(adjust));
        self
    }

    /// Changes the gateway's configuration after it was read. Values below the loader's minimum are possible.
    pub(crate) fn config(mut self, adjust: impl FnOnce(&mut Config) + 'static) -> Self {
        self.start.config.push(Box::new(adjust));
        self
    }

    /// Has the gateway judge by this clock.
    pub(crate) fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.start.clock = clock;
        self
    }

    /// Puts the gateway in front of something else than the simulator; plain HTTP.
    pub(crate) fn upstreams(self, addresses: &[SocketAddr]) -> Self {
        Self { upstreams: addresses.to_vec(), ..self }
    }

    /// Starts simulator and gateway.
    pub(crate) async fn start(self) -> Lab {
        let (site, start) = self.build().await;
        let gateway = site.bind(start).start();
        Lab { gateway, site }
    }

    /// Starts the simulator, and binds a gateway that does not serve yet.
    pub(crate) async fn bind(self) -> (Bound, Site) {
        let (site, start) = self.build().await;
        (site.bind(start), site)
    }

    /// Starts the simulator alone and writes the configuration file, for a gateway that is another process.
    pub(crate) async fn site(self) -> Site {
        self.build().await.0
    }

    async fn build(self) -> (Site, Start) {
        let directory = tempfile::tempdir().unwrap();
        prepare_audit(directory.path());
        let pki = Pki::new(directory.path());
        // Reserved first, because a port can only be reserved while nothing listens on it.
        let upstream_port = Port::reserve();
        let mut simulator = SimulatorConfig {
            address: upstream_port.address,
            tls: match self.tls {
                Tls::None => None,
                Tls::Both => Some(pki.upstream.server_config().unwrap()),
                Tls::Mutual => Some(pki.upstream.mutual_server_config().unwrap()),
            },
            ..SimulatorConfig::default()
        };
        self.simulator.into_iter().for_each(|adjust| adjust(&mut simulator));
        let simulator = Simulator::start(simulator).await.unwrap();
        let site = Site {
            handle: simulator.handle(),
            simulator: Some(simulator),
            upstream_port,
            tls: self.tls,
            upstreams: self.upstreams,
            pki,
            port: Port::reserve(),
            gateways: AtomicUsize::new(0),
            directory,
        };
        site.configure(&self.settings);
        (site, self.start)
    }
}

/// The settings of an audit log.
pub(crate) const AUDIT: &str =
    "audit.directory = \"audit\"\naudit.signing_key = \"audit.key\"\naudit.number_keys = \"audit-numbers\"";

/// What the settings of [`AUDIT`] name.
fn prepare_audit(directory: &Path) {
    let (_, key) = previewgate::audit::note::Signer::generate().unwrap();
    std::fs::create_dir(directory.join("audit")).unwrap();
    std::fs::write(directory.join("audit.key"), key).unwrap();
    std::fs::set_permissions(directory.join("audit.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn request_id(entry: &JournalEntry) -> String {
    let id = entry.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-request-id")).unwrap();
    String::from_utf8(id.1.to_vec()).unwrap()
}

/// The callouts that arrived at the platform over a long time. The journal of the simulator is bounded, so it is emptied
/// now and then.
#[derive(Default)]
pub(crate) struct Arrivals {
    /// The request IDs, in the order of arrival.
    pub(crate) callouts: Vec<String>,
    requests: u64,
}

impl Arrivals {
    /// Takes over what has arrived since the last time. Fails if the journal was too small for it: every arrival counts.
    #[track_caller]
    pub(crate) fn collect(&mut self, site: &Site) {
        let before = site.handle.requests();
        let entries = site.handle.take_journal();
        self.requests += entries.len() as u64;
        assert!(self.requests >= before, "{before} requests arrived, and the journal had {}", self.requests);
        self.callouts.extend(entries.iter().filter(|entry| entry.is_callout()).map(|entry| request_id(entry)));
    }
}

/// Everything of a test but its gateways.
pub(crate) struct Site {
    /// Remote control and evidence of the simulator.
    pub(crate) handle: SimulatorHandle,
    simulator: Option<Simulator>,
    upstream_port: Port,
    tls: Tls,
    upstreams: Vec<SocketAddr>,
    /// The certificates.
    pub(crate) pki: Pki,
    /// The gateway's: it is known before the gateway starts, and stays when it restarts.
    port: Port,
    /// How many gateways were started with a configuration of their own.
    gateways: AtomicUsize,
    directory: TempDir,
}

impl Site {
    /// The request IDs of the callouts that arrived at the platform.
    pub(crate) fn arrivals(&self) -> Vec<String> {
        self.handle.callouts().iter().map(|entry| request_id(entry)).collect()
    }

    /// Where the gateway of this site listens.
    pub(crate) fn gateway_address(&self) -> SocketAddr {
        self.port.address
    }

    /// Where the simulator listens.
    pub(crate) fn upstream_address(&self) -> SocketAddr {
        self.upstream_port.address
    }

    /// A file or directory of this site.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file into the directory of the configuration. In one step: the gateway looks at its certificates by
    /// itself, and must see either the old content or the new.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let (path, unfinished) = (self.path(name), self.path(&format!("{name}.unfinished")));
        std::fs::write(&unfinished, content).unwrap();
        std::fs::rename(unfinished, &path).unwrap();
        path
    }

    /// The configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.path("previewgate.toml")
    }

    /// Writes the configuration file: the lines that every test has, and `settings`.
    pub(crate) fn configure(&self, settings: &str) {
        self.write("previewgate.toml", self.text(self.port.address, settings));
    }

    /// Starts the gateway of this site, with these settings.
    pub(crate) fn start(&self, settings: &str) -> Gateway {
        self.configure(settings);
        self.bind(Start::ordinary()).start()
    }

    /// Starts one more gateway in front of the same simulator, with settings and an address of its own.
    pub(crate) fn start_another(&self, settings: &str) -> Gateway {
        self.start_another_by(Arc::new(SystemClock::new()), settings)
    }

    /// The same; the gateway judges by this clock.
    pub(crate) fn start_another_by(&self, clock: Arc<dyn Clock>, settings: &str) -> Gateway {
        let number = self.gateways.fetch_add(1, Ordering::Relaxed);
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let file = self.write(&format!("another-{number}.toml"), self.text(anywhere, settings));
        self.bind_from(file, Start { clock, ..Start::ordinary() }).start()
    }

    /// How the gateway of this site is reached, before it has started; without its operators' listener.
    pub(crate) fn access(&self) -> Access {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let (simulator, tls) = (self.handle.clone(), self.client_tls());
        Access { address: self.port.address, admin_address: nowhere, simulator, tls, pipes: None }
    }

    /// A client of the gateway, over TLS if the site uses TLS.
    pub(super) fn client_tls(&self) -> Option<Arc<ClientConfig>> {
        (self.tls != Tls::None).then(|| self.pki.identified())
    }

    /// Ends the simulator: nothing listens at its address any more.
    pub(crate) async fn stop_simulator(&mut self) {
        within("the simulator to stop", self.simulator.take().unwrap().stop()).await;
    }

    fn bind(&self, start: Start) -> Bound {
        self.bind_from(self.config_file(), start)
    }

    fn bind_from(&self, file: PathBuf, start: Start) -> Bound {
        let mut config = config::load(&file, Files::Check).unwrap_or_else(|problems| panic!("{problems}"));
        start.config.into_iter().for_each(|adjust| adjust(&mut config));
        Bound::new(config, file, self.handle.clone(), self.client_tls(), start.clock)
    }

    /// A configuration as an operator would write it.
    fn text(&self, address: SocketAddr, settings: &str) -> String {
        let upstreams: Vec<String> = match self.upstreams.as_slice() {
            [] if self.tls == Tls::None => vec![format!("http://{}", self.upstream_port.address)],
            [] => vec![format!("https://{}", self.upstream_port.address)],
            others => others.iter().map(|address| format!("http://{address}")).collect(),
        };
        let own = [
            ("listener.address", format!("\"{address}\"")),
            ("upstream.endpoints", format!("{upstreams:?}")),
            ("admin.address", "\"127.0.0.1:0\"".to_owned()),
            ("log.access", "\"all\"".to_owned()),
            ("runtime.workers", "1".to_owned()),
            ("shutdown.drain", "\"1s\"".to_owned()),
        ];
        let is_set = |key: &str| settings.lines().any(|line| line.trim_start().starts_with(key));
        let own: String =
            own.iter().filter(|(key, _)| !is_set(key)).map(|(key, value)| format!("{key} = {value}\n")).collect();
        let settings = settings
            .replace("{upstream}", &self.upstream_port.address.to_string())
            .replace("{gateway}", &self.port.address.to_string())
            .replace("{directory}", &self.directory.path().display().to_string());
        let tls = tables(self.tls, self.upstreams.is_empty());
        format!("{own}{settings}\n{tls}\n")
    }
}

/// The tables of TLS, for the listener and for the upstream if that is the simulator.
fn tables(tls: Tls, simulated: bool) -> String {
    let listener = match tls {
        Tls::None => "",
        Tls::Both => "[listener.tls]\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n",
        Tls::Mutual => {
            "[listener.tls]\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\nclient_ca = \"ca.crt\"\n"
        }
    };
    let upstream = match tls {
        Tls::None => "",
        _ if !simulated => "",
        Tls::Both => "[upstream.tls]\nca = \"upstream-ca.crt\"\n",
        Tls::Mutual => {
            "[upstream.tls]\nca = \"upstream-ca.crt\"\nclient_certificate = \"upstream-client.crt\"\n\
             client_private_key = \"upstream-client.key\"\n"
        }
    };
    format!("{listener}{upstream}")
}

/// A gateway and its site. Dropping it ends both.
pub(crate) struct Lab {
    // Before the site: it ends first.
    pub(crate) gateway: Gateway,
    pub(crate) site: Site,
}

impl Lab {
    /// Plain HTTP on both sides, every key at its default.
    pub(crate) async fn start() -> Self {
        Setup::plain().start().await
    }

    /// Replaces the settings in the configuration file and reloads it.
    #[track_caller]
    pub(crate) fn reload_with(&self, settings: &str) {
        self.site.configure(settings);
        self.gateway.reload().unwrap();
    }

    /// Ends the gateway in order, and starts it at the same address with these settings.
    pub(crate) async fn restart_with(self, settings: &str) -> Self {
        let Self { gateway, site } = self;
        gateway.close().await;
        Self { gateway: site.start(settings), site }
    }

    /// Ends the gateway in order and returns its log.
    pub(crate) async fn close(self) -> super::CapturedLog {
        self.gateway.close().await
    }
}

impl Deref for Lab {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

impl DerefMut for Lab {
    fn deref_mut(&mut self) -> &mut Gateway {
        &mut self.gateway
    }
}

/// The directory of the project, for files that belong to it.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
