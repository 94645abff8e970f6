//! Towards the client: its bytes before hyper sees them, and its connection as the data path knows it.

mod certificate;
mod client_io;
mod connection;
mod flush;
pub mod framing;
mod rate;
mod tls;

pub use certificate::ClientCertificate;
pub use client_io::{Abort, ClientIo, Timeouts};
pub use connection::{ClientAddress, Connection, Serving, network_of};
pub use rate::MinRate;
pub use tls::{Acceptor, ClientAuthorities};
