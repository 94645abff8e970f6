//! One decision in words: what was asked, what the agent had been shown, what the gateway decided, and what to do.

use maud::{Markup, html};

use super::manual;
use super::words::{clock, length, list, machine, plural};
use crate::config::Mode;
use crate::gateway::{Decision, SeenEnd, SeenPreview};
use crate::preview::{Reason, Verdict};
use crate::store::{EndCause, GoneCause};

/// The story of `decision`.
pub(super) fn story(decision: &Decision) -> Markup {
    html! {
        div.story {
            section {
                h3 { "What was asked" }
                p { (asked(decision)) }
                p.quiet {
                    "Request " code { (decision.request_id()) } " from " code { (decision.client) } ", "
                    time datetime=(machine(decision.at)) { (clock(decision.at)) } "."
                }
            }
            section {
                h3 { "What the agent had been shown" }
                (shown(decision))
            }
            section {
                h3 { "What the gateway did" }
                p { (decided(decision)) }
                p { (answered(decision)) }
            }
            section {
                h3 { "What it means" }
                (manual::section(decision.reason))
            }
        }
    }
}

/// The word for a verdict on the page.
pub(super) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forwarded => "forwarded",
        Verdict::Rejected => "refused",
        Verdict::Unverified => "unverified",
    }
}

fn asked(decision: &Decision) -> Markup {
    let what = match (&decision.called, decision.control_id) {
        (Some(called), Some(control_id)) => {
            html! { "asked to call " b { (called) } " under control ID " b { (control_id) } "." }
        }
        _ => html! { "sent a callout whose number or control ID could not be read." },
    };
    match decision.agent_id {
        Some(agent) => html! { "Agent " b { (agent) } " " (what) },
        None => html! { "A client without a valid agent ID in the path " (what) },
    }
}

fn shown(decision: &Decision) -> Markup {
    html! {
        @if decision.previews.is_empty() {
            p { "No preview of this agent was known at that moment." }
        } @else {
            ul {
                @for preview in &decision.previews {
                    (one_preview(preview, decision))
                }
            }
        }
        @if decision.more_previews > 0 {
            p.quiet { "Not listed: " (plural(decision.more_previews as u64, "older preview")) "." }
        }
        @if !decision.ended.is_empty() {
            p { "Before that:" }
            ul.ended {
                @for end in &decision.ended {
                    li { (ended(end)) ", " (length(end.age)) " before." }
                }
            }
        }
    }
}

fn one_preview(preview: &SeenPreview, decision: &Decision) -> Markup {
    let numbers: Vec<_> = preview.numbers.iter().map(|number| number.to_string()).collect();
    html! {
        li {
            "Preview " b { (preview.control_id) }
            @if numbers.is_empty() { " without numbers" } @else { " with " (list(&numbers)) }
            @if preview.more_numbers > 0 { " and " (preview.more_numbers) " more" }
            ", shown " (length(preview.age)) " before"
            @if Some(preview.control_id) == decision.control_id { " — " b { "the one that the callout names" } }
            "."
        }
    }
}

/// What ended, and why.
fn ended(end: &SeenEnd) -> Markup {
    let cause = match end.cause {
        GoneCause::Ended(cause) => why_it_ended(cause),
        GoneCause::Elsewhere => "another gateway has seen its end",
        GoneCause::MadeRoom => {
            return html! { "An older preview made room: " code { "previews.per_agent" } " was reached" };
        }
        GoneCause::Dropped(cause) => {
            let what = end.control_id.map_or_else(|| "A preview".to_owned(), |id| format!("Preview {id}"));
            return html! { (what) " was not recorded: it was over when it arrived (" code { (cause) } ")" };
        }
    };
    match end.control_id {
        Some(control_id) => html! { "Preview " b { (control_id) } " ended: " (cause) },
        None => html! { "No preview was known when " (cause) },
    }
}

fn why_it_ended(cause: EndCause) -> &'static str {
    match cause {
        EndCause::Released => "the platform released it",
        EndCause::ShutDown => "the platform logged the agent out",
        EndCause::SignedIn => "the agent signed in, which begins a new session",
        EndCause::SignedOut => "the agent signed out",
        EndCause::Cancelled => "the application gave it back",
        EndCause::NoSession => "the platform answered that the agent has no session",
        EndCause::UnknownOutcome => "a request that may have ended it got no clear answer",
    }
}

fn decided(decision: &Decision) -> Markup {
    let reason = html! { code { (decision.reason) } };
    match decision.verdict {
        Verdict::Forwarded if decision.reason == Reason::Ok => {
            html! { "Forwarded: the callout follows from a preview" (age(decision)) "." }
        }
        Verdict::Forwarded => html! { "Forwarded, because the callout follows from a preview; then " (reason) "." },
        Verdict::Rejected => html! { b { "Refused" } ": " (reason) ". " (rule(decision)) },
        Verdict::Unverified if decision.mode == Mode::Monitor => {
            html! { b { "Forwarded unverified" } ", because the mode is monitor. It would have been refused: " (reason) ". " (rule(decision)) }
        }
        Verdict::Unverified => {
            html! { b { "Forwarded unverified" } ", because the configuration allows it for " (reason) ". " (rule(decision)) }
        }
    }
}

fn age(decision: &Decision) -> String {
    decision.preview_age.map(|age| format!(" that was shown {} before", length(age))).unwrap_or_default()
}

/// The rule that the callout did not meet; empty if the reason is not about a rule.
fn rule(decision: &Decision) -> String {
    match decision.reason {
        Reason::UnknownPreview => "An agent may call only what the gateway saw being shown to this agent.".to_owned(),
        Reason::ControlIdMismatch => "The control ID must be that of a preview of this agent.".to_owned(),
        Reason::NumberNotInPreview => {
            "The number must be, character by character, one of those that the preview lists.".to_owned()
        }
        Reason::PreviewExpired => {
            let age = decision.preview_age.map(length).unwrap_or_default();
            format!("The number was shown {age} before, longer than previews.ttl allows.")
        }
        Reason::NumberUsed => {
            "This number of the preview was called before, as often as previews.calls_per_number allows.".to_owned()
        }
        Reason::SignedOut => "An agent without a session may not call.".to_owned(),
        Reason::ForeignSession => "The GUID must be that of the agent's own session.".to_owned(),
        Reason::AuditUnavailable => "A callout must be recorded before it is sent.".to_owned(),
        Reason::Ok
        | Reason::MalformedBody
        | Reason::MissingField
        | Reason::InvalidAgentId
        | Reason::InvalidContentType
        | Reason::MissingGuid
        | Reason::MethodNotAllowed
        | Reason::AmbiguousPath
        | Reason::TooLarge
        | Reason::Overloaded
        | Reason::UpstreamFailure
        | Reason::StoreUnavailable
        | Reason::ClientGone
        | Reason::InternalError => String::new(),
    }
}

/// What the upstream and the gateway answered.
fn answered(decision: &Decision) -> Markup {
    html! {
        @match (&decision.upstream, decision.upstream_duration) {
            (Some(endpoint), Some(time)) => { code { (endpoint) } " answered after " (length(time)) ". " }
            (Some(endpoint), None) => { code { (endpoint) } " may have received it, and did not answer properly. " }
            (None, _) => { "The upstream did not receive it. " }
        }
        @match decision.status {
            Some(status) => {
                "The application got status " (status)
                @if let Some(retcode) = &decision.retcode { ", retcode " code { (retcode) } }
                @if let Some(call_id) = &decision.call_id { ", call ID " code { (call_id) } }
                ", " (length(decision.duration)) " after its request."
            }
            None => { "The application had left before it got an answer." }
        }
    }
}
