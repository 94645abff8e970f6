//! Lets browser applications of other origins read the gateway's own answers.
//!
//! A page of another origin may read an answer only if header fields of the answer grant it (CORS). The upstream's answers
//! pass with their own fields. Without such fields a browser would hide a refusal of the gateway, and the agent would see
//! "network error" instead of the reason. The upstream decides which origins may read: the gateway repeats the last grant
//! of the upstream to an origin, and grants nothing else.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use moka::sync::Cache;

/// Maximum number of origins that are remembered. The applications of one contact centre have only a few.
const MAX_ORIGINS: u64 = 1024;
/// Maximum length of an origin that is remembered, in bytes.
const MAX_ORIGIN_LENGTH: usize = 256;
/// A grant is forgotten when the upstream has not repeated it for this long.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);
/// What a page may read besides the body.
const EXPOSED: HeaderValue = HeaderValue::from_static("X-Previewgate-Reason, X-Request-Id");

/// The grants of the upstream, by origin.
pub struct Origins(Cache<HeaderValue, Grant>);

#[derive(Clone, PartialEq)]
struct Grant {
    origin: HeaderValue,
    credentials: Option<HeaderValue>,
}

impl Origins {
    /// No grants yet.
    pub fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_ORIGINS).time_to_live(MEMORY).build())
    }

    /// Remembers what an answer of the upstream grants to `origin`.
    pub(super) fn learn(&self, origin: &HeaderValue, answer: &HeaderMap) {
        let Some(granted) = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN) else { return };
        let credentials = answer.get(header::ACCESS_CONTROL_ALLOW_CREDENTIALS).cloned();
        let grant = Grant { origin: granted.clone(), credentials };
        if origin.len() <= MAX_ORIGIN_LENGTH && self.0.get(origin).as_ref() != Some(&grant) {
            self.0.insert(origin.clone(), grant);
        }
    }

    /// Repeats the upstream's grant to `origin` in an answer of the gateway.
    pub(super) fn repeat(&self, origin: &HeaderValue, answer: &mut HeaderMap) {
        let Some(grant) = self.0.get(origin) else { return };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, grant.origin);
        if let Some(credentials) = grant.credentials {
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
        }
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        answer.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
}

impl Default for Origins {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: HeaderValue = HeaderValue::from_static("https://cti.example");

    #[test]
    fn an_origin_is_granted_what_the_upstream_granted_it() {
        let origins = Origins::new();
        let repeated = |origins: &Origins| {
            let mut answer = HeaderMap::new();
            origins.repeat(&PAGE, &mut answer);
            answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).cloned()
        };
        assert_eq!(repeated(&origins), None);
        origins.learn(&PAGE, &HeaderMap::new());
        assert_eq!(repeated(&origins), None);
        origins.learn(&PAGE, &HeaderMap::from_iter([(header::ACCESS_CONTROL_ALLOW_ORIGIN, PAGE)]));
        assert_eq!(repeated(&origins), Some(PAGE));
        let any = HeaderValue::from_static("*");
        origins.learn(&PAGE, &HeaderMap::from_iter([(header::ACCESS_CONTROL_ALLOW_ORIGIN, any.clone())]));
        assert_eq!(repeated(&origins), Some(any));
        let mut answer = HeaderMap::new();
        origins.repeat(&HeaderValue::from_static("https://evil.example"), &mut answer);
        assert!(answer.is_empty());
    }
}
