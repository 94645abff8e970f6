//! The section on the gateway itself: what it keeps, what it was started with, and what proves what it did.

use maud::{Markup, html};

use super::view::{View, without_records};
use super::words::{ago, count, day, from_epoch, length, machine, plural};
use crate::audit::Status;
use crate::config::StoreKind;
use crate::server::Phase;

/// Digits of the chain's head that the page shows; enough to compare it with a line of the log.
const HEAD_DIGITS: usize = 16;

pub(super) fn facts(view: &View<'_>) -> Markup {
    let config = &view.generation.config;
    html! {
        section aria-labelledby="facts-title" {
            h2 id="facts-title" { "Gateway" }
            dl.facts id="facts" data-live {
                dt { "Previews" }
                dd { (previews(view)) }
                dt { "Snapshot" }
                dd { (snapshot(view)) }
                dt { "Audit log" }
                dd { (audit(view)) }
                dt { "Certificates" }
                dd { (certificates(view)) }
                dt { "Last reload" }
                dd { (reload(view)) }
                dt { "Configuration" }
                dd { "hash " code { (config.hash()) } ", " a href="/config" { "all values" } }
                dt { "Health check" }
                dd { @if view.surroundings.phase == Phase::Serving { "ready" } @else { "not ready: shutting down" } }
            }
        }
    }
}

fn previews(view: &View<'_>) -> Markup {
    match &view.generation.config.previews.store {
        StoreKind::Memory => html! { "in the memory of this process" },
        StoreKind::Redis(redis) => html! {
            "shared through Redis at " code { (redis.url.host) } ", state " b { (view.generation.services.ledger.state()) }
        },
    }
}

fn snapshot(view: &View<'_>) -> Markup {
    let Some(path) = &view.generation.config.previews.snapshot else {
        return html! { "none: a restart forgets previews" };
    };
    html! {
        @match view.saved_at() {
            Some(at) => { "saved " time datetime=(machine(at)) { (ago(at, view.now)) } },
            None => b { "not saved yet" },
        }
        p { code { (path.display()) } }
    }
}

fn audit(view: &View<'_>) -> Markup {
    match &view.audit {
        None => html! { "off: nothing can be proved afterwards" },
        Some((settings, status)) => html! {
            @if status.failing { p { b { "cannot be written" } ", " (without_records(settings)) } }
            (chain(status, view))
            p { (open_decisions(status.open_decisions)) }
        },
    }
}

fn chain(status: &Status, view: &View<'_>) -> Markup {
    let Some(chain) = &status.chain else { return html! { p { "no line is written yet" } } };
    let head: String = chain.head.to_string().chars().take(HEAD_DIGITS).collect();
    html! {
        p { "head at line " b { (count(chain.seq)) } ": " code title=(chain.head) { (head) "…" } }
        @match chain.checkpoint.map(|sealed| (sealed.seq, from_epoch(sealed.at.0))) {
            Some((seq, at)) => p {
                "last checkpoint " time datetime=(machine(at)) { (ago(at, view.now)) } ", up to line " (count(seq))
            },
            None => p { "no checkpoint yet" },
        }
    }
}

fn open_decisions(open: u64) -> String {
    match open {
        0 => "no open decisions".to_owned(),
        _ => format!("{}: sent, and the answer is not recorded yet", plural(open, "open decision")),
    }
}

fn certificates(view: &View<'_>) -> Markup {
    html! {
        @if view.certificates.is_empty() { "none: plain HTTP on both sides, or the system's CAs" }
        @for certificate in &view.certificates {
            p {
                code { (certificate.role) }
                @match certificate.not_after.duration_since(view.now) {
                    Ok(left) => { " until " (day(certificate.not_after)) ", for " (length(left)) }
                    Err(_) => { b { " expired " (ago(certificate.not_after, view.now)) } }
                }
            }
        }
    }
}

fn reload(view: &View<'_>) -> Markup {
    let Some(reload) = &view.surroundings.reload else { return html! { "none since the start" } };
    html! {
        time datetime=(machine(reload.at)) { (ago(reload.at, view.now)) } ", by " (reload.trigger)
        @match &reload.outcome {
            Ok(changes) => { p { "Changes: " (changes) } }
            Err(error) => { p { b { "Refused" } ": " (error) } }
        }
    }
}
