//! What kind of CC-Gateway the simulator is.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::events::EventShape;
use crate::config::{CallPlan, Campaign};

/// The wait of a long poll as documented: 100 x 100 ms.
const DOCUMENTED_POLL_WAIT: Duration = Duration::from_secs(10);

/// How long GUIDs are valid (docs/protocol.md 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// A GUID lasts as long as its session.
    Static,
    /// A new GUID is issued after a number of responses to polls and handshakes; the GUID before it stays valid.
    Dynamic {
        /// That number.
        every: u32,
    },
}

/// When a push that fails is repeated, and when the platform gives the session up (docs/protocol.md 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushRetry {
    /// The pause before the next attempt.
    pub interval: Duration,
    /// The agent is signed out when pushes have failed for this long.
    pub give_up: Duration,
}

impl PushRetry {
    /// The vendor's defaults.
    pub const DOCUMENTED: Self = Self { interval: Duration::from_secs(10), give_up: Duration::from_secs(120) };
}

/// What kind of CC-Gateway to be.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// The address to listen on; port 0 for any port.
    pub address: SocketAddr,
    /// Absent: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// How long a poll waits for an event: 10 s as documented.
    pub poll_wait: Duration,
    /// An agent that is silent for longer is signed out: 2 minutes as documented.
    pub idle_sign_out: Duration,
    /// The node's name, at the end of each GUID.
    pub node: String,
    /// How long GUIDs are valid.
    pub auth: AuthMode,
    /// How preview events are spelled.
    pub events: EventShape,
    /// Whether a callout is followed by PhoneAlerting, PhoneOffhook and Talking.
    pub follow_ups: bool,
    /// The course of calls. Only a strict simulator has calls with a state.
    pub call: CallPlan,
    /// Whether failed pushes are repeated. Absent: never, so that a test sees each attempt once.
    pub push_retry: Option<PushRetry>,
    /// A campaign that shows contacts by itself. Its calls need a strict simulator.
    pub campaign: Option<Campaign>,
    /// Whether every callout succeeds, so that every refusal comes from the gateway.
    pub lenient_callouts: bool,
    /// Whether interfaces that the simulator does not know are an error, as at a real CC-Gateway. Otherwise they succeed, so
    /// that a test can send any request.
    pub strict: bool,
    /// Whether `/simulator/` is served.
    pub control: bool,
    /// Maximum number of requests in the journal.
    pub journal_entries: usize,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: None,
            poll_wait: DOCUMENTED_POLL_WAIT,
            idle_sign_out: Duration::from_secs(120),
            node: "AgentGateway1".to_owned(),
            auth: AuthMode::Static,
            events: EventShape::default(),
            follow_ups: true,
            call: CallPlan::AT_ONCE,
            push_retry: None,
            campaign: None,
            lenient_callouts: false,
            strict: false,
            control: true,
            journal_entries: 10_000,
        }
    }
}
