//! Push: events that CC-Gateway posts to the application, relayed by the gateway (protocol.md 6.3 and 6.4).
//!
//! Two moments: a sign-in that asks for push gets the gateway's address in place of the application's ([`Relay::rewritten`],
//! called by `sign_in`), and pushes come there ([`relay`]): checked, recorded, and only then shown to the application,
//! which can act on what it is shown from inside its own push handler.
//!
//! **Who could abuse it.** Push addresses are on the listener that applications use, and whatever is posted to one with
//! a good signature counts as the platform's word about that agent. The signature is only ever sent to CC-Gateway: the
//! application that asked for the push never sees it, and it is kept out of logs. Whoever steals it can show one agent
//! made-up previews, and post to one address that is still allowed; a new `push.key` ends that.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, request};

use super::application::{Applications, PushFault};
use super::body::{GatewayBody, Inbound, Unread, read_whole};
use super::detached::Detached;
use super::error::GatewayError;
use super::exchange::Exchange;
use super::handler::boxed;
use super::observe::{record_events, warn};
use crate::config;
use crate::log_throttle::LogThrottle;
use crate::preview::AgentId;
use crate::protocol::push_address::{Claim, LONGEST_URL, PushForm, PushKey, Target};
use crate::protocol::sign_in::{PushAddress, with_addresses};
use crate::telemetry::metrics::PushOutcome;
use crate::tls::TlsError;
use crate::upstream::RequestBody;

const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// `[push]` at work.
pub struct Push {
    relay: Option<Relay>,
    /// Agents whose push is not relayed and who were warned about. Bounded by the number of agent IDs there are.
    unseen: Mutex<HashSet<AgentId>>,
    warnings: LogThrottle,
}

/// What is needed to rewrite sign-ins and to relay pushes.
pub(super) struct Relay {
    public_url: String,
    key: PushKey,
    applications: Applications,
}

impl Push {
    /// Relays nothing.
    pub fn off() -> Self {
        Self { relay: None, unseen: Mutex::default(), warnings: LogThrottle::every(WARNING_INTERVAL) }
    }

    /// Push as configured, off if it is not.
    ///
    /// # Errors
    /// When the key or the CAs cannot be read.
    pub fn new(config: &config::Config) -> Result<Self, PushSetupError> {
        let upstream = &config.upstream.endpoints;
        let relay = config.push.as_ref().map(|push| Relay::new(push, upstream)).transpose()?;
        Ok(Self { relay, ..Self::off() })
    }

    /// Whether pushes are relayed.
    pub(super) fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Whether this is the first time that this agent's push is not relayed.
    pub(super) fn is_news(&self, agent: AgentId) -> bool {
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
        /// The system's words.
        source: std::io::Error,
    },
    /// The CAs of `[push.tls]` cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Relay {
    fn new(push: &config::Push, upstream: &[config::UpstreamEndpoint]) -> Result<Self, PushSetupError> {
        let applications = Applications::new(push, upstream)?;
        Ok(Self { public_url: push.public_url.to_string(), key: key(&push.key)?, applications })
    }

    /// The sign-in `body` of `agent` with the gateway's addresses in place of the application's, or what is wrong with
    /// those, in one sentence for the client.
    pub(super) fn rewritten(
        &self,
        agent: AgentId,
        body: &[u8],
        addresses: &[PushAddress],
    ) -> Result<Vec<u8>, &'static str> {
        let issue = |address| self.issue(agent, address).map(|url| (address, url));
        let issued = addresses.iter().map(issue).collect::<Result<Vec<_>, _>>()?;
        Ok(with_addresses(body, issued))
    }

    fn issue(&self, agent: AgentId, address: &PushAddress) -> Result<String, &'static str> {
        let target = Target::parse(&address.url).map_err(|_| invalid(address.form))?;
        if !self.applications.allow(&target) {
            return Err(not_allowed(address.form));
        }
        let url = format!("{}{}", self.public_url, self.key.issue(address.form, agent, &target));
        if url.len() > LONGEST_URL { Err(invalid(address.form)) } else { Ok(url) }
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

/// A push that may be relayed.
struct Admitted {
    agent: AgentId,
    form: PushForm,
    target: Target,
    head: request::Parts,
    body: RequestBody,
}

/// Relays one push: from the platform's word to the application's answer.
pub(super) async fn relay(request: Request<Inbound>) -> Result<Response<GatewayBody>, GatewayError> {
    let exchange = Arc::clone(&request.body().exchange);
    match admit(&exchange, request).await {
        // CC-Gateway counts the events as delivered or delivers them again, and either way they are recorded: once
        // that is done the application gets them, whether CC-Gateway waits for its answer or not.
        Ok(push) => Detached::new(async move { ended(&exchange, record_and_post(&exchange, push).await) }).await,
        Err(error) => ended(&exchange, Err(error)),
    }
}

fn ended<T>(exchange: &Exchange, outcome: Result<T, GatewayError>) -> Result<T, GatewayError> {
    let word = match &outcome {
        Ok(_) => PushOutcome::Relayed,
        Err(GatewayError::Push(PushFault::Signature)) => PushOutcome::RefusedSignature,
        Err(GatewayError::Push(PushFault::Target)) => PushOutcome::RefusedTarget,
        Err(_) => PushOutcome::Failed,
    };
    exchange.gateway.metrics.pushes.ended(word);
    outcome
}

/// The signature is looked at before a byte of the body is read, and the target against the present configuration:
/// addresses live as long as sessions, and what is allowed may have changed.
async fn admit(exchange: &Exchange, request: Request<Inbound>) -> Result<Admitted, GatewayError> {
    let (head, mut body) = request.into_parts();
    let relay = exchange.gateway.push.relay().ok_or(PushFault::Signature)?;
    let claim = Claim::read(head.uri.path()).ok_or(PushFault::Signature)?;
    let target = relay.key.verify(claim).ok_or(PushFault::Signature)?;
    if !relay.applications.allow(&target) {
        log(exchange, &target, &PushFault::Target);
        return Err(PushFault::Target.into());
    }
    let (agent, form) = (claim.agent, claim.form);
    let limits = &exchange.gateway.config.limits;
    let read = tokio::time::timeout(limits.callout_body_timeout, read_whole(&mut body, limits.event_body)).await;
    let body = match read {
        Ok(Ok(bytes)) => RequestBody::Whole(bytes),
        // As with polls: the event matters more to the application than the preview in it to us.
        Ok(Err(Unread::TooLarge(beginning))) => RequestBody::Resumed(Some(beginning), boxed(body)),
        Ok(Err(Unread::Broken(_))) | Err(_) => return Err(GatewayError::BodyTimeout),
    };
    Ok(Admitted { agent, form, target, head, body })
}

/// Recorded first, because the application may call from inside its push handler. What is recorded stays, even if the
/// application then cannot be reached: the rule is that the platform gave *this agent* this contact, and it has; the
/// application may have got the push although its answer was lost; and the platform may deliver it again or another
/// way, when taking back could take back too much.
async fn record_and_post(exchange: &Exchange, push: Admitted) -> Result<Response<GatewayBody>, GatewayError> {
    let Admitted { agent, form, target, head, body } = push;
    let agents = match &body {
        RequestBody::Whole(bytes) => {
            let arrived = exchange.gateway.ledger.moment();
            record_events(exchange, &head.headers, bytes, Some(agent), form.delivery(), arrived)
        }
        RequestBody::Streamed(_) | RequestBody::Resumed(..) => {
            exchange.gateway.metrics.events.body_unread();
            warn(exchange, "push is too large to be looked into: its previews are unknown");
            Vec::new()
        }
    };
    exchange.gateway.ledger.share(&agents).await;
    let relay = exchange.gateway.push.relay().ok_or(PushFault::Signature)?;
    let answer = relay.applications.post(&target, Request::from_parts(head, body)).await;
    let answer = answer.inspect_err(|fault| log(exchange, &target, fault))?;
    Ok(answer.map(whole))
}

fn whole(bytes: Bytes) -> GatewayBody {
    GatewayBody::Whole(bytes)
}

/// Names the application by its origin only: its path may be its secret, and the push address is ours.
fn log(exchange: &Exchange, target: &Target, fault: &PushFault) {
    if !exchange.gateway.push.warnings.allow() {
        return;
    }
    let agent_id = exchange.operation.ok().and_then(|operation| operation.agent()).map(AgentId::as_u32);
    let request_id = exchange.request_id.to_str().unwrap_or_default();
    let cause = std::error::Error::source(fault).map(ToString::to_string).unwrap_or_default();
    let application = target.origin.to_string();
    tracing::warn!(target: "previewgate::push", agent_id, request_id, application, cause, "push not relayed: {fault}");
}
