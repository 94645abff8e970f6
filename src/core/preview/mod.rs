//! The domain: who was shown which numbers, and whether a callout follows from that.
//!
//! Pure: no I/O, no async, no HTTP, no JSON. Time comes in as a [`Timestamp`]. The rule of the whole product is
//! [`decide`]; everything else in the crate exists to give it true facts and to carry out its verdict.

mod agent_previews;
mod call_count;
mod clock;
mod decision;
mod identifiers;
mod shown_ref;

pub use agent_previews::{
    AgentPreviews, Announcement, Bounds, Change, MAX_NUMBER_BYTES, MAX_NUMBERS, Preview, ShownNumber, Surplus,
};
pub use call_count::{CallCount, CountedCall, MAX_CALLS};
pub use clock::millis;
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use decision::{Callout, Reason, Refusal, Rule, Validated, Verdict, decide};
pub use identifiers::{AgentId, ControlId, DialedNumber, InvalidAgentId, InvalidControlId, Masked};
pub use shown_ref::{InvalidReference, NumberKeyId, RecordId, ShownRef};
