//! A new configuration, or new certificates, while the gateway serves.
//!
//! All or nothing: the new generation is built completely before it replaces the one in force. Any fault leaves everything
//! as it was. Connections, held polls and previews are not affected.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::audit::ConfigTrigger;
use crate::config::{self, Change, Config, Files, Mode, Problems, Reload, Validation};
use crate::gateway::{Generation, SetupError, certificate_fingerprint};
use crate::preview::Timestamp;
use crate::server::ActiveGeneration;
use crate::systemd::Notifier;
use crate::telemetry::{LevelHandle, Metrics};

/// Interval of the report about certificates.
const REPORT_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

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

/// The cause of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// SIGHUP.
    Signal,
    /// `POST /reload` on the admin listener, from this address.
    Admin(SocketAddr),
    /// `POST /reload` on the Unix socket of the admin listener, by this user of the system if it is known.
    AdminSocket(Option<u32>),
    /// Another content of a certificate or key file.
    CertificateFiles,
}

/// As in the log field `trigger`.
impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("SIGHUP"),
            Self::Admin(peer) => write!(f, "admin {peer}"),
            Self::AdminSocket(Some(user)) => write!(f, "admin socket, uid {user}"),
            Self::AdminSocket(None) => f.write_str("admin socket"),
            Self::CertificateFiles => f.write_str("certificate files"),
        }
    }
}

/// The last reload, for operators.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When it ended.
    pub at: SystemTime,
    /// Its cause.
    pub trigger: Trigger,
    /// What it changed, in words; or why it was refused.
    pub outcome: Result<String, String>,
}

impl From<Trigger> for ConfigTrigger {
    fn from(trigger: Trigger) -> Self {
        match trigger {
            Trigger::Signal => Self::Signal,
            Trigger::Admin(peer) => Self::Admin(peer),
            Trigger::AdminSocket(user) => Self::AdminSocket(user),
            Trigger::CertificateFiles => Self::CertificateFiles,
        }
    }
}

/// Builds generations and puts them in force.
pub struct Reloader {
    file: Option<PathBuf>,
    active: ActiveGeneration,
    level: LevelHandle,
    notifier: Notifier,
    /// Its lock also makes reloads wait for each other.
    seen: Mutex<Seen>,
    last: Mutex<Option<LastReload>>,
    /// When the certificates were last reported.
    reported: Mutex<Option<Timestamp>>,
}

/// Fingerprints of the certificate files.
struct Seen {
    /// Of the files in force.
    in_force: u64,
    /// What was last refused. It is logged once, not every few seconds.
    refused: Option<Refused>,
}

/// Certificate files that were refused.
struct Refused {
    fingerprint: u64,
    /// When to try them again although they have not changed: then they become valid.
    try_again_at: Option<SystemTime>,
}

impl Seen {
    /// Whether files with this fingerprint are in force, or would be refused again.
    fn is_settled(&self, fingerprint: u64) -> bool {
        let refused = self.refused.as_ref().filter(|refused| refused.fingerprint == fingerprint);
        fingerprint == self.in_force
            || refused.is_some_and(|refused| refused.try_again_at.is_none_or(|at| SystemTime::now() < at))
    }
}

impl Reloader {
    /// Reloads `active`, from no file yet. `level` follows `log.level`.
    pub fn new(active: ActiveGeneration, level: LevelHandle) -> Self {
        let in_force = certificate_fingerprint(&active.current().config);
        let seen = Mutex::new(Seen { in_force, refused: None });
        Self {
            file: None,
            active,
            level,
            notifier: Notifier::default(),
            seen,
            last: Mutex::default(),
            reported: Mutex::default(),
        }
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

    /// Reads the configuration file and everything that it names again, and puts it in force.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub fn reload(&self, trigger: Trigger) -> Result<(), ReloadError> {
        self.notifier.reloading();
        let outcome = self.file.as_deref().ok_or(ReloadError::NoFile).and_then(|file| self.reload_file(file, trigger));
        let metrics = &self.active.current().services.metrics;
        metrics.process.reloaded(outcome.is_ok());
        self.remember(trigger, outcome.as_ref().map(|changes| in_words(changes)).map_err(ToString::to_string));
        match &outcome {
            Ok(changes) => {
                log_reload(&self.active.current().config, trigger, &in_words(changes));
                self.report_certificates();
                self.notifier.ready("serving");
            }
            Err(error) => {
                tracing::error!(target: "previewgate", %trigger, %error, "reload refused: nothing has changed");
                self.notifier.ready(&format!("serving; the last reload was refused: {error}"));
            }
        }
        outcome.map(drop)
    }

    fn reload_file(&self, file: &Path, trigger: Trigger) -> Result<Vec<Change>, ReloadError> {
        let config = config::load(file, Files::Check)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.active.current();
        let changes = allowed(current.config.changes(&config))?;
        let fingerprint = certificate_fingerprint(&config);
        self.put_in_force(&current, config, trigger.into())?;
        *seen = Seen { in_force: fingerprint, refused: None };
        Ok(changes)
    }

    /// Puts certificates and keys in force if their files have changed. Once a day, and at the first check, logs which
    /// certificates end soon.
    pub fn check_certificate_files(&self) {
        self.put_changed_files_in_force();
        let now = self.active.current().services.clock.wall();
        let reported = *self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due(reported, now) {
            self.report_certificates();
        }
    }

    /// If only one half of a pair has been replaced, the pair does not load: the old one stays, and the next check finds the
    /// whole. A certificate that is not valid yet is put in force when it becomes valid.
    fn put_changed_files_in_force(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.active.current();
        let fingerprint = certificate_fingerprint(&current.config);
        if seen.is_settled(fingerprint) {
            return;
        }
        match self.put_in_force(&current, current.config.clone(), ConfigTrigger::CertificateFiles) {
            Ok(()) => {
                *seen = Seen { in_force: fingerprint, refused: None };
                self.remember(Trigger::CertificateFiles, Ok("certificates".to_owned()));
                let config_hash = current.config.hash();
                tracing::info!(
                    target: "previewgate", trigger = %Trigger::CertificateFiles, config_hash, "certificates reloaded"
                );
                self.report_certificates();
            }
            Err(error) => {
                let try_again_at = match &error {
                    SetupError::Certificate(unfit) => unfit.valid_from,
                    SetupError::Tls(_) | SetupError::Push(_) => None,
                };
                seen.refused = Some(Refused { fingerprint, try_again_at });
                tracing::warn!(target: "previewgate", %error, "new certificates cannot be used yet: keeping the old ones");
            }
        }
    }

    /// The last reload since the start, if there was one.
    pub fn last_reload(&self) -> Option<LastReload> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, trigger: Trigger, outcome: Result<String, String>) {
        let last = LastReload { at: SystemTime::now(), trigger, outcome };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// Logs each certificate in force that is expired, not valid yet, or expires soon.
    fn report_certificates(&self) {
        let now = self.active.current().services.clock.wall();
        *self.reported.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        for notice in self.active.current().certificate_notices() {
            notice.log();
        }
    }

    fn put_in_force(&self, current: &Generation, config: Config, trigger: ConfigTrigger) -> Result<(), SetupError> {
        let next = Generation::build(&current.services, config, Some(current))?;
        let metrics = &next.services.metrics;
        self.level.set(next.config.log.level);
        report_config(&next.config, metrics);
        let names: Vec<_> = next.upstream.endpoints().iter().map(|endpoint| Arc::clone(&endpoint.name)).collect();
        metrics.upstream.retain_endpoints(|name| names.iter().any(|kept| **kept == *name));
        // Before it is in force, so that each decision under it comes after its record.
        next.services.audit.config(trigger, &next.config);
        self.active.replace(next);
        Ok(())
    }
}

/// By the wall clock: a machine may sleep for a night, and its clock may be set back.
fn is_due(reported: Option<Timestamp>, now: Timestamp) -> bool {
    reported.is_none_or(|reported| now < reported || now.since(reported) >= REPORT_INTERVAL)
}

/// Sets the metrics that describe the configuration in force.
pub fn report_config(config: &Config, metrics: &Metrics) {
    metrics.process.mode(config.validation.mode);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    metrics.process.configured(&config.hash(), i64::try_from(now).unwrap_or(i64::MAX));
}

/// The end of a log message, for an operator who may not know that the mode is monitor; empty in enforce mode.
pub fn mode_notice(validation: &Validation) -> &'static str {
    match validation.mode {
        Mode::Monitor if validation.refuses_nothing() => " in MONITOR mode: no callout is refused",
        Mode::Monitor => " in MONITOR mode: callouts are refused only for the reasons that validation.reasons enforces",
        Mode::Enforce => "",
    }
}

fn log_reload(config: &Config, trigger: Trigger, changes: &str) {
    let (mode, config_hash) = (config.validation.mode, config.hash());
    let notice = mode_notice(&config.validation);
    tracing::info!(
        target: "previewgate", changes, %trigger, mode = mode.as_str(), config_hash, "configuration reloaded{notice}"
    );
}

/// Returns all of `changes`, unless one of them needs a restart.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_reported_once_a_day_whatever_the_clock_does() {
        let start = Timestamp(1_000_000_000_000);
        let day = u64::try_from(REPORT_INTERVAL.as_millis()).unwrap();
        assert!(is_due(None, start));
        for (later, due) in [(0, false), (1, false), (day - 1, false), (day, true), (10 * day, true)] {
            assert_eq!(is_due(Some(start), Timestamp(start.0 + later)), due, "{later}");
        }
        assert!(is_due(Some(start), Timestamp(start.0 - 1)), "set back");
    }
}
