//! The operations of requests. [`classify`](super::classify()) chooses one from the request head, once.

use super::push_address::PushForm;
use crate::label_enum;
use crate::preview::{AgentId, Reason};

/// The operation of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `PUT voicecall/{agent}/previewCallout`, which the gateway must judge.
    PreviewCallout {
        /// The agent who calls.
        agent: AgentId,
    },
    /// `OPTIONS` of the guarded resource: passes if it is a CORS pre-flight.
    CalloutPreflight,
    /// `PUT voicecall/{agent}/cancelPreviewCallout`
    CancelPreviewCallout {
        /// The agent whose preview it is.
        agent: AgentId,
    },
    /// `GET agentevent/{agent}`: a long poll.
    PollEvents {
        /// The agent whose events the client asks for.
        agent: AgentId,
    },
    /// `GET agentevent/allagentevent`: a long poll for many agents.
    PollAllEvents,
    /// A new session; on success the agent's earlier previews are void (docs/protocol.md 7).
    SignIn {
        /// The agent who signs in.
        agent: AgentId,
        /// The interface that was used.
        name: OperationName,
    },
    /// `PUT onlineagent/loginbyaccount`: a new session of the agent that only the answer names (docs/protocol.md 7).
    SignInByAccount,
    /// The end of a session; on success the agent's previews are void (docs/protocol.md 7).
    SignOut {
        /// The agent whose session ends. A supervisor can end the session of another agent.
        agent: AgentId,
        /// The interface that was used.
        name: OperationName,
        /// The agent who asks for it: the same one, or the supervisor in the path, if that is an agent ID.
        by: Option<AgentId>,
    },
    /// `POST` to one of the gateway's own push addresses, its signature not yet looked at.
    Push {
        /// The agent that the address names; `None` if the agent signed in by account.
        agent: Option<AgentId>,
        /// The form of push that the address names.
        form: PushForm,
    },
    /// Any other request. It is streamed through.
    Other {
        /// The agent in the path, where there is one.
        agent: Option<AgentId>,
    },
    /// The operation is not known, because the head has no reading or more than one.
    Unroutable,
}

impl Operation {
    /// The word for logs and metrics.
    pub fn name(self) -> OperationName {
        match self {
            Self::PreviewCallout { .. } | Self::CalloutPreflight => OperationName::PreviewCallout,
            Self::CancelPreviewCallout { .. } => OperationName::CancelPreviewCallout,
            Self::PollEvents { .. } => OperationName::GetAgentEvent,
            Self::PollAllEvents => OperationName::GetAllAgentEvents,
            Self::SignIn { name, .. } | Self::SignOut { name, .. } => name,
            Self::SignInByAccount => OperationName::LoginByAccount,
            Self::Push { .. } => OperationName::PushEvents,
            Self::Other { .. } => OperationName::Other,
            Self::Unroutable => OperationName::Unroutable,
        }
    }

    /// The agent that the request is about.
    pub fn agent(self) -> Option<AgentId> {
        match self {
            Self::PreviewCallout { agent }
            | Self::CancelPreviewCallout { agent }
            | Self::PollEvents { agent }
            | Self::SignIn { agent, .. }
            | Self::SignOut { agent, .. } => Some(agent),
            Self::Push { agent, .. } | Self::Other { agent } => agent,
            Self::PollAllEvents | Self::CalloutPreflight | Self::SignInByAccount | Self::Unroutable => None,
        }
    }

    /// The agent who makes the request, as far as the path tells: not always the one it is about.
    pub fn requester(self) -> Option<AgentId> {
        match self {
            Self::SignOut { by, .. } => by,
            Self::PreviewCallout { .. }
            | Self::CancelPreviewCallout { .. }
            | Self::PollEvents { .. }
            | Self::SignIn { .. }
            | Self::SignInByAccount
            | Self::Other { .. }
            | Self::PollAllEvents
            | Self::CalloutPreflight
            | Self::Unroutable
            | Self::Push { .. } => self.agent(),
        }
    }

    /// Whether the upstream may hold the request for the length of a long poll.
    pub fn is_long_poll(self) -> bool {
        matches!(self, Self::PollEvents { .. } | Self::PollAllEvents)
    }
}

/// Why a request has no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclassified {
    /// Outside the allowed prefixes.
    #[error("there is nothing at this path")]
    NotFound,
    /// More than one reading, and one of them is an operation that must not be missed.
    #[error("the path can be read in more than one way")]
    AmbiguousPath,
    /// An agent ID is expected and something else stands there.
    #[error("the agent ID in the path is not a plain decimal number from 101 to 999999")]
    InvalidAgentId,
    /// The resource does not allow this method, or the method is not a plain one.
    #[error("the interface does not support this method")]
    MethodNotAllowed,
}

impl Unclassified {
    /// The reason for the log and the client; none for a plain 404.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::NotFound => None,
            Self::AmbiguousPath => Some(Reason::AmbiguousPath),
            Self::InvalidAgentId => Some(Reason::InvalidAgentId),
            Self::MethodNotAllowed => Some(Reason::MethodNotAllowed),
        }
    }
}

label_enum! {
    /// The operations that the gateway tells apart, by the vendor's method names in logs.
    pub enum OperationName {
        /// The guarded resource, with any method.
        PreviewCallout = "previewCallout",
        /// Cancels a preview.
        CancelPreviewCallout = "cancelPreviewCallout",
        /// Event poll of one agent.
        GetAgentEvent = "getAgentEvent",
        /// Event poll of all agents.
        GetAllAgentEvents = "getAllAgentEvents",
        /// Sign-in.
        Login = "login",
        /// Forced sign-in.
        ForceLogin = "forceLogin",
        /// Extended sign-in.
        LoginEx = "loginEx",
        /// Sign-in by account and password.
        LoginByAccount = "loginByAccount",
        /// Sign-out.
        Logout = "logout",
        /// Forced sign-out, of oneself or by a supervisor.
        ForceLogout = "forceLogout",
        /// Events that CC-Gateway pushes.
        PushEvents = "pushEvents",
        /// Any other path below the allowed prefixes.
        Other = "other",
        /// A request that was refused before its operation was known, or is outside the allowed prefixes.
        Unroutable = "unroutable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: u32) -> AgentId {
        AgentId::try_from(number).unwrap()
    }

    #[test]
    fn whom_each_operation_is_about_and_who_asks() {
        let (one, other) = (Some(agent(101)), Some(agent(102)));
        let (agent, name) = (agent(101), OperationName::Logout);
        for (operation, about, requester, is_long_poll) in [
            (Operation::PreviewCallout { agent }, one, one, false),
            (Operation::CancelPreviewCallout { agent }, one, one, false),
            (Operation::PollEvents { agent }, one, one, true),
            (Operation::PollAllEvents, None, None, true),
            (Operation::SignIn { agent, name }, one, one, false),
            (Operation::SignInByAccount, None, None, false),
            (Operation::SignOut { agent, name, by: other }, one, other, false),
            (Operation::SignOut { agent, name, by: None }, one, None, false),
            (Operation::Push { agent: one, form: PushForm::PushUrl }, one, one, false),
            (Operation::Other { agent: one }, one, one, false),
            (Operation::CalloutPreflight, None, None, false),
            (Operation::Unroutable, None, None, false),
        ] {
            let found = (operation.agent(), operation.requester(), operation.is_long_poll());
            assert_eq!(found, (about, requester, is_long_poll), "{operation:?}");
        }
    }

    #[test]
    fn all_faults_of_a_path_but_a_plain_404_have_a_reason() {
        for (fault, reason) in [
            (Unclassified::NotFound, None),
            (Unclassified::AmbiguousPath, Some(Reason::AmbiguousPath)),
            (Unclassified::InvalidAgentId, Some(Reason::InvalidAgentId)),
            (Unclassified::MethodNotAllowed, Some(Reason::MethodNotAllowed)),
        ] {
            assert_eq!(fault.reason(), reason, "{fault}");
        }
    }
}
