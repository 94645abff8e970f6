//! **The script**: each step and its expected result. `play` measures the real result.

use crate::preview::{Reason, Verdict};

/// The agent of all steps that name no other.
pub(super) const AGENT: u32 = 1001;
/// The agent whose preview agent 1001 tries to call.
pub(super) const COLLEAGUE: u32 = 1002;

/// The agent whose application gets pushes instead of polling.
pub(super) const PUSHED: u32 = 1003;
/// The agent whose application asks for pushes to an address that the gateway does not allow.
const MISLED: u32 = 1004;
/// That address. It is reserved for documentation, so no host has it.
pub(super) const ELSEWHERE: &str = "https://192.0.2.7/push";

/// One request or push, and an action of the platform just before it.
pub(super) struct Step {
    /// The description; at most 35 characters, the width of its column.
    pub(super) what: &'static str,
    /// What the platform does first.
    pub(super) platform: Platform,
    /// The action of the application.
    pub(super) act: Act,
    /// The expected result.
    pub(super) expected: Expected,
}

/// An action of the platform.
#[derive(Clone, Copy)]
pub(super) enum Platform {
    /// Nothing.
    Idle,
    /// It shows a preview to an agent.
    Shows {
        /// The agent.
        agent: u32,
        /// The preview's control ID.
        control_id: i64,
        /// `dialeddigits`
        numbers: &'static str,
    },
    /// It releases the agent's preview.
    Releases(u32),
}

/// An action of an application.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// `PUT onlineagent/{agent}`
    SignIn(u32),
    /// `PUT onlineagent/{agent}` with `callBackUri` and `serviceToken`.
    SignInForPush(u32, CallBack),
    /// Nothing is sent: the platform pushes.
    GetPush,
    /// `GET agentevent/{agent}`
    Poll(u32),
    /// `GET agentevent/allagentevent`
    PollAll,
    /// `PUT voicecall/{agent}/previewCallout`, the resource in any spelling, with any body.
    Callout {
        /// The agent that calls.
        agent: u32,
        /// The last segment of the path.
        resource: &'static str,
        /// The message body.
        body: &'static str,
    },
}

/// The address in `callBackUri`.
#[derive(Clone, Copy)]
pub(super) enum CallBack {
    /// The application.
    Application,
    /// [`ELSEWHERE`]
    Elsewhere,
}

/// How the upstream is involved in a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    /// Nothing.
    Untouched,
    /// The request is in its journal.
    Reached,
    /// It pushed to the gateway.
    Pushed,
    /// It pushed, but past the gateway.
    PushedPast,
}

impl Upstream {
    /// For the table.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Untouched => "-",
            Self::Reached => "reached",
            Self::Pushed => "pushed",
            Self::PushedPast => "pushed past",
        }
    }
}

/// The expected result of a step. The HTTP status is always 200 (docs/protocol.md 3).
#[derive(Clone, Copy)]
pub(super) struct Expected {
    /// Decision and reason in the decision log; `None` if the request is not a callout.
    pub(super) decision: Option<(Verdict, Reason)>,
    /// The retcode of the envelope.
    pub(super) retcode: &'static str,
    /// The types of the events in the answer.
    pub(super) events: &'static [&'static str],
    /// How the upstream is involved.
    pub(super) upstream: Upstream,
}

const fn step(what: &'static str, act: Act, expected: Expected) -> Step {
    Step { what, platform: Platform::Idle, act, expected }
}

impl Step {
    const fn after(self, platform: Platform) -> Self {
        Self { platform, ..self }
    }
}

const fn callout(body: &'static str) -> Act {
    callout_by(AGENT, "previewCallout", body)
}

const fn callout_by(agent: u32, resource: &'static str, body: &'static str) -> Act {
    Act::Callout { agent, resource, body }
}

const fn shows(agent: u32, control_id: i64, numbers: &'static str) -> Platform {
    Platform::Shows { agent, control_id, numbers }
}

const fn passed(events: &'static [&'static str]) -> Expected {
    Expected { decision: None, retcode: "0", events, upstream: Upstream::Reached }
}

const fn pushed(events: &'static [&'static str]) -> Expected {
    Expected { decision: None, retcode: "0", events, upstream: Upstream::Pushed }
}

/// Not a callout, and so no line in the decision log.
const fn refused(retcode: &'static str) -> Expected {
    Expected { decision: None, retcode, events: &[], upstream: Upstream::Untouched }
}

const fn forwarded() -> Expected {
    let decision = Some((Verdict::Forwarded, Reason::Ok));
    Expected { decision, retcode: "0", events: &[], upstream: Upstream::Reached }
}

const fn rejected(reason: Reason, retcode: &'static str) -> Expected {
    Expected { decision: Some((Verdict::Rejected, reason)), retcode, events: &[], upstream: Upstream::Untouched }
}

/// All steps, in order.
#[rustfmt::skip] // a table
pub(super) const SCRIPT: [Step; 24] = [
    step("sign-in", Act::SignIn(AGENT), passed(&[])),
    step("sign-in of agent 1002", Act::SignIn(COLLEAGUE), passed(&[])),
    step("poll: nothing new", Act::Poll(AGENT), passed(&[])),

    step("poll: preview 7001 of 5550101", Act::Poll(AGENT), passed(&["AgentEvent_Preview_CallOut"]))
        .after(shows(AGENT, 7001, "5550101")),
    step("callout 7001, 5550101", callout(r#"{"called":"5550101","callcontrolid":"7001"}"#), forwarded()),
    step("callout 7001, 5550199: not shown", callout(r#"{"called":"5550199","callcontrolid":"7001"}"#),
        rejected(Reason::NumberNotInPreview, "200-001")),
    step("callout 7009, 5550101: wrong ID", callout(r#"{"called":"5550101","callcontrolid":"7009"}"#),
        rejected(Reason::ControlIdMismatch, "000-002")),

    step("poll: preview 7002 of 5550201 … 203", Act::Poll(AGENT), passed(&["AgentEvent_Preview_CallOut_Ex"]))
        .after(shows(AGENT, 7002, "5550201,5550202,5550203")),
    step("callout 7002, 5550203", callout(r#"{"called":"5550203","callcontrolid":7002}"#), forwarded()),
    step("callout 7002, 555020: a fragment", callout(r#"{"called":"555020","callcontrolid":7002}"#),
        rejected(Reason::NumberNotInPreview, "200-001")),
    step("callout 7002, 5550101: is of 7001", callout(r#"{"called":"5550101","callcontrolid":7002}"#),
        rejected(Reason::NumberNotInPreview, "200-001")),
    step("callout with half a body", callout(r#"{"called":"5550203","#),
        rejected(Reason::MalformedBody, "000-002")),
    step("callout that names two numbers",
        callout(r#"{"called":"5550203","called":"5550199","callcontrolid":7002}"#),
        rejected(Reason::MalformedBody, "000-002")),
    step("callout to …/previewCallou%74",
        callout_by(AGENT, "previewCallou%74", r#"{"called":"5550199","callcontrolid":7002}"#),
        rejected(Reason::AmbiguousPath, "000-002")),

    step("poll of all agents: 7003 for 1002", Act::PollAll, passed(&["AgentEvent_Preview_CallOut"]))
        .after(shows(COLLEAGUE, 7003, "5550301")),
    step("callout 7003, 5550301 by agent 1002",
        callout_by(COLLEAGUE, "previewCallout", r#"{"called":"5550301","callcontrolid":7003}"#), forwarded()),
    step("callout 7003, 5550301: agent 1002's", callout(r#"{"called":"5550301","callcontrolid":7003}"#),
        rejected(Reason::ControlIdMismatch, "000-002")),

    step("poll: the preview is released", Act::Poll(AGENT), passed(&["AgentEvent_Release_Preview"]))
        .after(Platform::Releases(AGENT)),
    step("callout 7002, 5550203: released", callout(r#"{"called":"5550203","callcontrolid":7002}"#),
        rejected(Reason::UnknownPreview, "000-002")),

    step("sign-in of agent 1003, for push", Act::SignInForPush(PUSHED, CallBack::Application), passed(&[])),
    step("push: preview 7004 for agent 1003", Act::GetPush, pushed(&["AgentEvent_Preview_CallOut"]))
        .after(shows(PUSHED, 7004, "5550401")),
    step("callout 7004, 5550401 by agent 1003",
        callout_by(PUSHED, "previewCallout", r#"{"called":"5550401","callcontrolid":7004}"#), forwarded()),
    step("callout 7004, 5550499 by agent 1003",
        callout_by(PUSHED, "previewCallout", r#"{"called":"5550499","callcontrolid":7004}"#),
        rejected(Reason::NumberNotInPreview, "200-001")),
    step("sign-in of 1004, push to elsewhere", Act::SignInForPush(MISLED, CallBack::Elsewhere), refused("100-001")),
];
