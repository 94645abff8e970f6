//! One request and its answer, as it will be told afterwards.
//!
//! An [`Exchange`] is begun by `entry`, filled in by whoever learns something, and recorded when it is over: the
//! decision as soon as it is known what the client gets, the access line and the metrics when the last one who works
//! on it lets go. So a client that vanishes, a body that takes minutes and a callout that completes after its client
//! has gone are all recorded once, without anybody having to remember to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body::Body;
use hyper::body::Incoming;

use super::Gateway;
use super::checks::{is_preflight, may_be_led_to_callouts};
use super::headers::{GUID, REQUEST_ID};
use super::shed::Permit;
use crate::config::AccessLog;
use crate::downstream::framing::HeadFault;
use crate::downstream::{Connection, Serving};
use crate::failure::Blame;
use crate::preview::{Callout, Reason, Verdict};
use crate::protocol::operation::{classify_push, concerns_callouts};
use crate::protocol::{Envelope, Operation, OperationName, Unclassified, classify};
use crate::telemetry::{AccessRecord, DecisionRecord};

/// Longest request ID that is taken over from a client.
const LONGEST_REQUEST_ID: usize = 64;

/// What is known about one request.
pub(super) struct Exchange {
    pub(super) gateway: Arc<Gateway>,
    pub(super) connection: Arc<Connection>,
    /// For the upstream, the logs and the client, printable and bounded.
    pub(super) request_id: HeaderValue,
    pub(super) method: Method,
    /// The credential that the request came with; never shown.
    pub(super) guid: Option<HeaderValue>,
    /// The page that sent it, for browsers.
    pub(super) origin: Option<HeaderValue>,
    /// Why the request's head was refused, if it was.
    pub(super) head_fault: Option<HeadFault>,
    /// What the request is for.
    pub(super) operation: Result<Operation, Unclassified>,
    /// Whether its outcome belongs into the decision log.
    pub(super) concerns_callouts: bool,
    started: Instant,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    facts: Mutex<Facts>,
    _serving: Serving,
}

/// What is learnt on the way.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) callout: Option<Callout>,
    pub(super) preview_age: Option<Duration>,
    pub(super) judgement: Option<(Verdict, Reason)>,
    /// `retcode` and `result` that the client got.
    pub(super) envelope: Envelope,
    pub(super) upstream_duration: Option<Duration>,
    pub(super) status: Option<u16>,
    pub(super) blame: Option<(Blame, &'static str)>,
    decision_recorded: bool,
    permit: Option<Permit>,
    endpoint_name: Option<Arc<str>>,
}

impl Exchange {
    pub(super) fn begin(
        gateway: &Arc<Gateway>,
        connection: &Arc<Connection>,
        request: &Request<Incoming>,
    ) -> Arc<Self> {
        let path = request.uri().path();
        let head_fault = connection.fault_of(request);
        // The stand-in for a refused head says nothing about what the client asked.
        let operation = match head_fault {
            Some(_) => Err(Unclassified::NotFound),
            None => {
                let push = gateway.push.relay().and_then(|_| classify_push(request.method(), path));
                push.map_or_else(|| classify(request.method(), path, &gateway.config.upstream.path_prefixes), Ok)
            }
        };
        let concerns_callouts = match operation {
            Ok(Operation::PreviewCallout { .. }) => true,
            Ok(Operation::CalloutPreflight) => {
                !is_preflight(request.uri(), request.headers(), !request.body().is_end_stream())
            }
            Ok(_) => may_be_led_to_callouts(request.headers()),
            Err(Unclassified::NotFound) => false,
            Err(_) => concerns_callouts(path),
        };
        Arc::new(Self {
            gateway: Arc::clone(gateway),
            connection: Arc::clone(connection),
            request_id: request_id(request.headers(), &gateway.request_ids),
            method: request.method().clone(),
            guid: request.headers().get(GUID).cloned(),
            origin: request.headers().get(header::ORIGIN).cloned(),
            head_fault,
            operation,
            concerns_callouts,
            started: Instant::now(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            facts: Mutex::default(),
            _serving: connection.serving(),
        })
    }

    /// Writes down what was learnt.
    pub(super) fn learn(&self, fact: impl FnOnce(&mut Facts)) {
        fact(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn upstream_answered(&self, name: &Arc<str>, duration: Duration) {
        self.gateway.metrics.upstream.answered(self.operation_name(), duration);
        self.learn(|facts| {
            facts.endpoint_name = Some(Arc::clone(name));
            facts.upstream_duration = Some(duration);
        });
    }

    /// The endpoint may have got the request: whoever looks into it afterwards has to know where.
    pub(super) fn upstream_unclear(&self, name: &Arc<str>) {
        self.learn(|facts| facts.endpoint_name = Some(Arc::clone(name)));
    }

    /// Keeps a place among the requests in flight until the exchange is over.
    pub(super) fn hold(&self, permit: Permit) {
        self.learn(|facts| facts.permit = Some(permit));
    }

    pub(super) fn received(&self, bytes: &Bytes) {
        self.bytes_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: &Bytes) {
        self.bytes_out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    pub(super) fn operation_name(&self) -> OperationName {
        match self.operation {
            Ok(operation) => operation.name(),
            Err(_) if self.concerns_callouts => OperationName::PreviewCallout,
            Err(_) => OperationName::Unroutable,
        }
    }

    /// The decision is final and the client's answer known (or known to be lost): writes the decision line, once.
    pub(super) fn record_decision(&self) {
        if self.concerns_callouts {
            self.learn(|facts| {
                if !std::mem::replace(&mut facts.decision_recorded, true) {
                    self.write_decision(facts);
                }
            });
        }
    }

    fn write_decision(&self, facts: &Facts) {
        // Not judged: the client went away before its request was complete.
        let (verdict, reason) = facts.judgement.unwrap_or((Verdict::Rejected, Reason::MalformedBody));
        self.gateway.metrics.callouts.decided(verdict, reason);
        if let Some(age) = facts.preview_age {
            self.gateway.metrics.callouts.preview_age(age);
        }
        let record = DecisionRecord {
            agent_id: self.operation.ok().and_then(Operation::agent),
            verdict,
            reason,
            mode: self.gateway.config.validation.mode,
            called: facts.callout.as_ref().map(|callout| &callout.called),
            control_id: facts.callout.as_ref().map(|callout| callout.control_id),
            preview_age: facts.preview_age,
            retcode: facts.envelope.retcode.as_deref(),
            call_id: facts.envelope.result.as_deref(),
            upstream: facts.endpoint_name.as_deref(),
            status: facts.status,
            duration: self.started.elapsed(),
            upstream_duration: facts.upstream_duration,
            request_id: self.request_id.to_str().unwrap_or_default(),
            client: Some(&self.connection.client.text),
        };
        record.emit(&self.gateway.redactor);
    }

    fn write_access(&self, facts: &Facts, duration: Duration) {
        let (blame, cause) = match (facts.blame, facts.status) {
            (Some((blame, cause)), _) => (blame, Some(cause)),
            (None, None) => (Blame::Client, Some("client_gone")),
            (None, Some(_)) => (Blame::None, None),
        };
        let record = AccessRecord {
            operation: self.operation_name(),
            method: self.method.as_str(),
            agent_id: self.operation.ok().and_then(Operation::agent),
            status: facts.status,
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            duration,
            upstream_duration: facts.upstream_duration,
            request_id: self.request_id.to_str().unwrap_or_default(),
            client: Some(&self.connection.client.text),
            upstream: facts.endpoint_name.as_deref(),
            blame,
            cause,
        };
        record.emit();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.record_decision();
        let duration = self.started.elapsed();
        let facts = std::mem::take(self.facts.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.gateway.metrics.requests.finished(self.operation_name(), facts.status, duration);
        let wanted = match self.gateway.config.log.access {
            AccessLog::None => false,
            AccessLog::Callouts => self.concerns_callouts,
            AccessLog::All => true,
        };
        if wanted {
            self.write_access(&facts, duration);
        }
    }
}

/// The client's request ID if it is harmless, else a new one.
fn request_id(headers: &HeaderMap, ids: &RequestIds) -> HeaderValue {
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let given = headers.get(REQUEST_ID).filter(|id| {
        let bytes = id.as_bytes();
        (1..=LONGEST_REQUEST_ID).contains(&bytes.len()) && bytes.iter().copied().all(sane)
    });
    given.cloned().unwrap_or_else(|| ids.next())
}

/// Makes request IDs: 64 random bits for the process and a number within it, so that they are unique among all
/// instances without any of them knowing the others, and sort in the order of arrival within one.
#[derive(Debug)]
pub struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// A new series.
    pub fn new() -> Self {
        let mut bits = [0; 8];
        // Without randomness there could be no TLS either; zeros would make poor IDs, not dangerous ones.
        let _ = aws_lc_rs::rand::fill(&mut bits);
        Self { process: u64::from_ne_bytes(bits), next: AtomicU64::new(0) }
    }

    fn next(&self) -> HeaderValue {
        let id = format!("{:016x}-{:x}", self.process, self.next.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}
