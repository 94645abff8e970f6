//! The rule: a callout is valid if this agent was shown this number under this control ID, recently enough.

use std::time::Duration;

use super::{AgentPreviews, ControlId, DialedNumber, Timestamp};
use crate::label_enum;

/// What a `previewCallout` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// `called`
    pub called: DialedNumber,
    /// `callcontrolid`
    pub control_id: ControlId,
}

/// How far the time of a preview may be ahead of the clock: clocks of gateways that share previews differ by less. What is
/// further ahead has no age that can be known.
pub(super) const MAX_AHEAD: Duration = Duration::from_secs(2);

/// A callout that follows from a preview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// Time since the number was announced under this control ID, the last time if more than once.
    pub preview_age: Duration,
}

/// What the rule depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How long after its announcement a number may be called.
    pub ttl: Duration,
    /// How often each number of a preview may be called; 0 is no limit.
    pub calls_per_number: u32,
}

impl From<Duration> for Rule {
    /// This TTL, and no limit of calls.
    fn from(ttl: Duration) -> Self {
        Self { ttl, calls_per_number: 0 }
    }
}

/// Why a callout does not follow from any preview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No preview of this agent is known.
    UnknownPreview,
    /// The agent has previews, none with this control ID.
    ControlIdMismatch,
    /// The preview with this control ID does not list this number.
    NumberNotInPreview {
        /// Time since that preview was announced.
        preview_age: Duration,
    },
    /// The preview and number match, but the number was shown longer ago than the TTL, or by the clock it will be shown.
    PreviewExpired {
        /// Time since the number was announced.
        preview_age: Duration,
    },
    /// The preview and number match, and the number was called as often as it may be.
    NumberUsed {
        /// Time since the number was announced.
        preview_age: Duration,
    },
}

/// Judges `callout` by the previews of the agent who makes it.
///
/// The number must be an element of the very preview that has the callout's control ID: a number of one preview under
/// the control ID of another is refused. Numbers are compared whole and exactly; `100` is not in `1001,1002`. A
/// preview is good up to and including the instant at which it is `ttl` old. One whose time lies in the future is not
/// new: by more than two seconds it is refused as expired. Each number of a preview may be called `calls_per_number` times.
///
/// # Errors
/// The first rule that fails, in the order of [`Refusal`]'s variants.
pub fn decide(
    callout: &Callout,
    previews: &AgentPreviews,
    now: Timestamp,
    rule: impl Into<Rule>,
) -> Result<Validated, Refusal> {
    let Rule { ttl, calls_per_number } = rule.into();
    if previews.is_empty() {
        return Err(Refusal::UnknownPreview);
    }
    let preview = previews.find(callout.control_id).ok_or(Refusal::ControlIdMismatch)?;
    let Some(shown) = preview.find(&callout.called) else {
        return Err(Refusal::NumberNotInPreview { preview_age: now.since(preview.announced_at) });
    };
    let preview_age = now.since(shown.shown_at);
    if preview_age > ttl || shown.shown_at.since(now) > MAX_AHEAD {
        return Err(Refusal::PreviewExpired { preview_age });
    }
    if preview.calls.is_used(&callout.called, calls_per_number) {
        return Err(Refusal::NumberUsed { preview_age });
    }
    Ok(Validated { preview_age })
}

impl Refusal {
    /// The word for logs, metrics and the response header.
    pub fn reason(self) -> Reason {
        match self {
            Self::UnknownPreview => Reason::UnknownPreview,
            Self::ControlIdMismatch => Reason::ControlIdMismatch,
            Self::NumberNotInPreview { .. } => Reason::NumberNotInPreview,
            Self::PreviewExpired { .. } => Reason::PreviewExpired,
            Self::NumberUsed { .. } => Reason::NumberUsed,
        }
    }

    /// The age of the preview that was found, when one was.
    pub fn preview_age(self) -> Option<Duration> {
        match self {
            Self::UnknownPreview | Self::ControlIdMismatch => None,
            Self::NumberNotInPreview { preview_age }
            | Self::PreviewExpired { preview_age }
            | Self::NumberUsed { preview_age } => Some(preview_age),
        }
    }
}

label_enum! {
    /// What happened to a request to the previewCallout resource.
    pub enum Verdict {
        /// The callout is valid and was forwarded.
        Forwarded = "forwarded",
        /// The callout is not valid, and the upstream never received it.
        Rejected = "rejected",
        /// Forwarded although the rule refused it or could not decide. The reason is that of the refusal.
        Unverified = "unverified",
    }
}

label_enum! {
    /// Why a request to the previewCallout resource had the outcome it had: the same word in the
    /// decision log, the metrics and `X-Previewgate-Reason`.
    pub enum Reason {
        /// The callout follows from a preview.
        Ok = "ok",
        /// No preview of this agent is known.
        UnknownPreview = "unknown_preview",
        /// The agent has previews, none with this control ID.
        ControlIdMismatch = "control_id_mismatch",
        /// The preview with this control ID does not list this number.
        NumberNotInPreview = "number_not_in_preview",
        /// Shown, but longer ago than the TTL.
        PreviewExpired = "preview_expired",
        /// Called as often as `previews.calls_per_number` allows.
        NumberUsed = "number_used",
        /// The body is not one unambiguous JSON object of the documented shape.
        MalformedBody = "malformed_body",
        /// `called` or `callcontrolid` is missing.
        MissingField = "missing_field",
        /// The agent ID in the path is not a plain decimal number from 101 to 999999.
        InvalidAgentId = "invalid_agent_id",
        /// Not JSON in UTF-8, or encoded.
        InvalidContentType = "invalid_content_type",
        /// No `Guid` header, or more than one.
        MissingGuid = "missing_guid",
        /// Not a plain PUT.
        MethodNotAllowed = "method_not_allowed",
        /// The path could be read in more than one way.
        AmbiguousPath = "ambiguous_path",
        /// The body is larger than `limits.callout_body`.
        TooLarge = "too_large",
        /// The gateway has too much to do.
        Overloaded = "overloaded",
        /// The upstream could not be reached or did not answer properly.
        UpstreamFailure = "upstream_failure",
        /// The agent is not signed in any more.
        SignedOut = "signed_out",
        /// The `Guid` of the request does not belong to the agent's current session.
        ForeignSession = "foreign_session",
        /// The shared store does not answer, and the configuration refuses callouts while that is so.
        StoreUnavailable = "store_unavailable",
        /// The audit log cannot record the callout, and the configuration refuses callouts that it does not show.
        AuditUnavailable = "audit_unavailable",
        /// The client closed its connection before the request was complete.
        ClientGone = "client_gone",
        /// A defect of the gateway was caught while the request was handled.
        InternalError = "internal_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::{Announcement, Bounds, Change};

    const TTL: Duration = Duration::from_secs(60);
    const SHOWN_AT: Timestamp = Timestamp(1_000_000);

    /// Control ID 7 with two numbers, control ID 8 with one.
    fn two_previews() -> AgentPreviews {
        let mut previews = AgentPreviews::default();
        let bounds = Bounds { per_agent: 16 };
        for (control_id, numbers) in [(7, &["1001", "1002"][..]), (8, &["2001"])] {
            let numbers = numbers.iter().map(|n| DialedNumber::new(*n)).collect();
            previews.apply(
                Change::Shown(Announcement { control_id: ControlId(control_id), numbers, shown: Vec::new() }),
                SHOWN_AT,
                bounds,
            );
        }
        previews
    }

    fn judged_after(age: Duration, control_id: i64, called: &str) -> Reason {
        let callout = Callout { called: DialedNumber::new(called), control_id: ControlId(control_id) };
        let now = Timestamp(SHOWN_AT.0 + age.as_millis() as u64);
        decide(&callout, &two_previews(), now, TTL).map_or_else(Refusal::reason, |_| Reason::Ok)
    }

    #[test]
    fn a_control_id_that_is_announced_again_does_not_renew_the_numbers_shown_before() {
        let mut previews = two_previews();
        let again = |numbers: &[&str]| {
            let numbers = numbers.iter().map(|n| DialedNumber::new(*n)).collect();
            Change::Shown(Announcement { control_id: ControlId(7), numbers, shown: Vec::new() })
        };
        let later = SHOWN_AT.after(TTL);
        for numbers in [&[][..], &["1002"], &["1003"]] {
            previews.apply(again(numbers), later, Bounds { per_agent: 16 });
        }
        let now = later.after(Duration::from_millis(1));
        for (called, expected) in [
            ("1001", Err(Refusal::PreviewExpired { preview_age: TTL + Duration::from_millis(1) })),
            ("1002", Ok(Validated { preview_age: Duration::from_millis(1) })),
            ("1003", Ok(Validated { preview_age: Duration::from_millis(1) })),
        ] {
            let callout = Callout { called: DialedNumber::new(called), control_id: ControlId(7) };
            assert_eq!(decide(&callout, &previews, now, TTL), expected, "{called}");
        }
    }

    #[test]
    fn a_time_in_the_future_is_not_age_0() {
        let callout = Callout { called: DialedNumber::new("1001"), control_id: ControlId(7) };
        let judged = |behind: Duration| {
            let now = Timestamp(SHOWN_AT.0 - behind.as_millis() as u64);
            decide(&callout, &two_previews(), now, TTL).map_or_else(Refusal::reason, |_| Reason::Ok)
        };
        assert_eq!(judged(MAX_AHEAD), Reason::Ok, "clocks differ a little");
        for behind in [MAX_AHEAD + Duration::from_millis(1), Duration::from_secs(900)] {
            assert_eq!(judged(behind), Reason::PreviewExpired, "{behind:?}");
        }
    }

    #[test]
    fn the_rule_by_table() {
        let young = Duration::from_secs(1);
        let past = TTL + Duration::from_millis(1);
        for (age, control_id, called, expected) in [
            (young, 7, "1001", Reason::Ok),
            (young, 7, "1002", Reason::Ok),
            (young, 8, "2001", Reason::Ok),
            // The number of one preview under the control ID of another.
            (young, 8, "1001", Reason::NumberNotInPreview),
            // Never a substring, never a list, never a relative.
            (young, 7, "100", Reason::NumberNotInPreview),
            (young, 7, "10011", Reason::NumberNotInPreview),
            (young, 7, "1001,1002", Reason::NumberNotInPreview),
            (young, 7, "", Reason::NumberNotInPreview),
            (young, 7, "+1001", Reason::NumberNotInPreview),
            (young, 9, "1001", Reason::ControlIdMismatch),
            (young, -7, "1001", Reason::ControlIdMismatch),
            // The edge of the TTL.
            (TTL, 7, "1001", Reason::Ok),
            (past, 7, "1001", Reason::PreviewExpired),
            // The graver reason first: that number was never shown.
            (past, 7, "9999", Reason::NumberNotInPreview),
        ] {
            assert_eq!(judged_after(age, control_id, called), expected, "{control_id} {called:?} after {age:?}");
        }
    }

    #[test]
    fn without_previews_nothing_is_valid() {
        let callout = Callout { called: DialedNumber::new("1001"), control_id: ControlId(7) };
        assert_eq!(decide(&callout, &AgentPreviews::default(), SHOWN_AT, TTL), Err(Refusal::UnknownPreview));
    }

    #[test]
    fn a_preview_without_numbers_validates_nothing() {
        let mut previews = AgentPreviews::default();
        let blank = Announcement { control_id: ControlId(7), numbers: vec![], shown: Vec::new() };
        previews.apply(Change::Shown(blank), SHOWN_AT, Bounds { per_agent: 16 });
        let callout = Callout { called: DialedNumber::new(""), control_id: ControlId(7) };
        let refusal = decide(&callout, &previews, SHOWN_AT, TTL).unwrap_err();
        assert_eq!(refusal.reason(), Reason::NumberNotInPreview);
    }

    #[test]
    fn a_refusal_has_an_age_if_a_preview_was_found() {
        let preview_age = Duration::from_secs(3);
        assert_eq!(Refusal::NumberNotInPreview { preview_age }.preview_age(), Some(preview_age));
        assert_eq!(Refusal::PreviewExpired { preview_age }.preview_age(), Some(preview_age));
        assert_eq!(Refusal::UnknownPreview.preview_age().or(Refusal::ControlIdMismatch.preview_age()), None);
    }
}
