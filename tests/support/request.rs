//! Bytes of an ordinary request.

use serde_json::Value;

/// A request as an ordinary client would write it; for others, write the bytes: [`super::Wire::write`].
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// `target` goes into the request line as it is. `Host` and, with a body, `Content-Length` are added.
    pub(crate) fn new(method: &str, target: impl Into<String>) -> Self {
        Self { method: method.to_owned(), target: target.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// A request to the operators' listener, which answers to its own names only.
    pub(crate) fn admin(method: &str, target: &str) -> Self {
        Self::new(method, target).header("Host", "localhost")
    }

    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn put(target: impl Into<String>) -> Self {
        Self::new("PUT", target)
    }

    pub(crate) fn post(target: impl Into<String>) -> Self {
        Self::new("POST", target)
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Removes the headers of this name.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(candidate, _)| !candidate.eq_ignore_ascii_case(name));
        self
    }

    /// The credential of a session.
    pub(crate) fn guid(self, guid: &str) -> Self {
        self.header("Guid", guid)
    }

    /// A request ID, to find the request again in log and journal.
    pub(crate) fn id(self, id: &str) -> Self {
        self.header("X-Request-Id", id)
    }

    /// A body of any kind.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A body in JSON, and the header that says so.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json; charset=UTF-8").body(body.to_string())
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// What goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let has = |name: &str| self.headers.iter().any(|(candidate, _)| candidate.eq_ignore_ascii_case(name));
        if !has("host") {
            head.push_str("Host: gateway.example:8043\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = has("content-length") || has("transfer-encoding");
        if !framed && (!self.body.is_empty() || matches!(self.method.as_str(), "PUT" | "POST")) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}
