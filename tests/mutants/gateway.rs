//! The policy without the gateway around it, for `run`.

pub(crate) mod headers;
pub mod policy;

/// The errors that a policy makes: see `gateway::error`.
pub(crate) mod error {
    use std::borrow::Cow;

    use crate::preview::Reason;
    use crate::protocol::Unclassified;

    #[derive(Debug, thiserror::Error)]
    pub(crate) enum GatewayError {
        #[error("WebSocket is not allowed here")]
        WebSocket,
        #[error(transparent)]
        Unclassified(#[from] Unclassified),
        #[error("{message}")]
        Refused { reason: Reason, message: Cow<'static, str> },
        #[error("the gateway cannot look up previews at present")]
        StoreUnavailable,
    }
}
