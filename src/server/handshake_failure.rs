//! The word for the cause of a failed TLS handshake.

use std::io;

use rustls::{AlertDescription, Error, PeerMisbehaved};

use crate::telemetry::metrics::HandshakeFailure;

/// The word for an error of a handshake.
pub(super) fn reason_of(error: &io::Error) -> HandshakeFailure {
    match error.get_ref().and_then(|source| source.downcast_ref::<Error>()) {
        Some(error) => reason_of_tls(error),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => HandshakeFailure::Closed,
            _ => HandshakeFailure::Other,
        },
    }
}

fn reason_of_tls(error: &Error) -> HandshakeFailure {
    match error {
        Error::NoCertificatesPresented => HandshakeFailure::NoCertificate,
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => HandshakeFailure::BadCertificate,
        Error::PeerMisbehaved(PeerMisbehaved::InvalidCertCompression) => HandshakeFailure::BadCertificate,
        Error::PeerIncompatible(_) => HandshakeFailure::Incompatible,
        Error::NoApplicationProtocol => HandshakeFailure::NoHttp,
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            // An authority of the same name with another key.
            | AlertDescription::DecryptError,
        ) => HandshakeFailure::Distrusted,
        Error::AlertReceived(_) => HandshakeFailure::Alert,
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            HandshakeFailure::NotTls
        }
        _ => HandshakeFailure::Other,
    }
}
