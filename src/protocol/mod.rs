//! The vendor's dialect: bytes to domain and back, no sockets.
//!
//! - [`operation`]: what a request is for (method and path).
//! - [`query`]: what a query might do to that.
//! - [`callout`]: the body of a `previewCallout`, read strictly, because a client wrote it.
//! - [`media_type`]: whether that body is JSON in UTF-8 to every reader of its `Content-Type`.
//! - [`event`]: event answers and pushes, read forgivingly, because the platform wrote them.
//! - [`content`]: content codings and charsets, undone before either is read.
//! - [`envelope`]: `message` / `retcode` / `result`, both ways.
//! - [`sign_in`]: where a sign-in asks for push, and the same sign-in with other addresses.
//! - [`push_address`]: the gateway's own push addresses, signed.

pub mod callout;
pub mod content;
pub mod envelope;
pub mod event;
mod lenient;
mod loose_names;
pub mod media_type;
mod members;
mod one_reading;
pub mod operation;
pub mod push_address;
pub mod query;
pub mod sign_in;
mod strict_json;

pub use callout::{CalloutError, ParsedCallout, ParsedCancel, parse_callout, parse_cancel};
pub use envelope::Envelope;
pub use event::{Delivery, Event, EventError, EventType, Events, parse_events};
pub use operation::{Operation, OperationName, Unclassified, classify};
