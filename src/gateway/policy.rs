//! From a request to a verdict: the checks of head and body, the rule, and the configured policy.
//!
//! Everything here is pure. `explain` calls the same functions and so reports what the live path does.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};

use super::error::GatewayError;
use super::headers::GUID;
use crate::config::{Mode, OnUnknownPreview, SessionPolicy, Validation};
use crate::preview::{AgentPreviews, Callout, Reason, Refusal, Rule, Timestamp, Validated, Verdict, decide};
use crate::protocol::{Classified, ParsedCallout, Unclassified, media_type, parse_callout, query};
use crate::store::{Ownership, Unavailable};

/// Whether a classified request may go further. `Some` is a verdict that is final already: the request should not go
/// further, but monitor mode forwards it.
pub(crate) fn admit(classified: &Classified, policy: &Validation) -> Result<Option<(Verdict, Reason)>, GatewayError> {
    if classified.websocket && !policy.allow_websocket {
        return Err(GatewayError::WebSocket);
    }
    let Some(objection) = classified.objection else { return Ok(None) };
    let reason = objection.reason().unwrap_or(Reason::AmbiguousPath);
    if objection == Unclassified::NotFound || policy.mode_for(reason) == Mode::Enforce {
        return Err(objection.into());
    }
    Ok(Some((Verdict::Unverified, reason)))
}

/// Why a callout must not be forwarded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Objection {
    /// It does not follow from a preview.
    #[error("{message}")]
    Invalid {
        /// The word for it.
        reason: Reason,
        /// One sentence for the client that names no number.
        message: Cow<'static, str>,
    },
    /// The shared store cannot say whether it does.
    #[error("{}", GatewayError::StoreUnavailable)]
    Unknowable(Unavailable),
    /// It carries a GUID that is known not to be the agent's own.
    #[error("{FOREIGN_SESSION}")]
    ForeignSession,
}

/// The one answer to all callouts of foreign sessions: it must not tell a stranger what the agent was shown.
const FOREIGN_SESSION: &str = "the Guid is not that of this agent's session";

impl Objection {
    const fn new(reason: Reason, message: &'static str) -> Self {
        Self::Invalid { reason, message: Cow::Borrowed(message) }
    }
}

impl From<Refusal> for Objection {
    fn from(refusal: Refusal) -> Self {
        let message = match refusal {
            Refusal::UnknownPreview => "no preview of this agent is known",
            Refusal::ControlIdMismatch => "callcontrolid is not the control ID of any preview of this agent",
            Refusal::NumberNotInPreview { .. } => "called is not in dialeddigits of the preview with this control ID",
            Refusal::PreviewExpired { .. } => "the preview with this control ID has expired",
            Refusal::NumberUsed { .. } => "called was called as often as this preview allows",
        };
        Self::new(refusal.reason(), message)
    }
}

/// The gateway's knowledge of the agent that makes a callout.
#[derive(Clone, Copy)]
pub(crate) struct AgentState<'a> {
    /// The previews of this instant.
    pub(crate) previews: &'a AgentPreviews,
    /// Whether the agent has signed out and has no preview.
    pub(crate) signed_out: bool,
    /// The gateway's knowledge of the request's GUID.
    pub(crate) session: Ownership,
    /// The shared store is away, and these are the previews that the gateway itself knows.
    pub(crate) away: bool,
}

/// Whether a callout with this GUID must be refused before its previews are looked at. All such callouts then get the same
/// answer.
pub(crate) fn is_refused_as_foreign(session: Ownership, policy: &Validation) -> bool {
    let enforced = policy.session == SessionPolicy::Enforce && policy.mode == Mode::Enforce;
    enforced && session.is_foreign()
}

/// A callout, as far as it was understood, and the result of its checks.
#[derive(Debug)]
pub(crate) struct Evaluation {
    /// What it asks for, once that is known.
    pub(crate) callout: Option<Callout>,
    /// The body to forward in place of the one received, if that one could be read in another way.
    pub(crate) rewritten: Option<Bytes>,
    /// The age of the preview that it names, if it names one.
    pub(crate) preview_age: Option<Duration>,
    /// The first objection, if there is one.
    pub(crate) outcome: Result<(), Objection>,
}

impl Evaluation {
    /// A callout whose body is longer than `limits.callout_body`. Its body is not parsed.
    pub(crate) fn too_large() -> Self {
        Self::malformed(Objection::new(Reason::TooLarge, "the message body is too large"))
    }

    /// A callout that is refused before its preview is looked up.
    pub(crate) fn malformed(objection: Objection) -> Self {
        Self { callout: None, rewritten: None, preview_age: None, outcome: Err(objection) }
    }

    /// A callout that is understood, and evaluated without its preview.
    pub(crate) fn refused(parsed: ParsedCallout, objection: Objection) -> Self {
        let ParsedCallout { callout, rewritten } = parsed;
        Self { callout: Some(callout), rewritten, preview_age: None, outcome: Err(objection) }
    }
}

/// What a callout asks for, if its query, its header fields and its body are valid.
pub(crate) fn parse_request(query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Result<ParsedCallout, Objection> {
    check_head(headers)?;
    check_query(query)?;
    parse_callout(body)
        .map_err(|error| Objection::Invalid { reason: error.reason(), message: error.to_string().into() })
}

/// Evaluates a callout against what is known of its agent.
pub(crate) fn evaluate(
    parsed: ParsedCallout,
    agent: AgentState<'_>,
    now: Timestamp,
    rule: impl Into<Rule>,
) -> Evaluation {
    let ParsedCallout { callout, rewritten } = parsed;
    let decision = decide(&callout, agent.previews, now, rule);
    let preview_age = match decision {
        Ok(Validated { preview_age }) => Some(preview_age),
        Err(refusal) => refusal.preview_age(),
    };
    let outcome = match decision {
        Err(Refusal::UnknownPreview) if agent.away => Err(Objection::Unknowable(Unavailable::NothingHere)),
        Err(Refusal::ControlIdMismatch | Refusal::NumberNotInPreview { .. }) if agent.away => {
            Err(Objection::Unknowable(Unavailable::OthersHere))
        }
        Err(Refusal::UnknownPreview) if agent.signed_out => {
            Err(Objection::new(Reason::SignedOut, "the agent has signed out"))
        }
        Err(refusal) => Err(refusal.into()),
        Ok(_) if agent.session.is_foreign() => Err(Objection::ForeignSession),
        Ok(_) => Ok(()),
    };
    Evaluation { callout: Some(callout), rewritten, preview_age, outcome }
}

/// The header fields that the interface requires (docs/protocol.md 4).
fn check_head(headers: &HeaderMap) -> Result<(), Objection> {
    if headers.get(GUID).is_none_or(|guid| guid.as_bytes().trim_ascii().is_empty()) {
        return Err(Objection::new(Reason::MissingGuid, "the Guid header is missing"));
    }
    if headers.contains_key(header::CONTENT_ENCODING) || !media_type::declares_json(headers) {
        let message = "the message body must be sent as application/json in UTF-8";
        return Err(Objection::new(Reason::InvalidContentType, message));
    }
    Ok(())
}

/// Only the message body may name the number: a framework may merge the query with it.
fn check_query(query: Option<&str>) -> Result<(), Objection> {
    if query.is_some_and(query::may_name_a_field) {
        let message = "called and callcontrolid belong into the message body alone";
        return Err(Objection::new(Reason::MalformedBody, message));
    }
    Ok(())
}

/// The verdict on an evaluated callout under the configured policy. `warming_up`: see `validation.warm_up`.
pub(crate) fn apply_policy(
    outcome: Result<(), Objection>,
    policy: &Validation,
    warming_up: bool,
) -> Result<(Verdict, Reason), GatewayError> {
    let objection = match outcome {
        Err(Objection::ForeignSession) if policy.session == SessionPolicy::Off => None,
        outcome => outcome.err(),
    };
    let Some(objection) = objection else { return Ok((Verdict::Forwarded, Reason::Ok)) };
    let forward_unknown = policy.on_unknown_preview == OnUnknownPreview::Forward;
    let (reason, forward, error) = match objection {
        Objection::Invalid { reason, message } => {
            let forward = match reason {
                Reason::UnknownPreview => forward_unknown || warming_up,
                // The sign-out passed through this gateway; the next sign-in may have taken another way.
                Reason::SignedOut => forward_unknown,
                _ => false,
            };
            (reason, forward, GatewayError::Refused { reason, message })
        }
        // `on_store_failure` decides about these, and `on_unknown_preview` only if it is "local".
        Objection::Unknowable(unavailable) => {
            let forward = match unavailable {
                Unavailable::Reject | Unavailable::OthersHere => false,
                Unavailable::Forward => true,
                Unavailable::NothingHere => forward_unknown || warming_up,
            };
            (Reason::StoreUnavailable, forward, GatewayError::StoreUnavailable)
        }
        Objection::ForeignSession => {
            let message = Cow::Borrowed(FOREIGN_SESSION);
            let error = GatewayError::Refused { reason: Reason::ForeignSession, message };
            (Reason::ForeignSession, policy.session == SessionPolicy::Monitor, error)
        }
    };
    if forward || policy.mode_for(reason) == Mode::Monitor { Ok((Verdict::Unverified, reason)) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Files, parse};
    use crate::preview::{AgentId, Announcement, Bounds, Change, ControlId, DialedNumber};

    #[test]
    fn unknown_previews_are_forwarded_by_policy_or_while_warming_up_and_nothing_else_is() {
        let applied = |settings: &str, reason, warming_up| {
            let text = format!("[upstream]\nendpoints = [\"https://h\"]\n[validation]\n{settings}\n");
            let config = parse(&text, std::path::Path::new("/"), Files::Skip).unwrap();
            apply_policy(Err(Objection::new(reason, "no")), &config.validation, warming_up).ok()
        };
        let unverified = |reason| Some((Verdict::Unverified, reason));
        let (unknown, mismatch) = (Reason::UnknownPreview, Reason::ControlIdMismatch);
        for (settings, reason, warming_up, expected) in [
            ("", unknown, false, None),
            ("", unknown, true, unverified(unknown)),
            ("", mismatch, true, None),
            ("", Reason::SignedOut, true, None),
            ("on_unknown_preview = \"forward\"", Reason::SignedOut, false, unverified(Reason::SignedOut)),
            ("on_unknown_preview = \"forward\"", unknown, false, unverified(unknown)),
            ("on_unknown_preview = \"forward\"", mismatch, false, None),
            ("mode = \"monitor\"", mismatch, false, unverified(mismatch)),
            ("mode = \"monitor\"\n[validation.reasons]\ncontrol_id_mismatch = \"enforce\"", mismatch, false, None),
            (
                "mode = \"monitor\"\n[validation.reasons]\ncontrol_id_mismatch = \"enforce\"",
                unknown,
                false,
                unverified(unknown),
            ),
            ("[validation.reasons]\ncontrol_id_mismatch = \"monitor\"", mismatch, false, unverified(mismatch)),
            ("[validation.reasons]\ncontrol_id_mismatch = \"monitor\"", unknown, false, None),
            (
                "on_unknown_preview = \"forward\"\n[validation.reasons]\nunknown_preview = \"enforce\"",
                unknown,
                false,
                unverified(unknown),
            ),
        ] {
            assert_eq!(applied(settings, reason, warming_up), expected, "{settings} {reason} {warming_up}");
        }
    }

    #[test]
    fn on_store_failure_decides_when_previews_cannot_be_looked_up() {
        let applied = |settings: &str, unavailable| {
            let text = format!("[upstream]\nendpoints = [\"https://h\"]\n[validation]\n{settings}\n");
            let config = parse(&text, std::path::Path::new("/"), Files::Skip).unwrap();
            apply_policy(Err(Objection::Unknowable(unavailable)), &config.validation, false)
        };
        let unverified = Some((Verdict::Unverified, Reason::StoreUnavailable));
        for (settings, unavailable, expected) in [
            ("", Unavailable::Forward, unverified),
            ("", Unavailable::Reject, None),
            ("on_unknown_preview = \"forward\"", Unavailable::Reject, None),
            ("", Unavailable::NothingHere, None),
            ("on_unknown_preview = \"forward\"", Unavailable::NothingHere, unverified),
            ("on_unknown_preview = \"forward\"", Unavailable::OthersHere, None),
            ("mode = \"monitor\"", Unavailable::Reject, unverified),
        ] {
            let outcome = applied(settings, unavailable);
            assert!(matches!(outcome, Ok(_) | Err(GatewayError::StoreUnavailable)), "{settings} {unavailable:?}");
            assert_eq!(outcome.ok(), expected, "{settings} {unavailable:?}");
        }
    }

    const BODY: &[u8] = br#"{"called":"1","callcontrolid":7}"#;

    fn headers(fields: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), header::HeaderValue::from_static(value))).collect()
    }

    fn reason(outcome: Result<ParsedCallout, Objection>) -> Option<Reason> {
        match outcome {
            Ok(_) => None,
            Err(Objection::Invalid { reason, .. }) => Some(reason),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn head_query_and_body_are_checked_each_and_in_this_order() {
        let json = (header::CONTENT_TYPE, "application/json; charset=UTF-8");
        let guid = (GUID, "7c9d.AgentGateway1");
        let (no_guid, no_json) = (Some(Reason::MissingGuid), Some(Reason::InvalidContentType));
        let malformed = Some(Reason::MalformedBody);
        for (fields, query, body, expected) in [
            (vec![guid.clone(), json.clone()], None, BODY, None),
            (vec![guid.clone(), json.clone()], Some("_=1&calldata=x"), BODY, None),
            (vec![json.clone()], None, BODY, no_guid),
            (vec![(GUID, ""), json.clone()], None, BODY, no_guid),
            (vec![(GUID, " \t"), json.clone()], None, BODY, no_guid),
            (vec![guid.clone()], None, BODY, no_json),
            (vec![guid.clone(), (header::CONTENT_TYPE, "text/plain")], None, BODY, no_json),
            (vec![guid.clone(), (header::CONTENT_TYPE, "application/json; charset=gbk")], None, BODY, no_json),
            (vec![guid.clone(), json.clone(), (header::CONTENT_ENCODING, "identity")], None, BODY, no_json),
            (vec![guid.clone(), json.clone()], Some("called=2"), BODY, malformed),
            (vec![guid.clone(), json.clone()], Some("x=1;CallControlId=2"), BODY, malformed),
            (vec![guid.clone(), json.clone()], None, b"{}", Some(Reason::MissingField)),
            (vec![guid.clone(), json.clone()], None, b"", malformed),
            (vec![], Some("called=2"), b"", no_guid),
            (vec![guid.clone()], Some("called=2"), b"", no_json),
            (vec![guid, json], Some("called=2"), b"{}", malformed),
        ] {
            let found = parse_request(query, &headers(&fields), body);
            assert_eq!(reason(found), expected, "{fields:?} {query:?}");
        }
    }

    /// One preview: number 1, control ID 7, shown at 1000.
    fn one_preview() -> AgentPreviews {
        let numbers = vec![DialedNumber::new("1")];
        let shown = Announcement { control_id: ControlId(7), numbers, shown: Vec::new() };
        let mut previews = AgentPreviews::default();
        previews.apply(Change::Shown(shown), Timestamp(1000), Bounds { per_agent: 16 });
        previews
    }

    const TTL: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_known_of_the_agent_decides() {
        let (previews, none) = (one_preview(), AgentPreviews::default());
        let other = AgentId::try_from(102).unwrap();
        let own = Ownership::Own;
        for (body, previews, signed_out, session, expected) in [
            (BODY, &previews, false, own, Ok(())),
            (BODY, &previews, false, Ownership::Unknown, Ok(())),
            (BODY, &previews, true, own, Ok(())),
            (BODY, &previews, false, Ownership::NotOwn, Err("foreign")),
            (BODY, &previews, false, Ownership::Other(other), Err("foreign")),
            (BODY, &none, false, own, Err("unknown_preview")),
            (BODY, &none, true, own, Err("signed_out")),
            (BODY, &none, true, Ownership::NotOwn, Err("signed_out")),
            (br#"{"called":"2","callcontrolid":7}"#, &previews, true, own, Err("number_not_in_preview")),
            (br#"{"called":"1","callcontrolid":8}"#, &previews, false, Ownership::NotOwn, Err("control_id_mismatch")),
        ] {
            let state = AgentState { previews, signed_out, session, away: false };
            let found = evaluate(parse_callout(body).unwrap(), state, Timestamp(3000), TTL);
            assert!(found.callout.is_some() && found.rewritten.is_none());
            let word = match &found.outcome {
                Ok(()) => Ok(()),
                Err(Objection::ForeignSession) => Err("foreign"),
                Err(Objection::Invalid { reason, .. }) => Err(reason.as_str()),
                Err(Objection::Unknowable(_)) => Err("unknowable"),
            };
            assert_eq!(word, expected, "{signed_out} {session:?}");
            let age =
                if matches!(expected, Ok(()) | Err("foreign" | "number_not_in_preview")) { Some(2) } else { None };
            assert_eq!(found.preview_age.map(|age| age.as_secs()), age, "{expected:?}");
        }
    }

    #[test]
    fn while_the_shared_store_is_away_a_preview_that_is_not_known_here_may_be_known_there() {
        let (previews, none) = (one_preview(), AgentPreviews::default());
        let (nothing, others) = (Some(Unavailable::NothingHere), Some(Unavailable::OthersHere));
        let (other_number, other_id): (&[u8], &[u8]) =
            (br#"{"called":"2","callcontrolid":7}"#, br#"{"called":"1","callcontrolid":8}"#);
        for (body, previews, signed_out, now, expected) in [
            (BODY, &none, false, 3000, nothing),
            (BODY, &none, true, 3000, nothing),
            (other_number, &previews, false, 3000, others),
            (other_id, &previews, false, 3000, others),
            (BODY, &previews, false, 3000, None),
            (BODY, &previews, false, 90_000, None),
        ] {
            for away in [true, false] {
                let state = AgentState { previews, signed_out, session: Ownership::Own, away };
                let found = evaluate(parse_callout(body).unwrap(), state, Timestamp(now), TTL);
                let unavailable = match found.outcome {
                    Err(Objection::Unknowable(unavailable)) => Some(unavailable),
                    Ok(()) | Err(Objection::Invalid { .. } | Objection::ForeignSession) => None,
                };
                assert_eq!(unavailable, expected.filter(|_| away), "{expected:?} {away} {now}");
            }
        }
    }

    #[test]
    fn heads_that_are_not_admitted() {
        let policy = |settings: &str| {
            let text = format!("[upstream]\nendpoints = [\"https://h\"]\n[validation]\n{settings}\n");
            parse(&text, std::path::Path::new("/"), Files::Skip).unwrap().validation
        };
        let classified = |objection, websocket| Classified { objection, websocket, ..Classified::refused() };
        let (method, found) = (Unclassified::MethodNotAllowed, Unclassified::NotFound);
        for (settings, objection, websocket, expected) in [
            ("", None, false, Ok(None)),
            ("", Some(method), false, Err("objection")),
            ("mode = \"monitor\"", Some(method), false, Ok(Some((Verdict::Unverified, Reason::MethodNotAllowed)))),
            ("mode = \"monitor\"", Some(found), false, Err("objection")),
            ("mode = \"monitor\"", None, true, Err("websocket")),
            ("allow_websocket = true", None, true, Ok(None)),
            ("allow_websocket = true", Some(method), true, Err("objection")),
        ] {
            let admitted = match admit(&classified(objection, websocket), &policy(settings)) {
                Ok(verdict) => Ok(verdict),
                Err(GatewayError::WebSocket) => Err("websocket"),
                Err(_) => Err("objection"),
            };
            assert_eq!(admitted, expected, "{settings} {objection:?} {websocket}");
        }
    }

    #[test]
    fn foreign_sessions_are_refused_where_both_settings_enforce() {
        let applied = |settings: &str, session| {
            let text = format!("[upstream]\nendpoints = [\"https://h\"]\n[validation]\n{settings}\n");
            let policy = parse(&text, std::path::Path::new("/"), Files::Skip).unwrap().validation;
            let early = is_refused_as_foreign(session, &policy);
            (early, apply_policy(Err(Objection::ForeignSession), &policy, false).ok())
        };
        let (ok, foreign) = ((Verdict::Forwarded, Reason::Ok), (Verdict::Unverified, Reason::ForeignSession));
        for (settings, session, expected) in [
            ("session = \"enforce\"", Ownership::NotOwn, (true, None)),
            ("session = \"enforce\"", Ownership::Own, (false, None)),
            ("session = \"enforce\"", Ownership::Unknown, (false, None)),
            ("session = \"enforce\"\nmode = \"monitor\"", Ownership::NotOwn, (false, Some(foreign))),
            ("session = \"monitor\"", Ownership::NotOwn, (false, Some(foreign))),
            ("session = \"off\"", Ownership::NotOwn, (false, Some(ok))),
        ] {
            assert_eq!(applied(settings, session), expected, "{settings} {session:?}");
        }
    }
}
