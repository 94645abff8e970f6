//! The context of a request: everything that its head shows. It never changes afterwards.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body::Body;
use tokio::time::Instant;

use super::finish_on_drop::{Commitment, KeptPolls, Owner};
use super::headers::{GUID, REQUEST_ID};
use super::proxy_chain::ProxyChain;
use super::request_ids::{IdText, RequestId};
use super::services::{Generation, Services};
use super::trace_id::TraceId;
use crate::config::{Config, Limits};
use crate::downstream::framing::HeadFault;
use crate::downstream::{ClientAddress, Connection};
use crate::preview::AgentId;
use crate::protocol::{Classified, ClassifyRules, RequestHead, classify};

/// Longest request ID that is accepted from a client, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// Everything that is known of a request when its head has arrived.
pub(super) struct RequestContext {
    /// The configuration that handles the request from its first byte to its last.
    pub(super) generation: Arc<Generation>,
    /// The client's connection.
    pub(super) connection: Arc<Connection>,
    /// The client, if trusted proxies stand between it and the connection.
    client_behind_proxies: Option<ClientAddress>,
    /// The gateway's own name for the request: no other request has it.
    pub(super) own_id: RequestId,
    /// The client's name for the request, if it has one that is printable and short.
    given_id: Option<HeaderValue>,
    /// The gateway's own name as text.
    own_id_text: IdText,
    /// The trace that the request belongs to.
    pub(super) trace_id: Option<TraceId>,
    /// The method in the client's spelling.
    pub(super) method: Method,
    /// The credential that the request carries. It is never logged.
    pub(super) guid: Option<HeaderValue>,
    /// The origin of the page that sent the request, for browsers.
    pub(super) origin: Option<HeaderValue>,
    /// Why the framer refused the head, if it did.
    pub(super) head_fault: Option<HeadFault>,
    /// The operation, and whether the request may be a callout.
    pub(super) classified: Classified,
    /// When the head arrived.
    pub(super) started: Instant,
    /// The bytes of the request body so far. This and the commitment are the only things here that change.
    pub(super) received: AtomicU64,
    /// Whether the request must be finished if its client leaves.
    pub(super) commitment: Commitment,
}

impl Owner for RequestContext {
    fn commitment(&self) -> &Commitment {
        &self.commitment
    }

    fn kept_polls(&self) -> &KeptPolls {
        &self.services().kept_polls
    }
}

impl RequestContext {
    pub(super) fn new<B: Body>(
        generation: &Arc<Generation>,
        connection: &Arc<Connection>,
        request: &Request<B>,
    ) -> Self {
        let headers = request.headers();
        let head_fault = connection.fault_of(request);
        let classified = match head_fault {
            // hyper sees a stand-in for a refused head: it does not say what the client requested.
            Some(_) => Classified::refused(),
            None => {
                let has_body = !request.body().is_end_stream();
                let head = RequestHead { method: request.method(), uri: request.uri(), headers, has_body };
                let path_prefixes = &generation.config.upstream.path_prefixes;
                classify(&head, ClassifyRules { path_prefixes, push: generation.push.relay().is_some() })
            }
        };
        let own_id = generation.services.request_ids.next();
        // A held poll must not keep the whole buffer that its head was read into.
        let kept = |value: &HeaderValue| match classified.operation.is_long_poll() {
            true => HeaderValue::from_bytes(value.as_bytes()).ok(),
            false => Some(value.clone()),
        };
        Self {
            client_behind_proxies: client_behind_proxies(generation, connection, headers),
            own_id,
            given_id: given_request_id(headers).and_then(kept),
            own_id_text: own_id.text(),
            trace_id: TraceId::of(headers),
            generation: Arc::clone(generation),
            connection: Arc::clone(connection),
            method: request.method().clone(),
            guid: headers.get(GUID).and_then(kept),
            origin: headers.get(header::ORIGIN).and_then(kept),
            head_fault,
            classified,
            started: Instant::now(),
            received: AtomicU64::new(0),
            commitment: Commitment::default(),
        }
    }

    pub(super) fn services(&self) -> &Services {
        &self.generation.services
    }

    pub(super) fn config(&self) -> &Config {
        &self.generation.config
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.generation.config.limits
    }

    /// The agent that the request is about.
    pub(super) fn agent(&self) -> Option<AgentId> {
        self.classified.operation.agent()
    }

    /// The client: as trusted proxies name it, or the peer.
    pub(super) fn client(&self) -> &ClientAddress {
        self.client_behind_proxies.as_ref().unwrap_or(&self.connection.client)
    }

    /// Whether the connection belongs to a proxy and carries requests of many clients.
    pub(super) fn is_proxied(&self) -> bool {
        self.client_behind_proxies.is_some()
    }

    /// The tenant that the request belongs to, if the configuration names tenants.
    pub(super) fn tenant(&self) -> Option<&str> {
        let tenants = self.config().tenants.as_ref()?;
        let guid = self.guid.as_ref().and_then(|guid| guid.to_str().ok());
        let node = guid.and_then(|guid| guid.trim_ascii().rsplit_once('.')).map(|(_, node)| node);
        tenants.iter().find(|tenant| tenant.has(self.agent(), node)).map(|tenant| tenant.name.as_str())
    }

    /// The client's name for the request if it has one, otherwise the gateway's own: for the upstream and the client.
    pub(super) fn request_id(&self) -> HeaderValue {
        let own = || HeaderValue::from_str(self.own_id_text.as_str()).unwrap_or(HeaderValue::from_static("-"));
        self.given_id.clone().unwrap_or_else(own)
    }

    /// The gateway's own name as text.
    pub(super) fn own_id(&self) -> &str {
        self.own_id_text.as_str()
    }

    /// The client's name for the request, or the gateway's own, for a log line.
    pub(super) fn id(&self) -> &str {
        let given = self.given_id.as_ref().and_then(|id| id.to_str().ok());
        given.unwrap_or(self.own_id_text.as_str())
    }

    /// The credential's bytes; empty if there is none.
    pub(super) fn guid_bytes(&self) -> &[u8] {
        self.guid.as_ref().map(HeaderValue::as_bytes).unwrap_or_default()
    }

    /// Logs a warning about events or sessions that cannot be read. Throttled: a broken upstream repeats it with each
    /// answer.
    pub(super) fn warn_about_events(&self, message: &'static str) {
        if self.services().event_warnings.allow() {
            let agent_id = self.agent().map(AgentId::as_u32);
            tracing::warn!(target: "previewgate::events", agent_id, request_id = self.id(), "{message}");
        }
    }
}

/// The client's request ID if it is short and plain.
fn given_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    headers.get(REQUEST_ID).filter(|id| {
        let bytes = id.as_bytes();
        (1..=MAX_REQUEST_ID).contains(&bytes.len()) && bytes.iter().copied().all(plain)
    })
}

fn client_behind_proxies(
    generation: &Generation,
    connection: &Connection,
    headers: &HeaderMap,
) -> Option<ClientAddress> {
    let listener = &generation.config.listener;
    listener.trusted_proxies.as_ref()?;
    let chain = ProxyChain::read(headers, connection.client.ip, |ip| listener.trusts(ip));
    if chain.contradicts_itself && generation.services.proxy_warnings.allow() {
        tracing::warn!(
            target: "previewgate::server",
            proxy = %connection.client.ip,
            "X-Forwarded-For and Forwarded name different clients: both are ignored"
        );
    }
    chain.client.map(ClientAddress::from)
}
