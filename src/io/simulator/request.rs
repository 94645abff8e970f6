//! The resource that a request target names, as Tomcat reads it (docs/protocol.md 1).
//!
//! It is as lenient as the real server on purpose: a disguised callout that passes the gateway must be recognised here.

use bytes::Bytes;

use super::http1::Head;
use crate::preview::AgentId;

/// A request that was read to its end. Only the first part of a long body is kept.
pub(super) struct Request {
    pub(super) head: Head,
    pub(super) resource: Resource,
    /// The first part of the body.
    pub(super) body: Bytes,
    /// The length of the whole body.
    pub(super) body_length: u64,
}

impl Request {
    /// The credential.
    pub(super) fn guid(&self) -> Option<&str> {
        self.head.header("guid")
    }

    /// The body, if it is JSON.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// A path after path parameters, percent-encoding and dot segments are resolved, and the query as it came.
pub(super) struct Resource {
    segments: Vec<String>,
    query: String,
}

impl Resource {
    /// Reads a request target in origin or absolute form; `None` if Tomcat refuses it.
    pub(super) fn parse(target: &str) -> Option<Self> {
        let path_and_query = match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => {
                rest.find('/').and_then(|start| rest.get(start..)).unwrap_or("/")
            }
            _ => target,
        };
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let mut segments: Vec<String> = Vec::new();
        for raw in path.split('/') {
            let name = raw.split(';').next().unwrap_or_default();
            match decode(name)?.as_str() {
                "" | "." => {}
                ".." => drop(segments.pop()?),
                decoded => segments.push(decoded.to_owned()),
            }
        }
        Some(Self { segments, query: query.to_owned() })
    }

    /// The resolved path.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.segments.join("/"))
    }

    /// The resolved segments.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// The agent whose request this is: the segment after the service's name.
    pub(super) fn agent(&self) -> Option<AgentId> {
        self.segments.get(3)?.parse().ok()
    }

    /// A query parameter. It is not decoded, because those of the simulator need no encoding.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// Percent-decoding, once. An encoded slash is refused, as Tomcat does by default.
fn decode(segment: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let value = digit()? * 16 + digit()?;
        match u8::try_from(value).ok()? {
            b'/' | b'\\' | 0 => return None,
            byte => decoded.push(byte),
        }
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disguised_paths_resolve_to_what_they_are() {
        for target in [
            "/agentgateway/resource/voicecall/101/previewCallout",
            "/agentgateway/resource/voicecall/101/previewCallou%74",
            "/agentgateway;a=b/resource//voicecall/./101;x/previewCallout;y=z?q",
            "/agentgateway/resource/chat/../voicecall/101/%70reviewCallout",
            "http://cc.example/agentgateway/resource/voicecall/101/previewCallout",
        ] {
            let resource = Resource::parse(target).unwrap();
            assert_eq!(resource.path(), "/agentgateway/resource/voicecall/101/previewCallout", "{target}");
            assert_eq!(resource.agent().unwrap().as_u32(), 101);
        }
        for refused in ["/a%2fb", "/..", "/a%zz", "/a%0", "/a%00"] {
            assert!(Resource::parse(refused).is_none(), "{refused}");
        }
    }
}
