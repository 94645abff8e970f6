//! The input of the audit log: the content of a record before it is hashed and bounded.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::digest::Digest;
use crate::preview::{
    AgentId, AgentPreviews, Announcement, ControlId, DialedNumber, Reason, RecordId, Rule, Timestamp, Verdict,
};

/// A decision that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionRef {
    /// Its name.
    pub id: RecordId,
    /// Its position in the chain; absent if the callout did not wait for its record.
    pub seq: Option<u64>,
}

/// An event that shows a preview.
#[derive(Clone, Debug)]
pub struct ShownFacts<'a> {
    /// The agent.
    pub agent: AgentId,
    /// The control ID and the numbers that the event shows.
    pub announcement: &'a Announcement,
    /// The platform's name for the event.
    pub event_type: &'a str,
    /// How it reached the application.
    pub delivery: &'a str,
    /// The digest of the answer or push that carries it.
    pub event: Digest,
    /// Its position in that answer or push.
    pub position: u64,
    /// When the platform made it.
    pub generated_at: Option<u64>,
    /// The session's GUID.
    pub guid: Option<&'a [u8]>,
    /// The members of `callData` that are kept.
    pub evidence: &'a BTreeMap<String, Evidence>,
}

/// A member of `callData` that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// As it is.
    Value(String),
    /// As its keyed hash.
    Hash(String),
}

/// A callout that was judged.
#[derive(Clone)]
pub struct DecisionFacts<'a> {
    /// The name of its record: that of the request.
    pub id: RecordId,
    /// The agent, if the path names one.
    pub agent: Option<AgentId>,
    /// The result.
    pub verdict: Verdict,
    /// The reason.
    pub reason: Reason,
    /// The tenant, if the configuration names tenants.
    pub tenant: Option<&'a str>,
    /// `validation.mode`
    pub mode: &'a str,
    /// The setting that let it through although the rule refused it, in `enforce` mode.
    pub allowed_by: Option<&'a str>,
    /// The number to call, if it could be read.
    pub called: Option<&'a DialedNumber>,
    /// The control ID, if it could be read.
    pub control_id: Option<ControlId>,
    /// The agent's previews that the callout was judged by.
    pub previews: Option<&'a AgentPreviews>,
    /// When it was judged.
    pub at: Timestamp,
    /// `previews.ttl` and `previews.calls_per_number`
    pub rule: Rule,
    /// Where the previews came from; absent if the rule was not applied.
    pub judged_by: Option<&'a str>,
    /// The client's address.
    pub client: Option<&'a str>,
    /// The SHA-256 of the client's certificate.
    pub certificate: Option<Digest>,
    /// The session's GUID.
    pub guid: Option<&'a [u8]>,
    /// The relation of that GUID to the agent: `own`, `foreign` or `unknown`.
    pub session_match: Option<&'a str>,
    /// The callout is sent although its record is not written yet.
    pub unconfirmed: bool,
    /// The request's ID.
    pub request_id: &'a str,
    /// The request's trace ID.
    pub trace_id: Option<&'a dyn Display>,
}

/// The result of a callout.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutcomeFacts<'a> {
    /// `answered`, `failed` or `not_sent`.
    pub result: &'a str,
    /// The reason, if it was not answered.
    pub reason: Option<Reason>,
    /// It was sent before its decision was confirmed.
    pub unconfirmed: bool,
    /// The HTTP status of the upstream's answer.
    pub status: Option<u16>,
    /// `retcode`
    pub retcode: Option<&'a str>,
    /// The platform's name for the call.
    pub call_id: Option<&'a str>,
    /// The endpoint.
    pub upstream: Option<&'a str>,
    /// The upstream's part of the time.
    pub upstream_duration: Option<Duration>,
}

/// A report of the platform on a call.
#[derive(Clone, Copy, Debug)]
pub struct CallFacts<'a> {
    /// The agent.
    pub agent: AgentId,
    /// The platform's name for the call.
    pub call_id: &'a str,
    /// The platform's name for the event.
    pub event_type: &'a str,
    /// `alerting`, `talking`, `failed` or `released`.
    pub phase: &'a str,
    /// The digest of the event's bytes.
    pub event: Digest,
    /// When the platform made it.
    pub generated_at: Option<u64>,
}
