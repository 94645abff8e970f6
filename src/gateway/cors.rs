//! Lets browser applications of other origins read the gateway's own answers.
//!
//! A page of another origin may read an answer only if the answer says so (CORS). The upstream's answers pass with
//! whatever they say; a refusal that the gateway makes itself would be hidden by the browser, and the agent would see
//! "network error" instead of the reason. Which origins are welcome is the upstream's to say: what it granted an
//! origin last is repeated, and an origin that it never granted anything is granted nothing.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use moka::sync::Cache;

/// Origins remembered; the applications of one contact centre are a handful.
const MOST_ORIGINS: u64 = 1024;
/// Longest origin that is remembered, in bytes.
const LONGEST_ORIGIN: usize = 256;
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
    /// Knows no origin yet.
    pub fn new() -> Self {
        Self(Cache::builder().max_capacity(MOST_ORIGINS).time_to_live(MEMORY).build())
    }

    /// Takes note of what an answer of the upstream grants to `origin`.
    pub(super) fn learn(&self, origin: &HeaderValue, answer: &HeaderMap) {
        let Some(granted) = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN) else { return };
        let credentials = answer.get(header::ACCESS_CONTROL_ALLOW_CREDENTIALS).cloned();
        let grant = Grant { origin: granted.clone(), credentials };
        if origin.len() <= LONGEST_ORIGIN && self.0.get(origin).as_ref() != Some(&grant) {
            self.0.insert(origin.clone(), grant);
        }
    }

    /// Grants in an answer of the gateway's own what the upstream would.
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
