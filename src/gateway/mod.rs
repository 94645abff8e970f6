//! The data path: from a request head that hyper has read to the response that the client gets.
//!
//! # The life of a callout
//! `pipeline` classifies the head once ([`RequestContext`](context::RequestContext), by [`protocol::classify`]), starts
//! the [`Recorder`](record::Recorder), refuses what has two readings, and takes a place among the requests in flight
//! (`admission`). `operations::callout` reads the body and evaluates it (`policy`). `forward` sends the very bytes that
//! were evaluated, once. `error` and `respond` make the response to a refusal or a failure. The decision line is written
//! before the client gets its response, the access line with the last byte.
//!
//! # The life of a poll
//! `operations::events` forwards it, reads the answer whole, records its previews, and only then lets the client see it.
//!
//! # The life of a push
//! `operations::session` puts the gateway's own push address ([`Push`]) into the sign-in. CC-Gateway posts to it;
//! `operations::push` checks the signature, records the events and posts them to the application (`push_client`).
//!
//! Everything else is streamed through (`operations::passthrough`). Imports point down, in the order `pipeline` →
//! `operations` → `forward`, `policy`, `respond` → `record` → `context` → `services`.
//!
//! [`protocol::classify`]: crate::protocol::classify()

mod account_sign_ins;
mod admission;
mod audit_trail;
mod audited;
mod audited_callout;
mod certificates;
mod client_body;
mod clients;
mod context;
mod cors;
mod drain;
pub(crate) mod error;
mod event_record;
mod event_watch;
mod finish_on_drop;
mod flight_recorder;
mod forward;
mod headers;
mod load;
mod operations;
mod pipeline;
pub(crate) mod policy;
mod poll_rate;
mod proxy_chain;
mod push_client;
mod push_pool;
mod push_quote;
mod push_relay;
mod read_whole;
mod recent_calls;
mod record;
mod refusal_budget;
mod refusal_lines;
mod request_ids;
mod respond;
mod response_body;
mod services;
mod session_watch;
mod set_guid;
mod signed_out;
mod trace_id;

pub use account_sign_ins::AccountSignIns;
pub use audit_trail::AuditTrail;
pub use certificates::{Certificates, UnfitCertificate, certificate_fingerprint};
pub use clients::{ClientPlace, Clients};
pub use cors::Origins;
pub use drain::{Drain, DrainStage};
pub use error::GatewayError;
pub use finish_on_drop::{Commitment, FinishOnDrop, KeptPolls, Owner};
pub use flight_recorder::{Decision, FlightRecorder, MAX_DECISIONS, Minute, SeenEnd, SeenNumber, SeenPreview};
pub use load::Load;
pub use pipeline::RequestService;
pub use poll_rate::PollRate;
pub use push_client::PushFault;
pub use push_relay::{Push, PushSetupError};
pub use refusal_lines::RefusalLines;
pub use request_ids::{RequestId, RequestIds};
pub use respond::RecordedBody;
pub use services::{Generation, Services, ServicesError, SetupError};
