//! The state that all requests share: [`Services`] lives as long as the process, [`Generation`] as long as one
//! configuration.
//!
//! A reload builds the next generation over the same services and puts it in force in one step. A request belongs to
//! the generation that was in force when its head arrived.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::account_sign_ins::AccountSignIns;
use super::audit_trail::AuditTrail;
use super::certificates::{Certificates, UnfitCertificate};
use super::clients::Clients;
use super::cors::Origins;
use super::drain::Drain;
use super::finish_on_drop::KeptPolls;
use super::flight_recorder::FlightRecorder;
use super::load::Load;
use super::poll_rate::PollRate;
use super::push_relay::{Push, PushSetupError};
use super::refusal_lines::RefusalLines;
use super::request_ids::RequestIds;
use crate::audit::ConfigTrigger;
use crate::config::{Config, Log};
use crate::downstream::Acceptor;
use crate::log_throttle::LogThrottle;
use crate::preview::{Clock, Timestamp};
use crate::store::Ledger;
use crate::telemetry::{HashKey, Metrics, Redactor};
use crate::tls::{CertificateNotice, TlsError};
use crate::upstream::{Dial, TcpDial, Upstream};

/// Minimum interval between two warnings about events, and between two about the upstream.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// The state that lives as long as the process. All workers share it.
pub struct Services {
    /// The state of all agents: previews, sessions, recent ends.
    pub ledger: Arc<Ledger>,
    /// The audit log.
    pub audit: AuditTrail,
    /// The addresses that this gateway listens on.
    pub own_addresses: Vec<SocketAddr>,
    /// Sign-ins by account whose push addresses are in use.
    pub account_sign_ins: AccountSignIns,
    /// The time by which previews are judged.
    pub clock: Arc<dyn Clock>,
    /// The process's own clock, which is never set: for what does not concern other processes.
    pub own_clock: Arc<dyn Clock>,
    /// Until when callouts of agents without a known preview are forwarded (`validation.warm_up`), by the own clock.
    pub warm_up_until: Option<Timestamp>,
    /// How the endpoints of the upstream are reached.
    pub dial: Arc<dyn Dial>,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Masks numbers in logs.
    pub redactor: Redactor,
    /// The CORS grants of the upstream.
    pub origins: Origins,
    /// The last decisions on callouts.
    pub flight_recorder: FlightRecorder,
    /// Makes the gateway's own IDs of requests.
    pub request_ids: RequestIds,
    /// The number of requests in flight.
    pub load: Arc<Load>,
    /// How often agents poll.
    pub poll_rate: PollRate,
    /// The places that each client holds.
    pub clients: Clients,
    /// How far the end of the process has come, for requests that wait.
    pub drain: Drain,
    /// Polls that are kept for a moment after their client has left.
    pub kept_polls: KeptPolls,
    /// How many refusals of each client are logged.
    pub refusal_lines: RefusalLines,
    /// Throttles warnings about events that cannot be read.
    pub event_warnings: LogThrottle,
    /// Throttles warnings about proxies that contradict themselves.
    pub proxy_warnings: LogThrottle,
    /// Throttles warnings about an upstream that fails.
    pub upstream_warnings: LogThrottle,
}

/// Why services cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// The key of `called_hash` cannot be read.
    #[error("log.hash_key {}: {source}", path.display())]
    HashKey {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The key of the hashes of GUIDs cannot be read.
    #[error("previews.session_key {}: {source}", path.display())]
    SessionKey {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system's random numbers are not available.
    #[error("the system has no random numbers")]
    NoRandomness,
}

impl Services {
    /// The services of a process that starts with `config`: without previews, without audit log, and not warming up.
    ///
    /// # Errors
    /// When `log.hash_key` or `previews.session_key` cannot be read, or when no random key can be made.
    pub fn new(config: &Config, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Self, ServicesError> {
        let ledger = Ledger::new(&config.previews, Arc::clone(&clock), Arc::clone(&metrics));
        if let Some(path) = &config.previews.session_key {
            let unreadable = |source| ServicesError::SessionKey { path: path.clone(), source };
            ledger.use_session_key(&std::fs::read(path).map_err(unreadable)?);
        }
        Ok(Self {
            audit: AuditTrail::default(),
            own_addresses: Vec::new(),
            account_sign_ins: AccountSignIns::new(config.previews.max_agents),
            clock: ledger.clock(),
            own_clock: clock,
            ledger: Arc::new(ledger),
            warm_up_until: None,
            dial: Arc::new(TcpDial),
            refusal_lines: RefusalLines::new(Arc::clone(&metrics)),
            metrics,
            redactor: Redactor::new(config.log.mask_numbers, hash_key(&config.log)?),
            origins: Origins::new(),
            flight_recorder: FlightRecorder::default(),
            request_ids: RequestIds::new(),
            load: Arc::new(Load::default()),
            poll_rate: PollRate::default(),
            clients: Clients::default(),
            drain: Drain::default(),
            kept_polls: KeptPolls::default(),
            event_warnings: LogThrottle::every(WARNING_INTERVAL),
            proxy_warnings: LogThrottle::every(WARNING_INTERVAL),
            upstream_warnings: LogThrottle::every(WARNING_INTERVAL),
        })
    }

    /// Records everything in this audit log from now on.
    pub fn use_audit(&mut self, audit: AuditTrail, config: &Config) {
        audit.report_to(&self.metrics);
        audit.config(ConfigTrigger::Start, config);
        if let Some(observer) = audit.end_observer() {
            self.ledger.observe_ends(observer);
        }
        self.audit = audit;
    }

    /// The number of polls that the upstream may hold.
    pub fn forwarded_polls(&self) -> usize {
        self.load.held_polls().saturating_sub(self.drain.parked())
    }

    /// Whether previews that agents were shown before the start may still be unknown.
    pub fn is_warming_up(&self) -> bool {
        self.warm_up_until.is_some_and(|end| self.own_clock.now() < end)
    }
}

fn hash_key(log: &Log) -> Result<HashKey, ServicesError> {
    match &log.hash_key {
        Some(path) => {
            let unreadable = |source| ServicesError::HashKey { path: path.clone(), source };
            std::fs::read(path).map(|secret| HashKey::from_bytes(&secret)).map_err(unreadable)
        }
        None => HashKey::random().map_err(|_| ServicesError::NoRandomness),
    }
}

/// One configuration in force, and everything that follows from it and from the files that it names.
pub struct Generation {
    /// Shared with the generations before and after.
    pub services: Arc<Services>,
    /// The configuration.
    pub config: Config,
    /// The relay for pushes, as `[push]` configures it.
    pub push: Push,
    /// Endpoints, their health, and TLS towards them.
    pub upstream: Arc<Upstream>,
    /// TLS towards the clients; `None` for plain HTTP.
    pub acceptor: Option<Acceptor>,
    /// The certificates that it was built from.
    pub certificates: Certificates,
}

/// Why a valid configuration cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Pushes cannot be relayed.
    #[error(transparent)]
    Push(#[from] PushSetupError),
    /// A valid certificate would be replaced by one that is not.
    #[error(transparent)]
    Certificate(#[from] UnfitCertificate),
}

impl Generation {
    /// Builds what follows from `config`: the one way to a generation, at the start and at each reload. Endpoints that
    /// `previous` has as well keep their health.
    ///
    /// # Errors
    /// When certificates, keys or the push key cannot be used, or when a valid certificate of `previous` would be
    /// replaced by one that is not.
    pub fn build(services: &Arc<Services>, config: Config, previous: Option<&Self>) -> Result<Self, SetupError> {
        let certificates = Certificates::read(&config);
        if let Some(previous) = previous {
            certificates.check_replacing(&previous.certificates, SystemTime::now())?;
        }
        let earlier = previous.map(|previous| &*previous.upstream);
        let upstream =
            Arc::new(Upstream::new(&config, Arc::clone(&services.metrics), Arc::clone(&services.dial), earlier)?);
        let acceptor = config.listener.tls.as_ref().map(Acceptor::new).transpose()?;
        let push = Push::new(&config, &services.own_addresses)?;
        services.metrics.tenants.configure(config.tenants.iter().flatten().map(|tenant| tenant.name.as_str()));
        certificates.report_expiry(&services.metrics);
        upstream.report_certificates();
        Ok(Self { services: Arc::clone(services), config, push, upstream, acceptor, certificates })
    }

    /// What an operator should know now about its certificates, and about those that endpoints have shown.
    pub fn certificate_notices(&self) -> Vec<CertificateNotice> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(self.services.clock.wall().0);
        let mut notices = self.certificates.notices(now);
        notices.extend(self.upstream.endpoints().iter().filter_map(|endpoint| endpoint.certificate_notice(now)));
        notices
    }
}
