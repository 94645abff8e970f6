//! File descriptors: the soft limit is raised to the hard one, and limits that cannot be met are reported.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Limits;

/// Descriptors for everything except clients and requests: files, listeners, the admin listener and the log.
const OTHERS: u64 = 128;

/// Raises the soft limit as far as the process may.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // If the system refuses, the warning names the limit that stays.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// Logs a warning if clients may open more connections than the process has descriptors for.
pub(super) fn warn_if_too_few(limits: &Limits) {
    let Some(available) = getrlimit(Resource::Nofile).current else { return };
    let needed = needed(limits);
    if available < needed {
        tracing::warn!(
            target: "previewgate",
            limit = available, needed, connections = limits.connections,
            "limits.connections cannot be met: raise the limit of file descriptors (LimitNOFILE, ulimit -n)"
        );
    }
}

/// One descriptor for each client, and one for each request that the upstream may have at the same time.
fn needed(limits: &Limits) -> u64 {
    let upstream = limits.connections.min(limits.held_polls.saturating_add(limits.requests));
    limits.connections.saturating_add(upstream) as u64 + OTHERS
}
