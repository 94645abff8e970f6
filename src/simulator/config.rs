//! What kind of CC-Gateway the simulator is.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::events::EventShape;

/// The wait of a long poll as documented: 100 x 100 ms.
const DOCUMENTED_POLL_WAIT: Duration = Duration::from_secs(10);

/// How GUIDs live (docs/protocol.md 2).
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

/// What kind of CC-Gateway to be.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Where to listen; port 0 for any.
    pub address: SocketAddr,
    /// Absent: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// How long a poll waits for an event: 10 s as documented.
    pub poll_wait: Duration,
    /// An agent that is silent for longer is signed out: 2 minutes as documented.
    pub idle_sign_out: Duration,
    /// The node's name, at the end of each GUID.
    pub node: String,
    /// How GUIDs live.
    pub auth: AuthMode,
    /// How preview events are spelled.
    pub events: EventShape,
    /// Whether a callout is followed by PhoneAlerting, PhoneOffhook and Talking.
    pub follow_ups: bool,
    /// Whether every callout succeeds, so that every refusal comes from the gateway.
    pub lenient_callouts: bool,
    /// Whether interfaces that the simulator does not know are an error, as at a real CC-Gateway. Otherwise they succeed, so
    /// that a test can send any request.
    pub strict: bool,
    /// Whether `/simulator/` is served.
    pub control: bool,
    /// How many requests the journal keeps.
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
            lenient_callouts: false,
            strict: false,
            control: true,
            journal_entries: 10_000,
        }
    }
}
