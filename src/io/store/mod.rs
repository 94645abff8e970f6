//! The state of all agents, shared by every worker. It outlives a connection, a session, a reload and, with a
//! [`snapshot`], the process.
//!
//! [`Ledger`] owns it: every change and every look goes through it. [`MemoryStore`] is this gateway's own memory, and
//! always there. With `previews.store.kind = "redis"` every change also goes to a Redis that several gateways share, and
//! callouts are judged by what is in it.

mod answer;
mod common_clock;
mod fences;
mod found_ends;
mod guid_key;
pub mod hex;
mod journal;
mod ledger;
mod lru;
mod memory;
mod moment;
mod preview_ends;
mod preview_log;
mod recent_ends;
mod redis;
mod sessions;
mod sign_in;
pub mod snapshot;
mod state_files;
mod succession;
mod wall_clock;

use crate::config::RedisStore;
use crate::label_enum;

pub use answer::{Outcome, Recorded, Source};
pub use ledger::{Counted, Ledger, LookUp};
pub use memory::MemoryStore;
pub use moment::Moment;
pub use preview_ends::{EndObserver, EndScope};
pub use recent_ends::{EndCause, GoneCause, RecentEnd};
pub use redis::{DialStore, EndsNotStored, Node, StoreCondition};
pub use sessions::Ownership;
pub use sign_in::SignIn;
pub use state_files::StateFileError;
pub use succession::{Acknowledged, NumberedChange, Succession};

/// The shared store did not answer, and this gateway's own memory does not stand in: the policy forbids it, or it does not have
/// the preview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// `on_store_failure = "reject"`
    Reject,
    /// `on_store_failure = "forward"`
    Forward,
    /// `on_store_failure = "local"`, and this gateway itself knows no preview of the agent: another one may.
    NothingHere,
    /// The same, but it knows other previews of the agent.
    OthersHere,
}

/// Connects to Redis once, as [`Ledger::stay_connected_until`] does: for `check --online`.
///
/// # Errors
/// Why it cannot be reached or used, in one sentence.
pub async fn try_redis(settings: &RedisStore) -> Result<(), String> {
    redis::try_once(settings).await
}

label_enum! {
    /// Where the previews that a callout is judged by come from.
    pub enum PreviewSource {
        /// This gateway's own memory.
        Memory = "memory",
        /// The shared store.
        Shared = "shared",
    }
}

label_enum! {
    /// The state of the shared store.
    pub enum StoreState {
        /// The shared store is connected and has every change.
        Ok = "ok",
        /// The shared store is not connected, or changes wait to be written.
        Failing = "failing",
    }
}
