//! What goes wrong on the way to the upstream, and whether the request may be sent again.

use std::fmt;
use std::sync::Arc;

use crate::failure::FailureKind;

/// Why there is no answer, and what is known about the request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The upstream has not seen a byte of the request: it may be sent again.
    #[error("not sent: {0}")]
    NotSent(Cause),
    /// The upstream may have acted on it. It must never be sent again.
    #[error("outcome unknown: {0}")]
    MaybeSent(Cause),
}

impl Failure {
    /// What went wrong.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::NotSent(cause) | Self::MaybeSent(cause) => cause,
        }
    }
}

/// What went wrong on the way to an endpoint. For the log, not for the client.
#[derive(Debug, thiserror::Error)]
#[error("{kind} at {endpoint}{}", Source(.source))]
pub struct Cause {
    /// The word for the metrics.
    pub kind: FailureKind,
    /// `scheme://host:port`, from the configuration.
    pub endpoint: Arc<str>,
    /// The library's own words.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Writes an error with everything that caused it.
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
