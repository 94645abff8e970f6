//! Failures on the way to the upstream, and whether the request may be sent again.

use std::fmt;
use std::sync::Arc;

use crate::failure::FailureKind;

/// Why there is no response, and whether the request was sent.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The upstream has received no byte of the request, which may be sent again.
    #[error("not sent: {0}")]
    NotSent(Cause),
    /// The upstream may have acted on it. It must never be sent again.
    #[error("outcome unknown: {0}")]
    MaybeSent(Cause),
}

impl Failure {
    /// The cause.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::NotSent(cause) | Self::MaybeSent(cause) => cause,
        }
    }
}

/// A failure on the way to an endpoint. For the log, not for the client.
#[derive(Debug, thiserror::Error)]
#[error("{kind} at {endpoint}{}", Source(.source))]
pub struct Cause {
    /// The label in the metrics.
    pub kind: FailureKind,
    /// `scheme://host:port`, from the configuration.
    pub endpoint: Arc<str>,
    /// The error of the library or the system.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Displays an error and all its causes.
struct Source<'a>(&'a Option<Box<dyn std::error::Error + Send + Sync>>);

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = self.0.as_deref().map(|error| error as &(dyn std::error::Error + 'static));
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
