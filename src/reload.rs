//! A new configuration, or new certificates, while calls go on.
//!
//! All or nothing: what is new is built completely before it replaces what is in force, and whatever is wrong with it
//! leaves everything as it was. Connections, held polls and previews never notice.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{self, Change, Config, Files, Problems, Reload};
use crate::gateway::{Gateway, Push, PushSetupError};
use crate::server::{self, Generation, Live};
use crate::systemd::Notifier;
use crate::telemetry::metrics::CertificateRole;
use crate::telemetry::{LevelHandle, Metrics};
use crate::tls::{self, TlsError};
use crate::upstream::Upstream;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The gateway was not started from a file.
    #[error("there is no configuration file to reload")]
    NoFile,
    /// The new configuration is bad.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// The files that it names cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Keys that are fixed when the process starts.
    #[error("cannot change at run time, restart instead: {}", in_words(.0))]
    Fixed(Vec<Change>),
}

/// Why nothing can follow from a configuration that is good in itself.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Pushes cannot be relayed.
    #[error(transparent)]
    Push(#[from] PushSetupError),
}

/// Builds generations and puts them in force.
pub struct Reloader {
    file: Option<PathBuf>,
    live: Live,
    level: LevelHandle,
    notifier: Notifier,
    /// Also makes reloads wait for each other.
    seen: Mutex<Seen>,
}

/// What the certificate files looked like.
struct Seen {
    /// When those in force were read.
    in_force: u64,
    /// When they were last refused: what was said once is not said again every few seconds.
    refused: Option<u64>,
}

impl Reloader {
    /// Knows no file yet.
    pub fn new(live: Live, level: LevelHandle) -> Self {
        let in_force = fingerprint(&live.generation().gateway.config);
        let seen = Mutex::new(Seen { in_force, refused: None });
        Self { file: None, live, level, notifier: Notifier::default(), seen }
    }

    /// Reloads `file`.
    #[must_use]
    pub fn from_file(self, file: PathBuf) -> Self {
        Self { file: Some(file), ..self }
    }

    /// Tells systemd of reloads.
    #[must_use]
    pub fn notifying(self, notifier: Notifier) -> Self {
        Self { notifier, ..self }
    }

    /// Reads the configuration file and everything it names anew, and puts it in force.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub fn reload(&self) -> Result<(), ReloadError> {
        self.notifier.reloading();
        let outcome = self.file.as_deref().ok_or(ReloadError::NoFile).and_then(|file| self.reload_file(file));
        let metrics = &self.live.generation().gateway.metrics;
        metrics.process.reloaded(outcome.is_ok());
        match &outcome {
            Ok(changes) => {
                tracing::info!(target: "previewgate", changes = in_words(changes), "configuration reloaded");
                self.notifier.ready("serving");
            }
            Err(error) => {
                tracing::error!(target: "previewgate", %error, "reload refused: nothing has changed");
                self.notifier.ready(&format!("serving; the last reload was refused: {error}"));
            }
        }
        outcome.map(drop)
    }

    fn reload_file(&self, file: &Path) -> Result<Vec<Change>, ReloadError> {
        let config = config::load(file, Files::Check)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.live.generation();
        let changes = present.gateway.config.changes(&config);
        let changes = allowed(changes)?;
        let print = fingerprint(&config);
        self.put_in_force(&present.gateway, config)?;
        *seen = Seen { in_force: print, refused: None };
        Ok(changes)
    }

    /// Looks whether certificates or keys have been replaced, and puts the new ones in force. A pair of which only
    /// one half is there yet does not load: the old pair stays, and the next look finds the whole.
    pub fn look_at_certificates(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.live.generation();
        let print = fingerprint(&present.gateway.config);
        if print == seen.in_force || Some(print) == seen.refused {
            return;
        }
        match self.put_in_force(&present.gateway, present.gateway.config.clone()) {
            Ok(()) => {
                *seen = Seen { in_force: print, refused: None };
                tracing::info!(target: "previewgate", "certificates reloaded");
            }
            Err(error) => {
                seen.refused = Some(print);
                tracing::warn!(target: "previewgate", %error, "new certificates cannot be used yet: keeping the old ones");
            }
        }
    }

    fn put_in_force(&self, present: &Arc<Gateway>, config: Config) -> Result<(), SetupError> {
        let next = generation(Gateway::clone(present), config, Some(&self.live.generation().upstream))?;
        let config = &next.gateway.config;
        self.level.set(config.log.level);
        next.gateway.metrics.process.mode(config.validation.mode);
        let names: Vec<_> = next.upstream.endpoints().iter().map(|endpoint| Arc::clone(&endpoint.name)).collect();
        next.gateway.metrics.upstream.retain_endpoints(|name| names.iter().any(|kept| **kept == *name));
        self.live.replace(next);
        Ok(())
    }
}

/// Everything that follows from `config`, for a gateway that otherwise goes on as it is. Endpoints that were there
/// `earlier` keep their health.
///
/// # Errors
/// When certificates or keys cannot be used.
pub fn generation(gateway: Gateway, config: Config, earlier: Option<&Upstream>) -> Result<Generation, SetupError> {
    let upstream = Arc::new(Upstream::new(&config, Arc::clone(&gateway.metrics), earlier)?);
    let acceptor = config.listener.tls.as_ref().map(server::acceptor).transpose()?;
    let push = Arc::new(Push::new(&config)?);
    note_certificates(&config, &gateway.metrics);
    Ok(Generation { gateway: Arc::new(Gateway { config, push, ..gateway }), upstream, acceptor })
}

/// All of `changes`, unless a reload must not make one of them.
fn allowed(changes: Vec<Change>) -> Result<Vec<Change>, ReloadError> {
    let (fixed, others): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.reload == Reload::Fixed);
    if fixed.is_empty() { Ok(others) } else { Err(ReloadError::Fixed(fixed)) }
}

/// `key: old -> new, …`, or `none`.
fn in_words(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "none".to_owned();
    }
    changes.iter().map(Change::to_string).collect::<Vec<_>>().join(", ")
}

/// Files whose content decides about TLS, with the role of those that are certificates.
fn tls_files(config: &Config) -> impl Iterator<Item = (&PathBuf, Option<CertificateRole>)> {
    let own = config.listener.tls.as_ref();
    let upstream = &config.upstream.tls;
    let push = config.push.as_ref();
    [
        (own.map(|tls| &tls.certificate), Some(CertificateRole::Server)),
        (own.map(|tls| &tls.private_key), None),
        (own.and_then(|tls| tls.client_ca.as_ref()), Some(CertificateRole::ClientCa)),
        (upstream.ca.as_ref(), Some(CertificateRole::UpstreamCa)),
        (upstream.client_certificate.as_ref(), Some(CertificateRole::UpstreamClient)),
        (upstream.client_private_key.as_ref(), None),
        (push.map(|push| &push.key), None),
        (push.and_then(|push| push.tls.ca.as_ref()), Some(CertificateRole::PushCa)),
    ]
    .into_iter()
    .filter_map(|(path, role)| Some((path?, role)))
}

/// Changes when the content of any of the files does, also behind a symbolic link that was swapped.
fn fingerprint(config: &Config) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (path, _) in tls_files(config) {
        std::fs::read(path).ok().hash(&mut hasher);
    }
    hasher.finish()
}

fn note_certificates(config: &Config, metrics: &Metrics) {
    for role in CertificateRole::ALL {
        let file = tls_files(config).find_map(|(path, of)| (of == Some(*role)).then_some(path));
        metrics.process.certificate_not_after(*role, file.and_then(|path| tls::earliest_end(path)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_each_fixed_key_is_refused_and_no_other() {
        for config::KeyDescription { key, reload, .. } in config::describe_keys() {
            let change = Change { key: key.clone(), old: Some("1".to_owned()), new: Some("2".to_owned()), reload };
            let other = Change { key: "log.level".to_owned(), reload: Reload::Reloadable, ..change.clone() };
            match allowed(vec![other.clone(), change.clone()]) {
                Ok(changes) => {
                    assert_ne!(reload, Reload::Fixed, "{key}");
                    assert_eq!(changes, [other, change]);
                }
                Err(refusal) => {
                    assert_eq!(reload, Reload::Fixed, "{key}");
                    let message = format!("cannot change at run time, restart instead: {key}: 1 -> 2");
                    assert_eq!(refusal.to_string(), message);
                }
            }
        }
    }
}
