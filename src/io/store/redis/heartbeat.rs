//! The heartbeat of the connection to Redis: whether it can be used, the key of GUIDs, the time by Redis's clock, and whether
//! it is still the Redis that it was.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, cmd};

use super::incarnation::Incarnation;
use crate::preview::{Timestamp, millis};
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

/// Where a heartbeat keeps what it needs.
pub(super) struct Names {
    /// The key of the secret, for all gateways.
    pub(super) secret: String,
    /// The key of this gateway's own number.
    pub(super) number: String,
}

/// How long Redis keeps the number of a gateway that has ended.
const NUMBER_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Asks once. `proposal` becomes the secret if there is none. `last` is what the last heartbeat found.
///
/// # Errors
/// Those of Redis. A replica (READONLY), a node of a cluster (MOVED) and a Redis that still loads its data (LOADING) return an
/// error: none of them can be used.
pub(super) async fn beat(
    connection: &mut MultiplexedConnection,
    names: Names,
    proposal: &[u8],
    last: Option<&Incarnation>,
) -> Result<Beat, RedisError> {
    // Without random numbers there is no epoch, and no loss of data is found by it.
    let epoch = random_secret().unwrap_or_default();
    let mut command = cmd("EVAL");
    command.arg(HEARTBEAT).arg(2).arg(names.secret).arg(names.number);
    let (last_epoch, last_number) = last.map_or((&[][..], 0), |last| (&last.epoch[..], last.number));
    command.arg(proposal).arg(&epoch[..]).arg(last_epoch).arg(last_number).arg(millis(NUMBER_KEPT));
    let answer: Vec<Vec<u8>> = command.query_async(connection).await?;
    let mut answer = answer.into_iter();
    let secret = answer.next().unwrap_or_default();
    let (epoch, counted) = (answer.next().unwrap_or_default(), answer.next().and_then(|count| number(&count)));
    let time = answer.next().zip(answer.next()).and_then(|(seconds, micros)| {
        let millis = number(&seconds)?.checked_mul(1000)?;
        Some(Timestamp(millis.checked_add(number(&micros)? / 1000)?))
    });
    Ok(Beat { secret, time, incarnation: counted.map(|number| Incarnation { epoch, number }) })
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
