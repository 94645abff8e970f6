//! The faults of the simulator: which fault, for which requests, and how often.

use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::events::text;
use super::request::Resource;
use crate::preview::AgentId;

/// One way to break an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// The correct response, later.
    Delay {
        /// The delay.
        milliseconds: u64,
    },
    /// The exchange ends early.
    Break {
        /// The stage at which it ends.
        at: Stage,
        /// The way in which it ends.
        how: Ending,
    },
    /// Bytes that are not HTTP in place of the response, then the end of the connection.
    GarbageStatusLine,
    /// The correct head, and a body that is not JSON.
    GarbageBody,
    /// This status with an HTML page. The request is not executed.
    ServerError {
        /// 500 to 599.
        status: u16,
    },
    /// The correct response, then the end of the connection without an announcing header.
    CloseAfterAnswer,
    /// The correct response, and directly after it a second one without a request.
    ExtraResponse,
    /// The correct response with both `Content-Length` and `Transfer-Encoding: chunked`, sent in chunks.
    LengthAndChunked,
    /// Interim responses (102 and 103 in turn) before the correct one.
    Informational {
        /// Their number.
        count: u32,
    },
    /// An envelope with one event of about this size in place of the correct response.
    HugeEvent {
        /// Size of its `callData`.
        bytes: usize,
    },
}

/// The point at which an exchange breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The next connection, before its first byte and before any TLS handshake. No request is known yet: the rule's
    /// method, path and agent do not count.
    OnAccept,
    /// After the head and before the body. The request is not executed.
    BeforeRequest,
    /// The request is executed (a callout rings), but gets no response.
    AfterRequest,
    /// After half of the response head.
    InsideHead,
    /// After the response head.
    AfterHead,
    /// After half of the response body.
    InsideBody,
}

/// How a broken exchange ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// TCP reset.
    Reset,
    /// An orderly end: FIN, and `close_notify` under TLS.
    Close,
    /// No more bytes. The connection stays open until the peer or the simulator closes it.
    Stall,
}

/// A fault and the requests that it applies to: by default the next request.
///
/// ```
/// # use previewgate_io as previewgate;
/// use previewgate::simulator::{Ending, Fault, Misbehaviour, Stage};
/// Misbehaviour::new(Fault::Break { at: Stage::AfterRequest, how: Ending::Reset }).on("previewCallout").times(2);
/// ```
#[derive(Clone, Debug, Deserialize)]
pub struct Misbehaviour {
    #[serde(flatten)]
    fault: Fault,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default, deserialize_with = "agent_id")]
    agent: Option<AgentId>,
    #[serde(default = "once")]
    times: u32,
}

impl Misbehaviour {
    /// Applies to the next request.
    pub fn new(fault: Fault) -> Self {
        Self { fault, method: None, path: None, agent: None, times: 1 }
    }

    /// Only requests whose path contains this, ASCII case-insensitively: `previewCallout`, `agentevent/101`.
    pub fn on(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Only requests with this method.
    pub fn with_method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Only requests of this agent.
    pub fn of(mut self, agent: AgentId) -> Self {
        self.agent = Some(agent);
        self
    }

    /// The rule applies to this number of matching requests.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// The rule applies to every matching request until it is cleared.
    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }

    fn befalls(&self, method: &str, resource: &Resource) -> bool {
        let path = || resource.path().to_ascii_lowercase();
        !self.is_on_accept()
            && self.method.as_deref().is_none_or(|wanted| wanted == method)
            && self.path.as_deref().is_none_or(|part| path().contains(&part.to_ascii_lowercase()))
            && (self.agent.is_none() || self.agent == resource.agent())
    }

    fn is_on_accept(&self) -> bool {
        matches!(self.fault, Fault::Break { at: Stage::OnAccept, .. })
    }
}

fn once() -> u32 {
    1
}

fn agent_id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<AgentId>, D::Error> {
    let id = serde_json::Value::deserialize(deserializer)?;
    let id = text(&id).ok_or_else(|| serde::de::Error::custom("an agent ID is a string or a number"))?;
    id.parse().map(Some).map_err(serde::de::Error::custom)
}

/// The rules in force, oldest first; the first that matches is used up.
#[derive(Default)]
pub(super) struct Rules(Mutex<Vec<Misbehaviour>>);

impl Rules {
    pub(super) fn add(&self, rule: Misbehaviour) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The fault of this request, if one is due.
    pub(super) fn take(&self, method: &str, resource: &Resource) -> Option<Fault> {
        self.take_first(|rule| rule.befalls(method, resource))
    }

    /// How a connection ends right after it was accepted, if a rule says so.
    pub(super) fn take_on_accept(&self) -> Option<Ending> {
        match self.take_first(Misbehaviour::is_on_accept)? {
            Fault::Break { how, .. } => Some(how),
            _ => None,
        }
    }

    fn take_first(&self, matches: impl Fn(&Misbehaviour) -> bool) -> Option<Fault> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let position = rules.iter().position(|rule| rule.times > 0 && matches(rule))?;
        let rule = rules.get_mut(position)?;
        let fault = rule.fault.clone();
        if rule.times != u32::MAX {
            rule.times -= 1;
        }
        rules.retain(|rule| rule.times > 0);
        Some(fault)
    }
}
