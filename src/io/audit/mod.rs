//! The audit log: proof, for somebody who does not trust the gateway's operator, that each call followed from a preview.
//!
//! Written by [`service`], [`writer`] and the parts that they use: [`record`] (the lines), [`digest`] and [`merkle`] (the
//! chain and its tree), [`note`] (signed checkpoints), [`number_keys`] (numbers as keyed hashes), [`segment`] (the files).
//! `docs/audit.md` describes the format.
//!
//! In the life of a callout: [`Audit::shown`] before an agent's application gets a preview, [`Audit::decision`] before the
//! callout's first byte goes upstream, [`Audit::outcome`] when the answer is there.

pub mod certificate;
mod changes;
mod checkpoint_line;
mod compact_json;
mod digest;
mod facts;
mod known_macs;
mod lock;
pub mod merkle;
pub mod note;
pub mod number_keys;
mod progress;
pub mod prune;
pub mod recipient;
pub mod record;
pub mod segment;
mod service;
mod time;
pub mod verify;
mod writer;

pub use changes::ConfigTrigger;
pub use digest::{Digest, DigestOfPieces, Hex, Mac};
pub use facts::{CallFacts, DecisionFacts, DecisionRef, Evidence, OutcomeFacts, ShownFacts};
pub use progress::{Progress, Sealed};
pub use record::ShortList;
pub use service::{Audit, AuditError, AuditGuard, AuditUnavailable, Settings, SharedGuard, Status};
pub use time::Rfc3339;
pub use writer::WriterSettings;
