//! What the page shows, gathered at one moment: plain values, and what needs attention.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::words::{count, length, list, plural};
use crate::admin::decisions::{BadFilter, Filter, form_value};
use crate::audit::Status;
use crate::config::{Audit, Mode, OnAuditFailure, StoreKind};
use crate::gateway::{Decision, Generation, Minute};
use crate::preview::{Reason, Verdict};
use crate::reload::LastReload;
use crate::server::Phase;
use crate::store::StoreState;
use crate::telemetry::metrics::CertificateRole;
use crate::upstream::Condition;

/// A certificate that expires within this time needs attention.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 86_400);
/// Refusals need attention if more than one in ten callouts was refused in these last minutes.
const RECENT_MINUTES: usize = 10;
/// With fewer callouts in these minutes, refusals do not need attention.
const MIN_RECENT: u64 = 20;
/// A snapshot needs attention if it is older than this many intervals, and never before this time.
const LATE_INTERVALS: u32 = 3;
const LATE_AT_LEAST: Duration = Duration::from_secs(30);

/// What the page shows in addition to the generation in force.
pub(in crate::admin) struct Surroundings<'a> {
    /// The host name of the machine.
    pub(in crate::admin) host: Option<&'a str>,
    pub(in crate::admin) phase: Phase,
    pub(in crate::admin) reload: Option<LastReload>,
    /// The query of the request.
    pub(in crate::admin) query: Option<&'a str>,
}

/// Everything that the page shows.
pub(super) struct View<'a> {
    pub(super) generation: &'a Generation,
    pub(super) surroundings: Surroundings<'a>,
    pub(super) now: SystemTime,
    pub(super) hour: Vec<Minute>,
    pub(super) endpoints: Vec<EndpointView>,
    pub(super) certificates: Vec<CertificateView>,
    /// The audit log, if there is one.
    pub(super) audit: Option<(&'a Audit, Status)>,
    pub(super) filter: Result<Filter, BadFilter>,
    pub(super) decisions: Vec<Arc<Decision>>,
}

/// One endpoint of the upstream.
pub(super) struct EndpointView {
    pub(super) name: Arc<str>,
    pub(super) node: Option<String>,
    pub(super) condition: Condition,
}

/// Of the certificates with one role, the one that expires first.
pub(super) struct CertificateView {
    pub(super) role: CertificateRole,
    pub(super) not_after: SystemTime,
}

/// Something that a person on call should know.
pub(super) struct Problem {
    /// Whether calls are affected now.
    pub(super) grave: bool,
    pub(super) title: String,
    pub(super) text: String,
}

impl<'a> View<'a> {
    pub(super) fn gather(generation: &'a Generation, surroundings: Surroundings<'a>) -> Self {
        let services = &generation.services;
        let filter = Filter::parse(surroundings.query);
        let decisions = filter.as_ref().map(|filter| filter.apply(&services.flight_recorder)).unwrap_or_default();
        let endpoints = generation.upstream.endpoints().iter().map(|endpoint| EndpointView {
            name: Arc::clone(&endpoint.name),
            node: endpoint.node.as_deref().map(str::to_owned),
            condition: endpoint.condition(),
        });
        let certificates = services.metrics.process.certificates().into_iter().map(|(role, seconds)| CertificateView {
            role,
            not_after: UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
        });
        let audit = generation.config.audit.as_ref().zip(services.audit.log().map(|audit| audit.status()));
        Self {
            generation,
            surroundings,
            now: SystemTime::now(),
            hour: services.flight_recorder.last_hour(),
            endpoints: endpoints.collect(),
            certificates: certificates.collect(),
            audit,
            filter,
            decisions,
        }
    }

    pub(super) fn is_monitoring(&self) -> bool {
        self.generation.config.validation.mode == Mode::Monitor
    }

    /// The reasons that `[validation.reasons]` gives this mode.
    pub(super) fn reasons_in(&self, mode: Mode) -> Vec<String> {
        let validation = &self.generation.config.validation;
        let exceptional = Reason::ALL.iter().filter(|reason| validation.mode_for(**reason) != validation.mode);
        exceptional.filter(|reason| validation.mode_for(**reason) == mode).map(ToString::to_string).collect()
    }

    /// The content of the search field of this name.
    pub(super) fn field(&self, name: &str) -> String {
        form_value(self.surroundings.query, name)
    }

    pub(super) fn is_filtered(&self) -> bool {
        self.filter.as_ref() != Ok(&Filter::default())
    }

    /// Decisions of the last hour with this verdict.
    pub(super) fn in_last_hour(&self, verdict: Verdict) -> u64 {
        self.hour.iter().map(|minute| minute.with_verdict(verdict)).sum()
    }

    /// The reasons of the callouts that were refused or unverified in the last hour, the most frequent first.
    pub(super) fn objections(&self) -> Vec<(Reason, u64)> {
        let number = |reason| -> u64 {
            let objected = [Verdict::Rejected, Verdict::Unverified];
            self.hour.iter().flat_map(|minute| objected.map(|verdict| minute.with_reason(verdict, reason))).sum()
        };
        let mut objections: Vec<_> = Reason::ALL.iter().map(|reason| (*reason, number(*reason))).collect();
        objections.retain(|(_, number)| *number > 0);
        objections.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
        objections
    }

    /// When previews were last saved.
    pub(super) fn saved_at(&self) -> Option<SystemTime> {
        self.generation.services.metrics.snapshots.last_success()
    }

    /// What needs attention, the gravest first.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.of_mode(&mut problems);
        self.of_shutdown(&mut problems);
        self.of_endpoints(&mut problems);
        self.of_store(&mut problems);
        self.of_audit(&mut problems);
        self.of_snapshot(&mut problems);
        self.of_certificates(&mut problems);
        self.of_refusals(&mut problems);
        self.of_process(&mut problems);
        problems.sort_by_key(|problem| !problem.grave);
        problems
    }

    fn of_mode(&self, problems: &mut Vec<Problem>) {
        let watched = self.reasons_in(Mode::Monitor);
        if !watched.is_empty() {
            let text = "Callouts with these reasons are forwarded: validation.reasons says \"monitor\".";
            problems.push(Problem::minor(format!("Not enforced: {}", list(&watched)), text));
        }
    }

    fn of_shutdown(&self, problems: &mut Vec<Problem>) {
        if self.surroundings.phase != Phase::Serving {
            let text = "Open requests are finished; load balancers are told to use another gateway.";
            problems.push(Problem::grave("This gateway is shutting down", text));
        }
    }

    /// Whether no endpoint is in use, so that each request tries an ejected one.
    pub(super) fn all_ejected(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.condition.ejected)
    }

    fn of_endpoints(&self, problems: &mut Vec<Problem>) {
        let out = self.endpoints.iter().filter(|endpoint| endpoint.condition.ejected).count();
        if out == 0 {
            return;
        }
        if self.all_ejected() {
            let text = "Every request still tries one. See Upstream below for the cause.";
            problems.push(Problem::grave("No endpoint of CC-Gateway answers", text));
        } else {
            let title = format!("{} of {} endpoints are out", out, self.endpoints.len());
            problems.push(Problem::minor(title, "The others do the work. See Upstream below for the cause."));
        }
    }

    fn of_store(&self, problems: &mut Vec<Problem>) {
        if let (StoreState::Failing, StoreKind::Redis(redis)) =
            (self.generation.services.ledger.state(), &self.generation.config.previews.store)
        {
            let text = format!(
                "Redis is not connected, or changes wait to be written. on_store_failure = \"{}\" decides about callouts.",
                redis.on_store_failure
            );
            problems.push(Problem::grave("The shared store is failing", text));
        }
    }

    fn of_audit(&self, problems: &mut Vec<Problem>) {
        let Some((settings, status)) = &self.audit else { return };
        if status.failing {
            let text = format!("While that lasts, {}. The log has the cause.", without_records(settings));
            problems.push(Problem::grave("The audit log cannot be written", text));
        }
        let lost = status.lost.iter().map(|(_, number)| number).sum();
        if lost > 0 {
            let title = format!("{} lost since the start", plural(lost, "audit record"));
            problems.push(Problem::minor(title, "A record in the log says since when, and how many of each kind."));
        }
    }

    fn of_snapshot(&self, problems: &mut Vec<Problem>) {
        let previews = &self.generation.config.previews;
        if previews.snapshot.is_none() {
            return;
        }
        let late = (previews.snapshot_interval * LATE_INTERVALS).max(LATE_AT_LEAST);
        let age = match self.saved_at() {
            Some(at) => self.now.duration_since(at).unwrap_or_default(),
            None => self.generation.services.flight_recorder.uptime(),
        };
        if age > late {
            let title = format!("Previews were not saved for {}", length(age));
            problems.push(Problem::minor(
                title,
                "A restart would forget what agents were shown since. The log has the cause.",
            ));
        }
    }

    fn of_certificates(&self, problems: &mut Vec<Problem>) {
        for CertificateView { role, not_after } in &self.certificates {
            match not_after.duration_since(self.now) {
                Err(_) => problems.push(Problem::grave(
                    format!("The certificate \"{role}\" has expired"),
                    "Put a new one into the same file; the gateway finds it within five seconds.",
                )),
                Ok(left) if left < EXPIRES_SOON => problems.push(Problem::minor(
                    format!("The certificate \"{role}\" expires in {}", length(left)),
                    "Put a new one into the same file; the gateway finds it within five seconds.",
                )),
                Ok(_) => {}
            }
        }
    }

    fn of_refusals(&self, problems: &mut Vec<Problem>) {
        let recent = || self.hour.iter().rev().take(RECENT_MINUTES);
        let of = |verdict| recent().map(|minute| minute.with_verdict(verdict)).sum::<u64>();
        let refused = of(Verdict::Rejected);
        let all: u64 = Verdict::ALL.iter().map(|verdict| of(*verdict)).sum();
        if all >= MIN_RECENT && refused * 10 > all {
            let title = format!("{} of {} callouts were refused in the last ten minutes", count(refused), count(all));
            problems.push(Problem::minor(title, "See Reasons and the decisions below for what to do about each."));
        }
    }

    fn of_process(&self, problems: &mut Vec<Problem>) {
        if let Some(LastReload { at: _, trigger: _, outcome: Err(error) }) = &self.surroundings.reload {
            let text = format!("The running configuration stays in force. {error}");
            problems.push(Problem::minor("The last reload was refused", text));
        }
        let metrics = &self.generation.services.metrics;
        let panics = metrics.process.panics();
        if panics > 0 {
            let title = format!("{} caught since the start", plural(panics, "defect"));
            problems.push(Problem::minor(title, "The log has the details. Please report it."));
        }
        let dropped = metrics.log.dropped();
        if dropped > 0 {
            let title = format!("{} lost since the start", plural(dropped, "log line"));
            problems.push(Problem::minor(title, "The log cannot be written fast enough."));
        }
    }
}

impl Problem {
    fn grave(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { grave: true, title: title.into(), text: text.into() }
    }

    fn minor(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { grave: false, ..Self::grave(title, text) }
    }
}

/// What happens to callouts while the audit log cannot be written.
pub(super) fn without_records(settings: &Audit) -> &'static str {
    match settings.on_failure {
        OnAuditFailure::Refuse => "callouts are refused as audit_unavailable",
        OnAuditFailure::Forward => "callouts are forwarded without a record",
    }
}
