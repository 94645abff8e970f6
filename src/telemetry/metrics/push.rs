//! Pushes, and the sign-ins that ask for them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::StaticFamily;
use super::label_words::words;
use crate::label_enum;

const PUSHES: &str = "previewgate_pushes";
const SIGN_INS: &str = "previewgate_push_sign_ins";

label_enum! {
    /// What became of a push.
    pub enum PushOutcome {
        /// The application answered, whatever it said.
        Relayed = "relayed",
        /// Its address was not issued with this gateway's key.
        RefusedSignature = "refused_signature",
        /// Its target is not allowed, or resolves to an address that is not.
        RefusedTarget = "refused_target",
        /// It did not arrive whole, or the application could not be reached or did not answer properly.
        Failed = "failed",
    }
}

label_enum! {
    /// What was done with a sign-in that asks for push.
    pub enum SignInHandling {
        /// Its pushes will come through the gateway.
        Rewritten = "rewritten",
        /// It was passed as it is: the previews of its agent will not be seen.
        Passed = "passed",
        /// Its target is not allowed, or cannot be told.
        Refused = "refused",
        /// Too large or not JSON: whether it asks for push is not known; passed as it is.
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

    /// A push came to its end.
    pub fn ended(&self, outcome: PushOutcome) {
        self.pushes.count(outcome.index());
    }

    /// A sign-in asked for push, or may have.
    pub fn signed_in(&self, handling: SignInHandling) {
        self.sign_ins.count(handling.index());
    }
}
