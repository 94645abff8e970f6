//! The context of a request: everything that its head shows. It never changes afterwards.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body::Body;
use tokio::time::Instant;

use super::headers::{GUID, REQUEST_ID};
use super::request_ids::RequestIds;
use super::services::{Generation, Services};
use crate::config::{Config, Limits};
use crate::downstream::Connection;
use crate::downstream::framing::HeadFault;
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
    /// The ID for the upstream, the logs and the client: printable and bounded.
    pub(super) request_id: HeaderValue,
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
        Self {
            request_id: request_id(headers, &generation.services.request_ids),
            generation: Arc::clone(generation),
            connection: Arc::clone(connection),
            method: request.method().clone(),
            guid: headers.get(GUID).cloned(),
            origin: headers.get(header::ORIGIN).cloned(),
            head_fault,
            classified,
            started: Instant::now(),
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

    /// The request ID as text, for a log line.
    pub(super) fn id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
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

/// The client's request ID if it is short and plain, otherwise a new one.
fn request_id(headers: &HeaderMap, ids: &RequestIds) -> HeaderValue {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let given = headers.get(REQUEST_ID).filter(|id| {
        let bytes = id.as_bytes();
        (1..=MAX_REQUEST_ID).contains(&bytes.len()) && bytes.iter().copied().all(plain)
    });
    given.cloned().unwrap_or_else(|| ids.next())
}
