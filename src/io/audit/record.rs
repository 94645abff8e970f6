//! The records of the audit log: one JSON object a line. `schema.json` beside this file describes them for others.
//!
//! The gateway writes them, the `audit` commands read them; both use these types.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::compact_json::{append_decimal, append_json};
use super::digest::{Digest, Mac};
use super::time;
use crate::label_enum;
use crate::preview::{NumberKeyId, RecordId, Timestamp};
use crate::rfc3339::digits;

/// The version of the format. Readers refuse segments of another version.
pub const FORMAT: u32 = 1;

/// Text in a record.
pub type Text<'a> = Cow<'a, str>;

/// A list in a record. Nearly every one has one element, which takes no memory of its own.
pub type ShortList<T> = SmallVec<[T; 1]>;

label_enum! {
    /// `kind`: the subject of a record.
    pub enum Kind {
        /// A segment begins.
        Open = "open",
        /// A segment ends.
        Close = "close",
        /// The configuration in force.
        Config = "config",
        /// An agent is about to be shown a preview.
        Shown = "shown",
        /// The answer with the preview left the gateway, or did not.
        Delivered = "delivered",
        /// A preview is over.
        Ended = "ended",
        /// A callout was judged.
        Decision = "decision",
        /// The result of a callout.
        Outcome = "outcome",
        /// The platform reports on a call.
        Call = "call",
        /// The shared store was lost or is back.
        Store = "store",
        /// Records could not be written.
        Lost = "lost",
        /// Callouts that were refused, counted.
        Refusals = "refusals",
        /// A signed checkpoint.
        Checkpoint = "checkpoint",
    }
}

/// The members that every line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Header<'a> {
    /// The position in the instance's chain, from 1, without gaps.
    pub seq: u64,
    /// The digest of the line before, without its line feed.
    pub prev: Digest,
    /// When the record was made.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The subject.
    #[serde(borrow)]
    pub kind: &'a str,
}

macro_rules! records {
    ($($Kind:ident($Content:ty),)+) => {
        /// The content of a line.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[allow(clippy::large_enum_variant, reason = "a record is not kept: it becomes text at once")]
        pub enum Record<'a> {
            $(#[doc = concat!("See [`Kind::", stringify!($Kind), "`].")] $Kind($Content),)+
        }

        impl<'a> Record<'a> {
            /// Reads the members that belong to `kind` from a whole line.
            ///
            /// # Errors
            /// When one is missing or has another type.
            pub fn read(kind: Kind, line: &'a str) -> Result<Self, serde_json::Error> {
                match kind { $(Kind::$Kind => serde_json::from_str(line).map(Self::$Kind),)+ }
            }

            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$Kind(_) => Kind::$Kind,)+ }
            }
        }
    };
}

records! {
    Open(Open<'a>),
    Close(Close),
    Config(ConfigInForce<'a>),
    Shown(Shown<'a>),
    Delivered(Delivered<'a>),
    Ended(Ended<'a>),
    Decision(Decision<'a>),
    Outcome(Outcome<'a>),
    Call(Call<'a>),
    Store(Store<'a>),
    Lost(Lost),
    Refusals(Refusals<'a>),
    Checkpoint(SignedCheckpoint<'a>),
}

impl Kind {
    /// The kind with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

/// Appends a record without `seq` and `prev`, which only the writer knows, and without a line feed.
pub(super) fn append_body(body: &mut Vec<u8>, at: Timestamp, record: &Record<'_>) {
    body.extend_from_slice(b"\"at\":\"");
    body.extend_from_slice(&digits(at.0));
    body.push(b'"');
    let start = body.len();
    append_json(body, record);
    // The members follow those of the header, so the object's own brace becomes a comma.
    if let Some(brace) = body.get_mut(start) {
        *brace = b',';
    }
}

/// Appends a whole line, without line feed.
pub(super) fn append_line(line: &mut Vec<u8>, seq: u64, prev: Digest, body: &[u8]) {
    line.extend_from_slice(b"{\"seq\":");
    append_decimal(line, seq);
    line.extend_from_slice(b",\"prev\":\"");
    prev.append_to(line);
    line.extend_from_slice(b"\",");
    line.extend_from_slice(body);
}

/// A segment begins: the first line of each file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open<'a> {
    /// [`FORMAT`]
    pub format: u32,
    /// The program that writes it.
    #[serde(borrow)]
    pub version: Text<'a>,
    /// The chain that it belongs to.
    #[serde(borrow)]
    pub instance: Text<'a>,
    /// The file's name without `.jsonl`.
    #[serde(borrow)]
    pub segment: Text<'a>,
    /// `start`, `rotation` or `recovery`.
    #[serde(borrow)]
    pub cause: Text<'a>,
    /// The public half of the key that signs its checkpoints.
    #[serde(borrow)]
    pub public_key: Text<'a>,
    /// The longest time between two checkpoints while records are written.
    pub checkpoint_interval_ms: u64,
    /// How long segments are kept.
    pub retention_days: u64,
    /// The end of the segment before; absent in the first segment of an instance.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before<'a>>,
}

/// The end of the segment before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Before<'a> {
    /// Its name.
    #[serde(borrow)]
    pub segment: Text<'a>,
    /// The sequence number of its last line that counts.
    pub seq: u64,
    /// The digest of that line.
    pub head: Digest,
    /// Whether it was closed. If not, the gateway or its disk failed.
    pub closed: bool,
    /// Bytes after that line: a line that was cut off, or lines that were recorded again in this segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
}

/// Bytes of a segment that are no part of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// How many.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Digest,
}

/// A segment ends; only its last checkpoint follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Close {
    /// Whether the gateway ends as well.
    pub stop: bool,
}

/// The configuration in force from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigInForce<'a> {
    /// The event that put it in force: `start`, `sighup`, `admin`, `certificates`; `segment` at the beginning of a further
    /// segment, where it repeats what is in force already.
    #[serde(borrow)]
    pub trigger: Text<'a>,
    /// The address of the client that asked for it, if `trigger` is `admin`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Text<'a>>,
    /// `validation.mode`
    #[serde(borrow)]
    pub mode: Text<'a>,
    /// The digest of the effective configuration, as `check` prints it.
    pub configuration: Digest,
    /// With `start` and `segment` every key that is set, otherwise the keys that changed. A secret is `sha256:` or `hmac:` and
    /// digits.
    #[serde(borrow)]
    pub changes: Vec<ChangedKey<'a>>,
}

/// A key of the configuration that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangedKey<'a> {
    /// Its full path.
    #[serde(borrow)]
    pub key: Text<'a>,
    /// The value before; absent if it was not set.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Text<'a>>,
    /// The value from now on; absent if it is not set any more.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Text<'a>>,
}

/// A telephone number as a record holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Number<'a> {
    /// Its length and its last two characters.
    #[serde(borrow)]
    pub masked: Text<'a>,
    /// Its keyed hash.
    pub hmac: Mac,
}

/// An agent is about to be shown a preview. The record is made before the client gets the preview.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown<'a> {
    /// The record's own name.
    pub id: RecordId,
    /// The agent.
    pub agent: u32,
    /// The preview's control ID.
    pub control_id: i64,
    /// The numbers of the event.
    #[serde(borrow)]
    pub numbers: Vec<Number<'a>>,
    /// The key of their hashes.
    pub key: NumberKeyId,
    /// The numbers, encrypted to the auditor's public key (`audit.recipient`), in the order of `numbers`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Text<'a>>,
    /// The platform's name for the event.
    #[serde(borrow)]
    pub event_type: Text<'a>,
    /// How the event reached the application.
    #[serde(borrow)]
    pub delivery: Text<'a>,
    /// The digest of the bytes of the answer or push that carries the event, as CC-Gateway sent them.
    pub event: Digest,
    /// The position of the event among those of that answer or push that can be read, from 0.
    pub position: u64,
    /// When the platform made the event, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<u64>,
    /// The keyed hash of the session's GUID, under the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Mac>,
    /// Members of `callData` that are kept (`audit.evidence`).
    #[serde(borrow, default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<Text<'a>, Text<'a>>,
}

/// The last byte of an answer with previews was handed to the client's socket, or was not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivered<'a> {
    /// The announcements in the answer.
    pub shown: ShortList<RecordId>,
    /// `written`: the last byte was handed to the socket, or the application answered the push. `client_gone`: it was not.
    /// `unanswered`: the application did not answer the push, and may have it.
    #[serde(borrow)]
    pub result: Text<'a>,
}

/// A preview is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended<'a> {
    /// The agent.
    pub agent: u32,
    /// The preview's control ID; absent: every preview of the agent, whichever gateway showed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_id: Option<i64>,
    /// Its announcements, as far as this gateway knows them.
    pub shown: ShortList<RecordId>,
    /// Only previews that were shown before this time are over.
    #[serde(with = "time::optional", default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// The reason, as in the log: `released`, `shut_down`, `cancelled`, `signed_in`, `signed_out`, `no_session`,
    /// `unknown_outcome`; `expired`, `per_agent` and `capacity` when the gateway forgets it; `outdated`, `earlier_session`
    /// and `failed_answer` when it was over before it was shown, and never counted.
    #[serde(borrow)]
    pub cause: Text<'a>,
}

/// A callout was judged. The record is made before the first byte of the callout goes upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision<'a> {
    /// The record's own name: the gateway's own `id` of the request, as in the log.
    pub id: RecordId,
    /// The agent who asked for the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<u32>,
    /// The tenant that the request belongs to, if the configuration names tenants.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Text<'a>>,
    /// `forwarded`, `rejected` or `unverified`.
    #[serde(borrow)]
    pub verdict: Text<'a>,
    /// The reason, as in the decision log.
    #[serde(borrow)]
    pub reason: Text<'a>,
    /// `validation.mode` at that moment.
    #[serde(borrow)]
    pub mode: Text<'a>,
    /// The setting that let an `unverified` callout through in `enforce` mode: `reasons` (the mode of its reason),
    /// `on_unknown_preview`, `warm_up`, `on_store_failure` or `session`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub allowed_by: Option<Text<'a>>,
    /// The number to call.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub called: Option<Called<'a>>,
    /// `callcontrolid`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_id: Option<i64>,
    /// The preview with that control ID, or the newest previews of the agent if none has it.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub previews: ShortList<JudgedPreview>,
    /// With `previews.calls_per_number`: the earlier decisions that count as calls of this number of this preview.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<RecordId>,
    /// `previews.calls_per_number`; absent if there is no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub calls_per_number: u32,
    /// `previews.ttl`
    pub ttl_ms: u64,
    /// Where the previews came from: `memory`, `shared`, `unavailable`; absent if the rule was not applied.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub judged_by: Option<Text<'a>>,
    /// The client's address.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Text<'a>>,
    /// The SHA-256 of the client's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Digest>,
    /// The keyed hash of the session's GUID, under the key of the current month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Mac>,
    /// The relation of that GUID to the agent: `own`, `foreign` or `unknown`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub session_match: Option<Text<'a>>,
    /// The callout was sent although this record was not written yet (`audit.on_failure`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// The request's ID; a client can choose it.
    #[serde(borrow)]
    pub request_id: Text<'a>,
    /// The request's trace ID.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Text<'a>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A number that a callout asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Called<'a> {
    /// Its length and its last two characters.
    #[serde(borrow)]
    pub masked: Text<'a>,
    /// Its hash under the key of each preview that is listed, or of the current month.
    pub hmacs: ShortList<KeyedMac>,
    /// The number, encrypted to the auditor's public key, if no preview that is listed has it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Text<'a>>,
}

/// A keyed hash and its key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyedMac {
    /// The key.
    pub key: NumberKeyId,
    /// The hash.
    pub hmac: Mac,
}

/// A preview that a callout was judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedPreview {
    /// Its control ID.
    pub control_id: i64,
    /// The time since its latest announcement.
    pub age_ms: u64,
    /// The time since the called number was announced, if the preview has that number. It is compared with `ttl_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_age_ms: Option<u64>,
    /// Its announcements. Empty: they were not recorded.
    pub shown: ShortList<RecordId>,
}

/// The result of a callout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome<'a> {
    /// Its decision.
    pub decision: RecordId,
    /// `answered`, `failed` (it may have rung) or `not_sent` (it did not ring).
    #[serde(borrow)]
    pub result: Text<'a>,
    /// The reason, as in the decision log, if it was not answered.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text<'a>>,
    /// The callout was sent before its decision was written (`audit.on_failure`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// The HTTP status of the upstream's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `retcode` of the answer.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub retcode: Option<Text<'a>>,
    /// The platform's name for the call.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<Text<'a>>,
    /// The endpoint.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Text<'a>>,
    /// The upstream's part of the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<u64>,
}

/// The platform reports on a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call<'a> {
    /// The agent.
    pub agent: u32,
    /// The platform's name for the call.
    #[serde(borrow)]
    pub call_id: Text<'a>,
    /// The decision that led to it, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<RecordId>,
    /// The platform's name for the event.
    #[serde(borrow)]
    pub event_type: Text<'a>,
    /// The phase of the call: `alerting`, `talking`, `failed` or `released`.
    #[serde(borrow)]
    pub phase: Text<'a>,
    /// The digest of the bytes of the answer or push that carries the event, as CC-Gateway sent them.
    pub event: Digest,
    /// When the platform made the event, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<u64>,
}

/// The shared store was lost or is back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Store<'a> {
    /// `lost` or `back`.
    #[serde(borrow)]
    pub state: Text<'a>,
    /// Since when the former state lasted.
    #[serde(with = "time")]
    pub since: Timestamp,
}

/// Records could not be written: the disk stood still or was full for too long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// The first of them.
    #[serde(with = "time")]
    pub since: Timestamp,
    /// How many of each kind.
    pub records: BTreeMap<String, u64>,
}

/// Callouts that were refused and have no `decision` of their own: so many that they would fill the disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusals<'a> {
    /// The first of them.
    #[serde(with = "time")]
    pub since: Timestamp,
    /// The client's address without its port; absent for all other clients together.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Text<'a>>,
    /// How many for each reason.
    pub reasons: BTreeMap<String, u64>,
}

/// A signed checkpoint of all lines before it in the segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignedCheckpoint<'a> {
    /// The signed note.
    #[serde(borrow)]
    pub note: Text<'a>,
}
