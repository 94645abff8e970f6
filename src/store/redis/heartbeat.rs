//! The heartbeat of the connection to Redis: whether it can be used, the key of GUIDs, and the time by Redis's clock.

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, cmd};

use crate::preview::Timestamp;

const HEARTBEAT: &str = include_str!("heartbeat.lua");

/// What a Redis that can be used has answered.
pub(super) struct Beat {
    /// The secret that the gateways share.
    pub(super) secret: Vec<u8>,
    /// The time by Redis's clock, if the user may ask for it.
    pub(super) time: Option<Timestamp>,
}

/// Asks once. `name` is where the secret is kept; `proposal` becomes the secret if there is none.
///
/// # Errors
/// Those of Redis. A replica (READONLY), a node of a cluster (MOVED) and a Redis that still loads its data (LOADING) return an
/// error: none of them can be used.
pub(super) async fn beat(
    connection: &mut MultiplexedConnection,
    name: String,
    proposal: &[u8],
) -> Result<Beat, RedisError> {
    let mut command = cmd("EVAL");
    command.arg(HEARTBEAT).arg(1).arg(name).arg(proposal);
    let answer: Vec<Vec<u8>> = command.query_async(connection).await?;
    let mut answer = answer.into_iter();
    let secret = answer.next().unwrap_or_default();
    let time = answer.next().zip(answer.next()).and_then(|(seconds, micros)| {
        let millis = number(&seconds)?.checked_mul(1000)?;
        Some(Timestamp(millis.checked_add(number(&micros)? / 1000)?))
    });
    Ok(Beat { secret, time })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
