//! The sections of the page, from top to bottom. The script updates the elements with `data-live`.

use std::sync::Arc;

use maud::{Markup, html};

use super::chart::chart;
use super::story::{story, verdict_word};
use super::view::{EndpointView, View};
use super::words::{ago, clock, count, length, list, machine, plural};
use crate::admin::paths::PATHS;
use crate::config::Mode;
use crate::gateway::Decision;
use crate::preview::{Reason, Verdict};

/// Maximum number of decisions on the page. `/decisions` has all.
const SHOWN: usize = 100;

/// The banner of monitor mode, on top of everything else.
pub(super) fn monitor_banner(view: &View<'_>) -> Markup {
    let unverified = view.in_last_hour(Verdict::Unverified);
    html! {
        div.monitor role="region" aria-label="Monitor mode" {
            strong { "Monitor mode" }
            span id="monitor" data-live {
                @let enforced = view.reasons_in(Mode::Enforce);
                @if enforced.is_empty() { "No callout is refused. " } @else { "Refused only for " (list(&enforced)) ". " }
                @if unverified > 0 {
                    (plural(unverified, "callout")) " of the last hour would have been."
                }
            }
        }
    }
}

pub(super) fn header(view: &View<'_>) -> Markup {
    let services = &view.generation.services;
    html! {
        header.top {
            div {
                h1 { "previewgate" @if let Some(host) = view.surroundings.host { span.host { (host) } } }
                p.quiet id="uptime" data-live {
                    "Version " (env!("CARGO_PKG_VERSION")) ", running for " (length(services.flight_recorder.uptime()))
                    ", mode " b { (view.generation.config.validation.mode) }
                }
            }
            div.clock {
                p.quiet id="clock" data-live {
                    "As of " time datetime=(machine(view.now)) { (clock(view.now)) }
                }
                button type="button" id="pause" hidden aria-pressed="false" { "Pause" }
            }
        }
    }
}

/// What needs attention, or a line that nothing does.
pub(super) fn attention(view: &View<'_>) -> Markup {
    let problems = view.problems();
    html! {
        section.attention id="attention" data-live role="status" aria-label="Attention" {
            p.lost id="lost" hidden {}
            @if problems.is_empty() {
                p.fine { span.dot aria-hidden="true" {} (fine(view)) }
            }
            @for problem in &problems {
                div.problem.grave[problem.grave] {
                    h2 { (problem.title) }
                    p { (problem.text) }
                }
            }
        }
    }
}

fn fine(view: &View<'_>) -> &'static str {
    if view.is_monitoring() {
        "Callouts are only watched. Nothing else needs attention."
    } else {
        "Everything is in order."
    }
}

pub(super) fn figures(view: &View<'_>) -> Markup {
    let services = &view.generation.services;
    let connections = &services.metrics.connections;
    let open = |number: i64| count(u64::try_from(number).unwrap_or_default());
    html! {
        section.figures id="figures" data-live aria-label="Figures" {
            (figure("Callouts in the last hour", &count(Verdict::ALL.iter().map(|verdict| view.in_last_hour(*verdict)).sum()), ""))
            (figure("Refused", &count(view.in_last_hour(Verdict::Rejected)), "rejected"))
            (figure("Unverified", &count(view.in_last_hour(Verdict::Unverified)), "unverified"))
            (figure("Held polls", &count(services.load.held_polls() as u64), ""))
            (figure("Known previews", &count(services.ledger.local().count()), ""))
            (figure("Connections: clients, upstream", &format!("{} · {}", open(connections.downstream.open()), open(connections.upstream.open())), ""))
        }
    }
}

fn figure(name: &str, value: &str, class: &str) -> Markup {
    let class = if value == "0" { "" } else { class };
    html! {
        div.figure { p.value.(class) { (value) } p.name { (name) } }
    }
}

/// The chart of the last hour, and the reasons.
pub(super) fn callouts(view: &View<'_>) -> Markup {
    let objections = view.objections();
    let most = objections.first().map_or(1, |(_, number)| *number);
    html! {
        section.callouts aria-labelledby="callouts-title" {
            h2 id="callouts-title" { "Callouts a minute" }
            div.columns.wide {
                div id="chart" data-live {
                    (chart(&view.hour))
                    p.legend {
                        @for verdict in Verdict::ALL {
                            span { span.key.(verdict.as_str()) aria-hidden="true" {} (verdict_word(*verdict)) " " b { (count(view.in_last_hour(*verdict))) } }
                        }
                    }
                }
                div id="reasons" data-live {
                    h3 { "Reasons" }
                    @if objections.is_empty() {
                        p.empty { "No callout was refused in the last hour." }
                    } @else {
                        ol.reasons {
                            @for (reason, number) in &objections {
                                li {
                                    a href={ "/?reason=" (reason) "#decisions" } { (reason) }
                                    b { (count(*number)) }
                                    svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" {
                                        rect x="0" y="0" width=((number * 100 / most).max(1)) height="4" {}
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn upstream(view: &View<'_>) -> Markup {
    html! {
        section aria-labelledby="upstream-title" {
            h2 id="upstream-title" { "Upstream" }
            ul.endpoints id="endpoints" data-live {
                @for endpoint in &view.endpoints { (one_endpoint(endpoint, view)) }
            }
        }
    }
}

fn one_endpoint(endpoint: &EndpointView, view: &View<'_>) -> Markup {
    let condition = &endpoint.condition;
    let state = match condition.ejected {
        false if condition.proven => "in use",
        false => "unproven",
        true if view.all_ejected() => "out, tried all the same",
        true => "out",
    };
    let unproven = !condition.ejected && !condition.proven;
    html! {
        li.out[condition.ejected].unproven[unproven] {
            p {
                span.dot aria-hidden="true" {}
                code { (endpoint.name) }
                @if let Some(node) = &endpoint.node { " " span.quiet { "node " (node) } }
            }
            p.quiet {
                b { (state) } " since " time datetime=(machine(condition.since)) { (ago(condition.since, view.now)) }
                @if let Some(next) = condition.next_try_in { ", next try in " (length(next)) }
            }
            @if unproven { p.why { "It takes requests, but no request and no probe has reached it yet." } }
            @if let Some(why) = &condition.why { p.why { (why) } }
        }
    }
}

pub(super) fn decisions(view: &View<'_>) -> Markup {
    html! {
        section id="decisions" tabindex="-1" aria-labelledby="decisions-title" {
            h2 id="decisions-title" { "Last decisions" }
            (search(view))
            div id="list" data-live {
                @match &view.filter {
                    Err(error) => p.empty role="alert" { "This cannot be searched for. " (error) "." },
                    Ok(_) if view.decisions.is_empty() => (nothing(view)),
                    Ok(_) => {
                        div.list {
                            (column_heads())
                            @for decision in view.decisions.iter().take(SHOWN) { (row(decision, view)) }
                        }
                        @if view.decisions.len() > SHOWN {
                            p.quiet { "The newest " (SHOWN) " of " (count(view.decisions.len() as u64)) ". " a href="/decisions" { "All as JSON" } }
                        }
                    }
                }
            }
        }
    }
}

fn search(view: &View<'_>) -> Markup {
    let value = |name: &str| view.field(name);
    let chosen = value("reason");
    html! {
        form.search method="get" action="/#decisions" role="search" {
            label { "Agent" input name="agent" inputmode="numeric" autocomplete="off" value=(value("agent")) placeholder="1001"; }
            label { "Request ID" input name="id" autocomplete="off" spellcheck="false" value=(value("id")); }
            label {
                "Reason"
                select name="reason" {
                    option value="" { "any" }
                    @for reason in Reason::ALL {
                        option value=(reason) selected[chosen == reason.as_str()] { (reason) }
                    }
                }
            }
            button type="submit" { "Search" }
            @if view.is_filtered() { a href="/#decisions" { "Show all" } }
        }
    }
}

fn nothing(view: &View<'_>) -> Markup {
    html! {
        @if view.is_filtered() {
            p.empty { "No decision of the last 1,000 matches. Older ones are in the log." }
        } @else {
            p.empty { "No callout yet. The first one appears here, with its story." }
        }
    }
}

/// Above the columns, where there is room for columns. Each row says the same in words.
fn column_heads() -> Markup {
    html! {
        div.heads aria-hidden="true" {
            @for head in ["Verdict", "Agent", "Number", "Control ID", "Reason", "Request ID", "Age"] { span { (head) } }
        }
    }
}

fn row(decision: &Arc<Decision>, view: &View<'_>) -> Markup {
    html! {
        details id={ "d" (decision.number) } {
            summary {
                span.chip.(decision.verdict.as_str()) { (verdict_word(decision.verdict)) }
                span.agent {
                    @match decision.agent_id { Some(agent) => { span.prefix { "agent " } (agent) }, None => { span.label { "no agent" } } }
                }
                span.number {
                    @match &decision.called { Some(called) => (called), None => { span.label { "no number" } } }
                }
                span.control {
                    @match decision.control_id { Some(id) => { span.prefix { "ID " } (id) }, None => { span.label { "no ID" } } }
                }
                span.reason { (decision.reason) }
                span.request { span.prefix { "request " } code title=(decision.request_id()) { (decision.request_id()) } }
                time datetime=(machine(decision.at)) title=(clock(decision.at)) { (ago(decision.at, view.now)) }
            }
            (story(decision))
        }
    }
}

pub(super) fn footer() -> Markup {
    html! {
        footer {
            h2 { "Also here" }
            dl {
                @for (path, meaning) in PATHS {
                    dt { (page_link(path)) }
                    dd { (meaning) }
                }
            }
        }
    }
}

/// A link, unless the path needs an agent ID or a `POST`.
fn page_link(path: &str) -> Markup {
    match path.strip_prefix("GET ") {
        Some(target) if !target.contains('{') => html! { a href=(target) { (target) } },
        _ => html! { code { (path) } },
    }
}
