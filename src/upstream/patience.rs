//! Polls that wait for an upstream that restarts.
//!
//! A poll whose connection could not be established has not been sent, and the agent loses nothing by waiting. The
//! vendor's C# client signs its agent out after eight failed polls, about four seconds (docs/protocol.md 9). So the
//! gateway keeps such a poll for `upstream.poll_patience` and tries again.

use std::pin::pin;

use http::Request;
use tokio::time::Instant;

use super::client::{Client, Outcome, Unsent, UpstreamResponse};
use super::failure::Failure;
use super::reconnection::FIRST_PAUSE;
use super::request_body::RequestBody;
use super::route::RoutingKey;

impl Client {
    /// Like [`Client::send`], for the endpoints of `key`. A request that no endpoint has received any byte of is kept for
    /// `upstream.poll_patience`, or until `ending`, and tried again.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_patiently(
        &self,
        request: Request<RequestBody>,
        key: RoutingKey<'_>,
        ending: impl Future<Output = ()>,
    ) -> Result<UpstreamResponse, Failure> {
        let upstream = self.upstream();
        let deadline = Instant::now() + upstream.settings.poll_patience;
        let (mut unsent, mut pause, mut ending) = (Unsent::new(request), FIRST_PAUSE, pin!(ending));
        let mut chance = None;
        loop {
            let cause = match self.attempt_route(&mut unsent, upstream.route(key)).await {
                Outcome::Answered(response) => return Ok(response),
                Outcome::MaybeSent(cause) => return Err(Failure::MaybeSent(cause)),
                Outcome::NotSent(cause) => cause,
            };
            drop(chance.take());
            chance = tokio::select! {
                chance = upstream.reconnection.chance(&mut pause, deadline) => chance,
                () = ending.as_mut() => None,
            };
            if chance.is_none() {
                return Err(Failure::NotSent(cause));
            }
        }
    }
}
