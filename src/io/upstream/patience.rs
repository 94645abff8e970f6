//! Polls that wait for an upstream that restarts.
//!
//! A poll whose connection could not be established has not been sent, and the agent loses nothing by waiting. The
//! vendor's C# client signs its agent out after eight failed polls, about four seconds (docs/protocol.md 9). So the
//! gateway keeps such a poll for `upstream.poll_patience` and tries again.

use std::pin::pin;

use tokio::time::Instant;

use super::client::{Client, Unsent, UpstreamResponse};
use super::failure::{Cause, Failure};
use super::reconnection::FIRST_PAUSE;
use super::route::RoutingKey;

impl Client {
    /// Like [`Client::send`], at `began` for the endpoints of `key`. A request that no endpoint has received any byte of is kept for
    /// `upstream.poll_patience`, or until `ending`, and tried again.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_patiently<E: Future<Output = ()>>(
        &self,
        unsent: &mut Unsent,
        key: RoutingKey<'_>,
        began: Instant,
        ending: impl FnOnce() -> E,
    ) -> Result<UpstreamResponse, Failure> {
        match self.send(unsent, self.upstream().route(key), began).await {
            // Boxed, so that a held poll is not larger for it.
            Err(Failure::NotSent(cause)) => Box::pin(self.try_again(unsent, key, ending(), (cause, began))).await,
            answer => answer,
        }
    }

    async fn try_again(
        &self,
        unsent: &mut Unsent,
        key: RoutingKey<'_>,
        ending: impl Future<Output = ()>,
        (mut cause, began): (Cause, Instant),
    ) -> Result<UpstreamResponse, Failure> {
        let upstream = self.upstream();
        let deadline = began + upstream.settings.poll_patience;
        let (mut pause, mut ending) = (FIRST_PAUSE, pin!(ending));
        loop {
            let chance = tokio::select! {
                chance = upstream.reconnection.chance(&mut pause, deadline) => chance,
                () = ending.as_mut() => None,
            };
            if chance.is_none() {
                return Err(Failure::NotSent(cause));
            }
            cause = match self.send(unsent, upstream.route(key), Instant::now()).await {
                Err(Failure::NotSent(cause)) => cause,
                answer => return answer,
            };
        }
    }
}
