//! The one reader of a request head: method, path, query and the fields that may override them.
//!
//! A head is classified once, when it arrives. The result says what the request is for, what speaks against forwarding
//! it, and whether it may be a callout. Nothing after this file reads the path again; `explain` uses the same function.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};

use super::operation::{Operation, OperationName, Unclassified};
use super::path_readings::{Path, Readings};
use super::{query, resource};
use crate::preview::AgentId;

/// Path override fields: an upstream that honours one executes another request than the one that was judged.
const PATH_OVERRIDES: [HeaderName; 2] =
    [HeaderName::from_static("x-original-url"), HeaderName::from_static("x-rewrite-url")];

/// The parts of a request that are known before its body is read.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method, as the client spelled it.
    pub method: &'a Method,
    /// The request target.
    pub uri: &'a Uri,
    /// The header fields. The framer has found them to be sound.
    pub headers: &'a HeaderMap,
    /// Whether a body follows.
    pub has_body: bool,
}

/// The settings that classification depends on.
#[derive(Clone, Copy)]
pub struct ClassifyRules<'a> {
    /// Allowed path prefixes, each with a `/` at both ends.
    pub path_prefixes: &'a [String],
    /// Whether the gateway's own push addresses are in use.
    pub push: bool,
}

/// A classified request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified {
    /// What the request is for.
    pub operation: Operation,
    /// Why it must not be handled as that, if there is a reason.
    pub objection: Option<Unclassified>,
    /// Whether it is a callout, or some server may take it for one.
    pub guard: Guard,
    /// Whether it requests a WebSocket, or some server may believe so.
    pub websocket: bool,
}

/// How a request relates to the previewCallout resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It is a callout of this agent.
    Callout(AgentId),
    /// Some server may take it for a callout. It is refused, or, in monitor mode, recorded as one.
    SuspectedCallout,
    /// No server takes it for a callout.
    Unguarded,
}

impl Classified {
    /// A request whose head was refused before it had a meaning.
    pub const fn refused() -> Self {
        Self {
            operation: Operation::Unroutable,
            objection: Some(Unclassified::NotFound),
            guard: Guard::Unguarded,
            websocket: false,
        }
    }

    /// The name for logs and metrics. A request without an operation that may be a callout goes by the callout's name.
    pub fn name(&self) -> OperationName {
        match (self.operation, self.guard) {
            (Operation::Unroutable, Guard::SuspectedCallout) => OperationName::PreviewCallout,
            (operation, _) => operation.name(),
        }
    }

    /// Whether the outcome belongs in the decision log.
    pub fn is_guarded(&self) -> bool {
        match self.guard {
            Guard::Callout(_) | Guard::SuspectedCallout => true,
            Guard::Unguarded => false,
        }
    }
}

/// Classifies a request head.
pub fn classify(head: &RequestHead<'_>, rules: ClassifyRules<'_>) -> Classified {
    let path = Path::new(head.uri.path());
    let push = if rules.push { resource::route_push(head.method, path.text) } else { None };
    let routed = push.map_or_else(|| resource::route(head.method, &path, rules.path_prefixes), Ok);
    let overrides = if routed.is_ok() { head.path_overrides() } else { PathOverrides::default() };
    Classified {
        operation: routed.unwrap_or(Operation::Unroutable),
        objection: routed.map_or_else(Some, |operation| head.objection_to(operation, &path, overrides)),
        guard: head.guard(routed, &path, overrides),
        websocket: requests_websocket(head.headers),
    }
}

/// What the path override fields of a request may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PathOverrides {
    /// One names a guarded operation other than the one that the path names.
    rewrites: bool,
    /// One may turn a request for something else into a callout. The decision log must then hold the outcome.
    leads_to_callouts: bool,
}

impl RequestHead<'_> {
    fn guard(&self, routed: Result<Operation, Unclassified>, path: &Path<'_>, overrides: PathOverrides) -> Guard {
        let suspected = match routed {
            Ok(Operation::PreviewCallout { agent }) => return Guard::Callout(agent),
            Ok(Operation::CalloutPreflight) => !self.is_preflight(path),
            Ok(_) => overrides.leads_to_callouts,
            Err(Unclassified::NotFound) => false,
            Err(Unclassified::AmbiguousPath | Unclassified::InvalidAgentId | Unclassified::MethodNotAllowed) => {
                path.readings().mentions_callout
            }
        };
        if suspected { Guard::SuspectedCallout } else { Guard::Unguarded }
    }

    /// Why a request that has an operation must not be handled as such.
    fn objection_to(&self, operation: Operation, path: &Path<'_>, overrides: PathOverrides) -> Option<Unclassified> {
        match operation {
            Operation::CalloutPreflight if !self.is_preflight(path) => Some(Unclassified::MethodNotAllowed),
            _ if self.overrides_the_method() || self.overridden_by_query(path) => Some(Unclassified::MethodNotAllowed),
            Operation::Other { .. } if self.has_body && self.overridden_by_form(path) => {
                Some(Unclassified::MethodNotAllowed)
            }
            _ if overrides.rewrites => Some(Unclassified::AmbiguousPath),
            _ => None,
        }
    }

    /// A field such as `X-HTTP-Method-Override`, in any spelling: some servers take `_` for `-`.
    fn overrides_the_method(&self) -> bool {
        let mut names = self.headers.keys().map(HeaderName::as_str);
        // Hardly any name has an `m`: to look for a byte costs less than to look for a word.
        names.any(|name| name.as_bytes().contains(&b'm') && name.contains("method") && query::overrides_method(name))
    }

    /// A `_method=PUT` in the query, on a path where another method would be guarded.
    fn overridden_by_query(&self, path: &Path<'_>) -> bool {
        self.uri.query().is_some_and(query::may_override_method) && path.readings().is_guarded
    }

    /// A form on a path where another method would be guarded. Some filters look for `_method` in a form and would turn
    /// the request into a sign-out. None of the guarded interfaces takes a form.
    fn overridden_by_form(&self, path: &Path<'_>) -> bool {
        let content_type = self.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_form = content_type.windows(4).any(|word| word.eq_ignore_ascii_case(b"form"));
        is_form && path.readings().is_guarded
    }

    /// Reads each path override field once. A field may repeat the path: a proxy in front of this one may report what it
    /// received. A field that climbs may lead anywhere.
    fn path_overrides(&self) -> PathOverrides {
        let mut overrides = PathOverrides::default();
        for value in PATH_OVERRIDES.into_iter().flat_map(|name| self.headers.get_all(name)) {
            let readings = Readings::of(value.as_bytes());
            let repeats_path = || Uri::try_from(value.as_bytes()).is_ok_and(|target| target.path() == self.uri.path());
            overrides.rewrites |= (readings.is_guarded || readings.climbs) && !repeats_path();
            overrides.leads_to_callouts |= readings.mentions_callout;
        }
        overrides
    }

    /// A CORS pre-flight (Fetch standard 4.8) changes nothing, so it may pass. Any other OPTIONS of the guarded resource
    /// has no use.
    fn is_preflight(&self, path: &Path<'_>) -> bool {
        let has = |name| self.headers.contains_key(name);
        let is_other_method = self.overrides_the_method() || self.overridden_by_query(path);
        has(header::ORIGIN) && has(header::ACCESS_CONTROL_REQUEST_METHOD) && !is_other_method && !self.has_body
    }
}

/// Whether a request asks for a WebSocket, or some server may believe so. Other upgrades, such as the `h2c` that some
/// Java clients offer with every request, are declined by not forwarding the field (RFC 9110 7.8).
fn requests_websocket(headers: &HeaderMap) -> bool {
    let names_it =
        |value: &HeaderValue| value.as_bytes().windows(9).any(|word| word.eq_ignore_ascii_case(b"websocket"));
    headers.contains_key(header::SEC_WEBSOCKET_KEY) || headers.get_all(header::UPGRADE).iter().any(names_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::folded::work;

    const CALLOUT: &str = "/agentgateway/resource/voicecall/101/previewCallout";
    const ANSWER: &str = "/agentgateway/resource/voicecall/101/answer";

    fn with_head<T>(
        path: &str,
        fields: &[(&'static str, &[u8])],
        has_body: bool,
        f: impl FnOnce(&RequestHead<'_>) -> T,
    ) -> T {
        let field = |(name, value): &(&'static str, &[u8])| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        let headers: HeaderMap = fields.iter().map(field).collect();
        f(&RequestHead { method: &Method::PUT, uri: &path.parse().unwrap(), headers: &headers, has_body })
    }

    #[test]
    fn an_override_field_may_repeat_the_path_but_not_replace_it() {
        let rewritten = |name: &'static str, value: &str| {
            with_head(CALLOUT, &[(name, value.as_bytes())], true, |head| head.path_overrides().rewrites)
        };
        for same in [CALLOUT, "https://front:8043/agentgateway/resource/voicecall/101/previewCallout?_=1", "/other", ""]
        {
            assert!(!rewritten("x-original-url", same), "{same}");
        }
        for other in [
            "/agentgateway/resource/voicecall/102/previewCallout",
            "/agentgateway/resource/voicecall/101/preview%43allout",
            "resource/onlineagent/101/logout",
            "/agentgateway/resource/onlineagent/101/x/..",
            "/agentgateway/../x",
        ] {
            assert!(rewritten("x-original-url", other), "{other}");
            assert!(rewritten("x-rewrite-url", other), "{other}");
            assert!(!rewritten("x-forwarded-for", other), "{other}");
        }
    }

    #[test]
    fn an_override_field_is_read_byte_by_byte() {
        let leads = |value: &[u8]| {
            with_head(ANSWER, &[("x-original-url", value)], false, |head| {
                let overrides = head.path_overrides();
                assert_eq!(overrides.leads_to_callouts, overrides.rewrites);
                overrides.leads_to_callouts
            })
        };
        // The ordinal indicators of Latin-1 are letters to a reader who ignores compatibility forms.
        assert!(leads(b"/agentgateway/resource/voicecall/101/previewC\xaallout"));
        assert!(leads("/agentgateway/resource/voicecall/101/\u{ff50}reviewCallout".as_bytes()));
        assert!(leads(b"/agentgateway/resource/voicecall/101/\xc1\xb0reviewCallout"));
        assert!(!leads("/agentgateway/resource/voicecall/101/\u{4f60}".as_bytes()));
    }

    #[test]
    fn a_preflight_asks_and_does_nothing_else() {
        let fields: &[(&'static str, &[u8])] =
            &[("origin", b"https://desk.example"), ("access-control-request-method", b"PUT")];
        let asks = |query: &str, has_body| {
            with_head(&format!("{CALLOUT}{query}"), fields, has_body, |head| {
                head.is_preflight(&Path::new(head.uri.path()))
            })
        };
        assert!(asks("", false) && asks("?_=1", false));
        assert!(!asks("", true) && !asks("?_method=PUT", false));
        for fields in [&[][..], &fields[..1], &fields[1..]] {
            assert!(!with_head(CALLOUT, fields, false, |head| head.is_preflight(&Path::new(head.uri.path()))));
        }
    }

    #[test]
    fn options_of_the_guarded_resource_are_a_preflight_or_refused() {
        let prefixes = ["/agentgateway/".to_owned()];
        let rules = ClassifyRules { path_prefixes: &prefixes, push: false };
        let fields: &[(&'static str, &[u8])] =
            &[("origin", b"https://desk.example"), ("access-control-request-method", b"PUT")];
        for (fields, guard, objection) in [
            (fields, Guard::Unguarded, None),
            (&fields[..1], Guard::SuspectedCallout, Some(Unclassified::MethodNotAllowed)),
        ] {
            let found = with_head(CALLOUT, fields, false, |head| {
                classify(&RequestHead { method: &Method::OPTIONS, ..*head }, rules)
            });
            assert_eq!(
                (found.operation, found.guard, found.objection),
                (Operation::CalloutPreflight, guard, objection)
            );
        }
    }

    #[test]
    fn a_form_on_a_guarded_path_is_refused_if_there_is_one() {
        let prefixes = ["/agentgateway/".to_owned()];
        let rules = ClassifyRules { path_prefixes: &prefixes, push: false };
        let form: &[(&'static str, &[u8])] = &[("content-type", b"application/x-www-form-urlencoded")];
        let path = "/agentgateway/resource/onlineagent/101/logout";
        for (path, has_body, expected) in
            [(path, true, Some(Unclassified::MethodNotAllowed)), (path, false, None), (ANSWER, true, None)]
        {
            let found = with_head(path, form, has_body, |head| classify(head, rules));
            assert_eq!(found.objection, expected, "{path} {has_body}");
        }
    }

    #[test]
    fn only_what_may_be_a_callout_belongs_in_the_decision_log() {
        for (guard, expected) in [
            (Guard::Callout(AgentId::try_from(101).unwrap()), true),
            (Guard::SuspectedCallout, true),
            (Guard::Unguarded, false),
        ] {
            assert_eq!(Classified { guard, ..Classified::refused() }.is_guarded(), expected, "{guard:?}");
        }
    }

    #[test]
    fn handshakes_of_websockets_in_any_spelling() {
        let asks = |name: &'static str, value: &[u8]| {
            with_head(ANSWER, &[(name, value)], false, |head| requests_websocket(head.headers))
        };
        for (name, value) in [
            ("upgrade", &b"websocket"[..]),
            ("upgrade", b"h2c, WebSocket/13"),
            ("upgrade", b"xWEBSOCKETx"),
            ("sec-websocket-key", b""),
        ] {
            assert!(asks(name, value), "{name} {}", value.escape_ascii());
        }
        for (name, value) in [("upgrade", &b"h2c"[..]), ("upgrade", b"websocke t"), ("connection", b"websocket")] {
            assert!(!asks(name, value), "{name} {}", value.escape_ascii());
        }
    }

    #[test]
    fn a_form_overrides_the_method_of_guarded_paths_only() {
        let overridden = |path: &str, media: &str| {
            let path = format!("/agentgateway/resource/{path}");
            with_head(&path, &[("content-type", media.as_bytes())], true, |head| {
                head.overridden_by_form(&Path::new(head.uri.path()))
            })
        };
        assert!(overridden("onlineagent/101/logout", "application/x-www-form-urlencoded"));
        assert!(overridden("onlineagent/101", "Multipart/Form-Data; boundary=b"));
        assert!(!overridden("onlineagent/101/logout", "application/json"));
        assert!(!overridden("onlineagent/101/handshake", "application/x-www-form-urlencoded"));
        assert!(!overridden("multimedia/101/uploadfile", "multipart/form-data; boundary=b"));
    }

    #[test]
    fn a_field_overrides_the_method_in_any_spelling() {
        let overrides = |name| with_head(ANSWER, &[(name, b"PUT")], false, |head| head.overrides_the_method());
        for name in [
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x_http_method_override",
            "x-httpmethodoverride",
            "http-method",
            "_method",
        ] {
            assert!(overrides(name), "{name}");
        }
        for name in ["access-control-request-method", "payment-method", "method", "x-override", "x-http-methods"] {
            assert!(!overrides(name), "{name}");
        }
    }

    #[test]
    fn a_query_overrides_the_method_of_guarded_paths_only() {
        let overridden =
            |target: &str| with_head(target, &[], false, |head| head.overridden_by_query(&Path::new(head.uri.path())));
        assert!(overridden("/agentgateway/resource/onlineagent/101/logout?_method=DELETE"));
        assert!(!overridden("/agentgateway/resource/onlineagent/101/logout?_=1"));
        assert!(!overridden("/agentgateway/resource/voicecall/101/answer?_method=GET"));
    }

    #[test]
    fn guard_and_objection() {
        let agent = AgentId::try_from(101).unwrap();
        let prefixes = ["/agentgateway/".to_owned()];
        let rules = ClassifyRules { path_prefixes: &prefixes, push: false };
        let other = format!("{ANSWER}x");
        let override_to_callout: &[(&'static str, &[u8])] = &[("x-rewrite-url", CALLOUT.as_bytes())];
        let override_method: &[(&'static str, &[u8])] = &[("x-http-method", b"PUT")];
        for (path, fields, guard, objection) in [
            (CALLOUT, &[][..], Guard::Callout(agent), None),
            (CALLOUT, override_method, Guard::Callout(agent), Some(Unclassified::MethodNotAllowed)),
            (&other, override_to_callout, Guard::SuspectedCallout, Some(Unclassified::AmbiguousPath)),
            (&other, override_method, Guard::Unguarded, Some(Unclassified::MethodNotAllowed)),
            (&other, &[], Guard::Unguarded, None),
            (
                "/agentgateway//voicecall/101/previewCallout",
                &[],
                Guard::SuspectedCallout,
                Some(Unclassified::AmbiguousPath),
            ),
            ("/agentgateway/resource/agentevent/101;x", &[], Guard::Unguarded, Some(Unclassified::AmbiguousPath)),
            ("/elsewhere/previewCallout", &[], Guard::Unguarded, Some(Unclassified::NotFound)),
        ] {
            let classified = with_head(path, fields, true, |head| classify(head, rules));
            assert_eq!((classified.guard, classified.objection), (guard, objection), "{path}");
        }
    }

    /// Whatever speaks against a request: no text of its head is decoded twice.
    #[test]
    fn each_text_is_read_once() {
        let (path, query) = ("/agentgateway/resource/onlineagent/101/%EF%B7%BAlog", "%CC%81a=b&_%EF%B7%BA=1");
        let (one, other) = ("/%61gentgateway/\u{fdfa}".as_bytes(), b"/%70reviewCallout".as_slice());
        let prefixes = ["/agentgateway/".to_owned()];
        let rules = ClassifyRules { path_prefixes: &prefixes, push: true };
        let parts = [path.as_bytes(), one, other].map(|text| work::of(|| Readings::of(text)));
        let expected = parts.iter().sum::<usize>() + work::of(|| query::may_override_method(query));
        let fields: &[(&'static str, &[u8])] =
            &[("x-original-url", one), ("x-rewrite-url", other), ("content-type", b"multipart/form-data")];
        let done = with_head(&format!("{path}?{query}"), fields, true, |head| work::of(|| classify(head, rules)));
        assert_eq!(done, expected);
        // Refused for its path.
        let path = format!("{path}%2fpreviewCallout");
        let done = with_head(&path, fields, true, |head| work::of(|| classify(head, rules)));
        assert_eq!(done, work::of(|| Readings::of(path.as_bytes())));
    }
}
