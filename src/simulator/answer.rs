//! What the simulator says: an answer before it becomes bytes.

use std::time::SystemTime;

use bytes::Bytes;
use serde_json::{Value, json};

use super::agents::Failure;

/// The content type of every envelope.
const JSON: &str = "application/json;charset=UTF-8";
/// The body of a download repeats this many bytes: prime, so that a lost or doubled block shows.
const PATTERN: usize = 251;

/// A response: status, headers as they will be spelled, body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
}

/// A body at hand, or so many made-up bytes.
pub(super) enum Body {
    Whole(Bytes),
    Generated { length: u64, chunked: bool },
}

impl Answer {
    /// HTTP 200 with an envelope and these members beside it.
    pub(super) fn success(mut members: Value) -> Self {
        if let Some(object) = members.as_object_mut() {
            object.insert("message".into(), "".into());
            object.insert("retcode".into(), "0".into());
        }
        Self::json(200, &members)
    }

    /// HTTP 200 with the retcode of a failure and no `result` (docs/protocol.md 3).
    pub(super) fn failure(failure: Failure) -> Self {
        Self::json(200, &json!({"message": failure.message(), "retcode": failure.retcode()}))
    }

    /// Any JSON.
    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self { status, headers: vec![content_type(JSON)], body: Body::Whole(value.to_string().into()) }
    }

    /// An error page as the container in front of the application makes it.
    pub(super) fn html(status: u16) -> Self {
        let page =
            format!("<html><head><title>{status}</title></head><body><h1>HTTP Status {status}</h1></body></html>");
        Self { status, headers: vec![content_type("text/html;charset=utf-8")], body: Body::Whole(page.into()) }
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The head's bytes, up to and with the blank line; no framing header is added where one was given.
    pub(super) fn head(&self, close: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, phrase(self.status));
        for (name, value) in &self.headers {
            push_header(&mut head, name, value);
        }
        let framed = self.has("content-length") || self.has("transfer-encoding");
        match &self.body {
            _ if framed => {}
            Body::Generated { chunked: true, .. } => push_header(&mut head, "Transfer-Encoding", "chunked"),
            body => push_header(&mut head, "Content-Length", &body.length().to_string()),
        }
        if !self.has("date") {
            push_header(&mut head, "Date", &httpdate::fmt_http_date(SystemTime::now()));
        }
        if close {
            push_header(&mut head, "Connection", "close");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
    }
}

impl Body {
    /// Bytes of the body itself, without chunk frames.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Generated { length, .. } => *length,
        }
    }
}

/// A block of the download pattern that can be repeated: byte *i* of a download is `i % 251`.
pub(super) fn pattern() -> Bytes {
    (0..PATTERN * 256).map(|position| (position % PATTERN) as u8).collect::<Vec<_>>().into()
}

fn content_type(value: &str) -> (String, String) {
    ("Content-Type".to_owned(), value.to_owned())
}

fn push_header(head: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        head.push_str(part);
    }
}

fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("")
}
