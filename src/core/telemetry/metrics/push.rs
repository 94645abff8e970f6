//! Pushes, and the sign-ins that ask for them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::StaticFamily;
use super::label_words::words;
use crate::label_enum;

const PUSHES: &str = "previewgate_pushes";
const SIGN_INS: &str = "previewgate_push_sign_ins";

label_enum! {
    /// The outcome of a push.
    pub enum PushOutcome {
        /// The application responded, with success or failure.
        Relayed = "relayed",
        /// Its address was not signed with this gateway's key.
        RefusedSignature = "refused_signature",
        /// The session that its address was issued for is over.
        RefusedSession = "refused_session",
        /// It did not come from one of `push.sources`.
        RefusedSource = "refused_source",
        /// Its target is not allowed, or resolves to an address that is not.
        RefusedTarget = "refused_target",
        /// Its body was incomplete, or the application was unreachable or gave no valid response.
        Failed = "failed",
    }
}

label_enum! {
    /// The handling of a sign-in that asks for push.
    pub enum SignInHandling {
        /// It was rewritten: its pushes come through the gateway.
        Rewritten = "rewritten",
        /// It was forwarded unchanged: the gateway does not see the previews of its agent.
        Passed = "passed",
        /// Its target is not allowed, or cannot be read.
        Refused = "refused",
        /// It is too large or not JSON, so that it may or may not ask for push. It was forwarded unchanged.
        Unread = "unread",
    }
}

/// Pushes, and the sign-ins that ask for them.
#[derive(Debug)]
pub struct PushMetrics {
    pushes: StaticFamily<Counter>,
    sign_ins: StaticFamily<Counter>,
}

impl PushMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let pushes = StaticFamily::by("outcome", words!(PushOutcome), Counter::default);
        let sign_ins = StaticFamily::by("handling", words!(SignInHandling), Counter::default);
        registry.register(PUSHES, "Pushes of CC-Gateway to applications", pushes.clone());
        registry.register(SIGN_INS, "Sign-ins that ask for push", sign_ins.clone());
        Self { pushes, sign_ins }
    }

    /// Counts a push.
    pub fn ended(&self, outcome: PushOutcome) {
        self.pushes.count(outcome.index());
    }

    /// Counts a sign-in that asks for push, or may do so.
    pub fn signed_in(&self, handling: SignInHandling) {
        self.sign_ins.count(handling.index());
    }
}
