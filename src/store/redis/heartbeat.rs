//! The heartbeat of the connection to Redis: whether it can be used, the key of GUIDs, the time by Redis's clock, and whether
//! it is still the Redis that it was.

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, cmd};

use super::incarnation::Incarnation;
use crate::preview::Timestamp;
use crate::store::guid_key::random_secret;

const HEARTBEAT: &str = include_str!("heartbeat.lua");
const PROBE: &str = include_str!("probe.lua");

/// What a Redis that can be used has answered.
pub(super) struct Beat {
    /// The secret that the gateways share.
    pub(super) secret: Vec<u8>,
    /// The time by Redis's clock, if the user may ask for it.
    pub(super) time: Option<Timestamp>,
    /// None while it is full, and counts nothing.
    pub(super) incarnation: Option<Incarnation>,
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
    // Without random numbers there is no epoch, and no loss of data is found by it.
    let epoch = random_secret().unwrap_or_default();
    let mut command = cmd("EVAL");
    command.arg(HEARTBEAT).arg(1).arg(name).arg(proposal).arg(&epoch[..]);
    let answer: Vec<Vec<u8>> = command.query_async(connection).await?;
    let mut answer = answer.into_iter();
    let secret = answer.next().unwrap_or_default();
    let (epoch, beats) = (answer.next().unwrap_or_default(), answer.next().and_then(|beats| number(&beats)));
    let time = answer.next().zip(answer.next()).and_then(|(seconds, micros)| {
        let millis = number(&seconds)?.checked_mul(1000)?;
        Some(Timestamp(millis.checked_add(number(&micros)? / 1000)?))
    });
    Ok(Beat { secret, time, incarnation: beats.map(|beats| Incarnation { epoch, beats }) })
}

/// The commands that the user needs and may not use. `name` is a key that no agent has.
///
/// # Errors
/// Those of Redis.
pub(super) async fn refused_commands(
    connection: &mut MultiplexedConnection,
    name: String,
    channel: String,
) -> Result<Vec<String>, RedisError> {
    cmd("EVAL").arg(PROBE).arg(1).arg(name).arg(channel).query_async(connection).await
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
