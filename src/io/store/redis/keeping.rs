//! What must go on whether or not there are requests: the connection, the heartbeat, and what is late.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Value, cmd};
use tokio::time::Instant;

use super::SharedStore;
use super::broadcast::Listener;
use super::heartbeat::{Beat, Names, beat, refused_commands};
use super::link::{Driver, LinkError, connect};
use crate::config::RedisStore;
use crate::preview::{Timestamp, millis};
use crate::store::common_clock::is_step;
use crate::store::guid_key::random_secret;

/// Between two heartbeats, and between two attempts to write what is late.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A Redis that is silent for longer hangs.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(1);
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Between two looks at what is left when the gateway ends.
const LEAVING_PAUSE: Duration = Duration::from_millis(20);
/// A larger difference between the clocks of this gateway and of Redis is reported.
const MAX_SKEW: Duration = Duration::from_secs(2);

impl SharedStore {
    /// Keeps a connection, and writes what is late. Never ends.
    async fn keep(&self, listener: &dyn Listener) {
        loop {
            if let Err(error) = self.connect_and_attend(listener).await
                && self.warnings.allow()
            {
                tracing::warn!(target: "previewgate::store", %error, "shared store cannot be used");
            }
            self.joining.note_attempt();
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Like [`Self::keep`], until `end`; then until everything is written, for what is left of the time that `end` returns.
    pub(in crate::store) async fn keep_until(&self, end: impl Future<Output = Instant>, listener: &dyn Listener) {
        let leaving = async {
            let deadline = end.await;
            let waited = self.outbox.len();
            (waited, tokio::time::timeout_at(deadline, self.emptied()).await.is_ok())
        };
        let (agents, all) = tokio::select! {
            () = self.keep(listener) => return,
            outcome = leaving => outcome,
        };
        if !all {
            let agents = self.outbox.len();
            tracing::warn!(target: "previewgate::store", agents, "changes of agents do not reach the shared store: it is away");
        } else if agents > 0 {
            tracing::info!(target: "previewgate::store", agents, "shared store has every change");
        }
    }

    /// Waits until nothing is left to be written.
    async fn emptied(&self) {
        while self.outbox.len() > 0 {
            self.link.call.notify_one();
            tokio::time::sleep(LEAVING_PAUSE).await;
        }
    }

    /// One connection, from its beginning to its end. An error if it cannot be used from the beginning.
    async fn connect_and_attend(&self, listener: &dyn Listener) -> Result<(), LinkError> {
        let (mut connection, driver, node) = connect(&self.settings, self.dial()).await?;
        let probe = format!("{}agent:0", self.settings.prefix);
        let refused = refused_commands(&mut connection, probe, self.channel());
        let mut refused = tokio::time::timeout(HEARTBEAT_LIMIT, refused).await.map_err(|_| LinkError::Timeout)??;
        // Before anything is shared, so that what is learnt about sessions can be.
        self.heartbeat(connection.clone(), listener).await.map_err(|error| because_of(&refused, error))?;
        let subscription = self.listen().await?;
        if subscription.is_none() {
            refused.push("subscribe".to_owned());
        }
        self.link.set(connection, node);
        self.metrics.store.up(true);
        self.joining.joined();
        let pending = self.outbox.len();
        tracing::info!(target: "previewgate::store", agents_pending = pending, "shared store connected");
        if !refused.is_empty() {
            let commands = refused.join(" ");
            tracing::warn!(
                target: "previewgate::store",
                commands,
                "the user of the shared store has too few rights: previews are not shared as they should be"
            );
        }
        self.heal.notify_one();
        let why = tokio::select! {
            why = self.attend(driver, listener) => why,
            () = self.hear(subscription, listener) => Some(LinkError::Subscription),
            () = self.heal_when_asked(listener) => None,
        };
        self.link.clear();
        self.metrics.store.up(false);
        let error = why.map_or_else(|| "the connection has ended".to_owned(), |error| error.to_string());
        tracing::warn!(target: "previewgate::store", error, "shared store lost");
        Ok(())
    }

    /// Until the connection ends or hangs, or Redis cannot be used any more; then returns why.
    async fn attend(&self, mut driver: Driver, listener: &dyn Listener) -> Option<LinkError> {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                () = driver.ended() => return None,
                _ = heartbeat.tick() => {}
                () = self.link.call.notified() => {}
            }
            if let Err(error) = self.heartbeat(self.link.connection()?, listener).await {
                return Some(error);
            }
            self.catch_up().await;
        }
    }

    /// Asks whether Redis can be used. Takes the key of GUIDs and the time from it, and finds out whether it lost data.
    async fn heartbeat(&self, mut connection: MultiplexedConnection, listener: &dyn Listener) -> Result<(), LinkError> {
        // With a configured key, nothing secret is written.
        let (name, proposal) =
            if self.guid_key.is_configured() { ("heartbeat", None) } else { ("session-key", random_secret()) };
        let names = Names { secret: format!("{}{name}", self.settings.prefix), number: self.number_key.clone() };
        let proposal = proposal.as_ref().map_or(&b"configured"[..], |secret| secret);
        let asked = self.clock.own().now();
        let last = self.last_heartbeat();
        let beat = beat(&mut connection, names, proposal, last.as_ref());
        let beat = tokio::time::timeout(HEARTBEAT_LIMIT, beat);
        let Beat { secret, time, incarnation } = beat.await.map_err(|_| LinkError::Timeout)??;
        self.guid_key.agree(&secret);
        if let Some(time) = time {
            self.compare_clocks(asked, time, listener);
        }
        self.note_contact();
        if let Some(incarnation) = incarnation {
            self.note_incarnation(incarnation);
        }
        Ok(())
    }

    /// Redis's clock showed `theirs` between `asked` and now. Only what cannot be explained by that is a difference.
    fn compare_clocks(&self, asked: Timestamp, theirs: Timestamp, listener: &dyn Listener) {
        let now = self.clock.own().now();
        let error = self.clock.error(asked, theirs, now);
        let is_first = !self.is_clock_known.swap(true, Ordering::Relaxed);
        if is_step(error) {
            listener.clock_stepped(error, is_first);
        } else {
            self.clock.correct(error);
        }
        let (ahead, behind) = (asked.since(theirs), theirs.since(now));
        self.metrics.store.clock_ahead(ahead.as_secs_f64() - behind.as_secs_f64());
        let skew = ahead.max(behind);
        if skew > MAX_SKEW && self.skew_warnings.allow() {
            let skew_ms = millis(skew);
            tracing::warn!(
                target: "previewgate::store",
                skew_ms,
                "the clocks of this gateway and of the shared store differ: previews are judged by the clock of the store"
            );
        }
    }
}

/// Redis does not always name the command that the user may not use.
fn because_of(refused: &[String], error: LinkError) -> LinkError {
    match error {
        LinkError::Redis(source) if !refused.is_empty() => LinkError::Rights { commands: refused.join(" "), source },
        error => error,
    }
}

/// Connects, authenticates and asks for a sign of life.
pub(in crate::store) async fn try_once(settings: &RedisStore) -> Result<(), String> {
    let (mut connection, _driver, _node) = connect(settings, None).await.map_err(|error| error.to_string())?;
    let ping = cmd("PING");
    let pong = ping.query_async::<Value>(&mut connection);
    match tokio::time::timeout(HEARTBEAT_LIMIT, pong).await {
        Ok(pong) => pong.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err("it does not answer".to_owned()),
    }
}
