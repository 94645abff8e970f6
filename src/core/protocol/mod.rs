//! The vendor's dialect: bytes to domain and back, no sockets.
//!
//! - [`classify`](mod@classify): the one reader of a request head: what the request is for ([`operation`]), what speaks
//!   against it, and whether it may be a callout. `resource` reads method and path, [`query`] the query, and
//!   `path_readings` knows every reading that some server might have of a path.
//! - [`callout`]: the body of a `previewCallout`, read strictly, because a client wrote it.
//! - [`media_type`]: whether that body is JSON in UTF-8 to every reader of its `Content-Type`.
//! - `answer`: answers and pushes, read forgivingly and in one pass, because the platform wrote them.
//! - [`event`]: the events in them, and what they change.
//! - [`content`]: content codings and charsets, undone before either is read.
//! - [`envelope`]: `message` / `retcode` / `result`, both ways.
//! - [`sign_in`]: where a sign-in asks for push, and the same sign-in with other addresses.
//! - [`push_address`]: the gateway's own push addresses, signed.

mod answer;
mod call_data;
mod call_report;
pub mod callout;
pub mod classify;
pub mod content;
mod content_stream;
pub mod envelope;
pub mod event;
mod event_stream;
mod folded;
mod json_lexer;
#[cfg(test)]
mod lenient;
mod loose_names;
pub mod media_type;
mod members;
mod one_reading;
pub mod operation;
mod path_readings;
pub mod push_address;
mod push_quote;
pub mod query;
mod resource;
pub mod sign_in;
mod strict_json;

pub use answer::parse_events;
pub use call_data::CallData;
pub use call_report::{CallEvent, CallReport};
pub use callout::{CalloutError, ParsedCallout, ParsedCancel, parse_callout, parse_cancel};
pub use classify::{Classified, ClassifyRules, Guard, RequestHead, classify};
pub use content_stream::ContentStream;
pub use envelope::{Envelope, Outcome};
pub use event::{Delivery, Event, EventError, EventType, Events};
pub use event_stream::EventStream;
pub use operation::{Operation, OperationName, Unclassified};
pub use push_quote::AddressMatcher;
