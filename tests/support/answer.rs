//! An answer as it was spelled on the wire.

use std::fmt;

use serde_json::Value;

/// One answer.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) phrase: String,
    /// In order, names as they were spelled.
    pub(crate) headers: Vec<(String, String)>,
    /// Without transfer coding.
    pub(crate) body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, status, phrase, headers, .. } = self;
        let all = format!("{version} {status} {phrase} {headers:?} {:?}", self.text());
        f.write_str(&all.chars().take(2000).collect::<String>())
    }
}

/// Why there is no whole answer.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The connection ended in order before the first byte.
    NoAnswer,
    /// The connection ended, in order or by a reset, with an answer begun; this much of its body had come.
    Cut {
        /// Bytes of the body that had come.
        body: usize,
    },
    /// Reset before the first byte.
    Reset(std::io::Error),
}

/// An answer that the gateway made itself: its invariants have been checked.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) status: u16,
    pub(crate) retcode: String,
    pub(crate) message: String,
    /// `X-Previewgate-Reason`; empty when there is none.
    pub(crate) reason: String,
    pub(crate) request_id: String,
    /// Whether it says that the connection ends.
    pub(crate) close: bool,
}

impl Answer {
    /// The value of the only header of this name; empty when there is none.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let all = self.all(name);
        assert!(all.len() <= 1, "more than one {name}: {all:?}");
        all.first().copied().unwrap_or_default()
    }

    /// All values of a header, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The envelope's `retcode`.
    #[track_caller]
    pub(crate) fn retcode(&self) -> String {
        self.json()["retcode"].as_str().unwrap_or_else(|| panic!("no retcode: {self:?}")).to_owned()
    }

    /// The member `name` of the envelope, which must be a string; empty if it is absent.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }

    /// The gateway's reason for a refusal; empty if it refused nothing.
    #[track_caller]
    pub(crate) fn reason(&self) -> &str {
        self.header("x-previewgate-reason")
    }

    /// `ok` for an answer of the upstream, else the gateway's reason.
    #[track_caller]
    pub(crate) fn verdict(&self) -> String {
        if self.is_own() { self.own().reason } else { "ok".to_owned() }
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the gateway made it: no simulator answers with a request ID.
    pub(crate) fn is_own(&self) -> bool {
        !self.all("x-request-id").is_empty()
    }

    /// The answer as one that the gateway must have made.
    #[track_caller]
    pub(crate) fn own(&self) -> Own {
        assert!(self.is_own(), "not made by the gateway: {self:?}");
        assert_eq!(self.header("content-type"), "application/json;charset=UTF-8", "{self:?}");
        assert_eq!(self.header("cache-control"), "no-store", "{self:?}");
        let request_id = self.header("x-request-id").to_owned();
        assert!(!request_id.is_empty() && request_id != "-", "{self:?}");
        let envelope = self.json();
        let members: Vec<_> = envelope.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["message", "retcode"], "an envelope without result: {self:?}");
        let (retcode, message) = (self.retcode(), envelope["message"].as_str().unwrap().to_owned());
        assert!(retcode != "0" && !message.is_empty(), "{self:?}");
        let close = self.header("connection").eq_ignore_ascii_case("close");
        let reason = self.reason().to_owned();
        Own { status: self.status, retcode, message, reason, request_id, close }
    }

    /// The answer as one that came from the upstream.
    #[track_caller]
    pub(crate) fn passed(self) -> Self {
        assert!(!self.is_own() && self.reason().is_empty(), "made by the gateway: {self:?}");
        self
    }
}
