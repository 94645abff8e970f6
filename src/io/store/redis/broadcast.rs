//! What other gateways write: each write is published, and every gateway listens on a connection of its own.
//!
//! A message that is lost does no harm while Redis answers: every callout is judged by Redis's own state. It matters when
//! Redis is away afterwards. So a gateway that has not listened for a while compares everything with Redis first
//! ([`super::healing`]).

use std::time::Duration;

use ::redis::Value;
use ::redis::aio::PubSub;
use futures_util::StreamExt;

use super::SharedStore;
use super::link::{LinkError, subscribe};
use super::record::Record;
use crate::preview::{AgentId, ControlId};

/// Between two looks whether the subscription still lives.
const PING: Duration = Duration::from_secs(1);
const PING_LIMIT: Duration = Duration::from_secs(2);

/// What learns of news from the shared store.
pub(in crate::store) trait Listener: Sync {
    /// A preview has ended that this gateway has seen, and whose end it has not seen.
    fn ended_elsewhere(&self, agent: AgentId, control_id: ControlId);

    /// The clock of all gateways is so many milliseconds ahead of what this gateway took for it. `is_first`: nobody has said
    /// before how late it is.
    fn clock_stepped(&self, by: i64, is_first: bool);
}

impl SharedStore {
    /// Begins to listen. None if the user may not: then only reads show what other gateways have written.
    pub(super) async fn listen(&self) -> Result<Option<PubSub>, LinkError> {
        match subscribe(&self.settings, &self.channel(), self.dial()).await {
            Ok(subscription) => Ok(Some(subscription)),
            Err(LinkError::Redis(error)) if error.code() == Some("NOPERM") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Learns what other gateways write, until the subscription ends. Without one, this never returns.
    pub(super) async fn hear(&self, subscription: Option<PubSub>, listener: &dyn Listener) {
        let Some(subscription) = subscription else { return std::future::pending().await };
        let (mut sink, mut messages) = subscription.split();
        let mut ping = tokio::time::interval(PING);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.heard(message.get_payload_bytes(), listener),
                    None => return,
                },
                _ = ping.tick() => match tokio::time::timeout(PING_LIMIT, sink.ping::<Value>()).await {
                    Ok(Ok(_)) => {}
                    // An answer, whatever it says.
                    Ok(Err(error)) if !error.is_io_error() => {}
                    Ok(Err(_)) | Err(_) => return,
                },
            }
        }
    }

    /// `message`: agent, tag and state.
    fn heard(&self, message: &[u8], listener: &dyn Listener) {
        let mut words = message.splitn(3, |byte| *byte == b' ');
        let mut text = || words.next().and_then(|word| std::str::from_utf8(word).ok());
        let (Some(agent), Some(tag), Some(state)) = (text(), text(), text()) else { return };
        let Ok(agent) = agent.parse::<AgentId>() else { return };
        if self.replicas.of(agent).is_some_and(|known| !tag.is_empty() && known.tag == tag) {
            return;
        }
        // What cannot be read here is found when it is read in Redis.
        let Ok(record) = Record::from_json(state.as_bytes(), self.bounds) else { return };
        self.learn(agent, tag, record);
        self.report_ends(agent, listener);
    }

    /// Reports previews in the gateway's own memory that are over.
    pub(super) fn report_ends(&self, agent: AgentId, listener: &dyn Listener) {
        let Some(own) = self.local.previews(agent) else { return };
        let known = self.previews(agent);
        for preview in own.iter().filter(|own| known.find(own.control_id).is_none()) {
            listener.ended_elsewhere(agent, preview.control_id);
        }
    }
}
