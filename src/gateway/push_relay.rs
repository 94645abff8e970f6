//! The relay for pushes as `[push]` configures it: the gateway's push addresses in sign-ins, and the key that signs them.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::push_client::PushClient;
use crate::config::{self, Network};
use crate::log_throttle::LogThrottle;
use crate::preview::{AgentId, Timestamp};
use crate::protocol::push_address::{MAX_URL, PushForm, PushKey, Target};
use crate::protocol::sign_in::{PushAddress, with_addresses};
use crate::tls::TlsError;

/// Minimum interval between two warnings about pushes that are not relayed.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// `[push]` in force.
pub struct Push {
    relay: Option<Relay>,
    /// Agents whose push is not relayed and about whom a warning was logged. Bounded by the number of agent IDs.
    unseen: Mutex<HashSet<AgentId>>,
    pub(super) warnings: LogThrottle,
}

/// The key, the gateway's own address and the way to the applications.
pub(super) struct Relay {
    public_url: String,
    sources: Option<Vec<Network>>,
    pub(super) key: PushKey,
    pub(super) client: PushClient,
}

impl Push {
    /// Relays nothing.
    pub fn off() -> Self {
        Self { relay: None, unseen: Mutex::default(), warnings: LogThrottle::every(WARNING_INTERVAL) }
    }

    /// Push as configured, off if it is not. `own` are the addresses of this gateway's listeners: never a target.
    ///
    /// # Errors
    /// When the key or the CAs cannot be read.
    pub fn new(config: &config::Config, own: &[SocketAddr]) -> Result<Self, PushSetupError> {
        let upstream = &config.upstream.endpoints;
        let relay = config.push.as_ref().map(|push| Relay::new(push, upstream, own)).transpose()?;
        Ok(Self { relay, ..Self::off() })
    }

    /// Whether pushes are relayed.
    pub(super) fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Whether this is the first warning about this agent since the configuration came into force.
    pub(super) fn is_first_warning(&self, agent: AgentId) -> bool {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner).insert(agent)
    }
}

/// Why pushes cannot be relayed.
#[derive(Debug, thiserror::Error)]
pub enum PushSetupError {
    /// The key cannot be read.
    #[error("push.key {}: {source}", path.display())]
    Key {
        /// The file.
        path: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The CAs of `[push.tls]` cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Relay {
    fn new(
        push: &config::Push,
        upstream: &[config::UpstreamEndpoint],
        own: &[SocketAddr],
    ) -> Result<Self, PushSetupError> {
        let client = PushClient::new(push, upstream, own)?;
        Ok(Self {
            public_url: push.public_url.to_string(),
            sources: push.sources.clone(),
            key: key(&push.key)?,
            client,
        })
    }

    /// Whether pushes are accepted from `source`.
    pub(super) fn accepts(&self, source: IpAddr) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.iter().any(|network| network.contains(source)))
    }

    /// The sign-in `body` of `agent` (`None`: by account), which began at `issued`, with the gateway's addresses in place
    /// of the application's. An error says in one sentence for the client what is wrong with those.
    pub(super) fn rewritten(
        &self,
        agent: Option<AgentId>,
        issued: Timestamp,
        body: &[u8],
        addresses: &[PushAddress],
    ) -> Result<Vec<u8>, &'static str> {
        let issue = |address| self.issue(agent, issued, address).map(|url| (address, url));
        let issued = addresses.iter().map(issue).collect::<Result<Vec<_>, _>>()?;
        Ok(with_addresses(body, issued))
    }

    fn issue(&self, agent: Option<AgentId>, issued: Timestamp, address: &PushAddress) -> Result<String, &'static str> {
        let target = Target::parse(&address.url).map_err(|_| invalid(address.form))?;
        if !self.client.allow(&target) {
            return Err(not_allowed(address.form));
        }
        let url = format!("{}{}", self.public_url, self.key.issue(address.form, agent, issued, &target));
        if url.len() > MAX_URL { Err(invalid(address.form)) } else { Ok(url) }
    }
}

fn invalid(form: PushForm) -> &'static str {
    match form {
        PushForm::CallBackUri => "callBackUri is not an http or https URL that the gateway can relay to",
        PushForm::PushUrl => "pushUrl is not an http or https URL that the gateway can relay to",
    }
}

fn not_allowed(form: PushForm) -> &'static str {
    match form {
        PushForm::CallBackUri => "callBackUri names an address that the gateway is not allowed to push to",
        PushForm::PushUrl => "pushUrl names an address that the gateway is not allowed to push to",
    }
}

fn key(path: &Path) -> Result<PushKey, PushSetupError> {
    let wrong = |source| PushSetupError::Key { path: path.to_owned(), source };
    std::fs::read(path).map(|secret| PushKey::new(&secret)).map_err(wrong)
}
