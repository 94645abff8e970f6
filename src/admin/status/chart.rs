//! The chart of the last hour: callouts a minute by verdict, as an SVG in the page.

use maud::{Markup, html};

use super::words::{count, plural};
use crate::gateway::Minute;
use crate::preview::Verdict;

/// The size of the drawing, in its own units. The page scales it to its width.
const WIDTH: u64 = 720;
const HEIGHT: u64 = 140;
const MINUTES: u64 = 60;
const STEP: u64 = WIDTH / MINUTES;
const BAR: u64 = STEP - 3;

/// The parts of a bar, from the bottom up.
const STACKED: [Verdict; 3] = [Verdict::Forwarded, Verdict::Unverified, Verdict::Rejected];

/// One bar for each minute, the current one on the right.
pub(super) fn chart(hour: &[Minute]) -> Markup {
    let busiest = hour.iter().map(total).max().unwrap_or_default();
    let top = end_of_scale(busiest);
    let first = MINUTES.saturating_sub(hour.len() as u64);
    html! {
        figure.chart {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT + 1) } role="img" aria-labelledby="chart-title chart-text" preserveAspectRatio="none" {
                title id="chart-title" { "Callouts a minute in the last hour" }
                desc id="chart-text" { (in_words(hour, busiest)) }
                line.grid x1="0" x2=(WIDTH) y1="0.5" y2="0.5" {}
                line.grid x1="0" x2=(WIDTH) y1=(HEIGHT / 2) y2=(HEIGHT / 2) {}
                line.base x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
                @for (position, minute) in hour.iter().enumerate() {
                    (bar(minute, (first + position as u64) * STEP, top))
                }
            }
            div.scale aria-hidden="true" {
                span { (count(top)) }
                span { (count(top / 2)) }
                span { "0" }
            }
            figcaption.axis aria-hidden="true" { span { "60 min ago" } span { "30" } span { "now" } }
        }
    }
}

/// The parts of one bar. A part is at least two units high, so that one refusal among thousands of callouts is seen.
fn bar(minute: &Minute, x: u64, top: u64) -> Markup {
    let mut bottom = HEIGHT;
    let mut parts = Vec::new();
    for verdict in STACKED {
        let callouts = minute.with_verdict(verdict);
        if callouts > 0 {
            let height = (callouts.saturating_mul(HEIGHT) / top).max(2).min(bottom);
            bottom -= height;
            parts.push((verdict, bottom, height));
        }
    }
    html! {
        @for (verdict, y, height) in parts {
            rect.(verdict.as_str()) x=(x) y=(y) width=(BAR) height=(height) {}
        }
    }
}

fn total(minute: &Minute) -> u64 {
    STACKED.iter().map(|verdict| minute.with_verdict(*verdict)).sum()
}

/// The smallest of 10, 20, 50, 100 and so on that is not below `busiest`.
fn end_of_scale(busiest: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            let top = power.saturating_mul(factor);
            if top >= busiest.max(10) {
                return top;
            }
        }
        power = power.saturating_mul(10);
    }
}

fn in_words(hour: &[Minute], busiest: u64) -> String {
    let of = |verdict| hour.iter().map(|minute| minute.with_verdict(verdict)).sum::<u64>();
    format!(
        "{} forwarded, {} refused, {} unverified. The busiest minute had {}.",
        count(of(Verdict::Forwarded)),
        count(of(Verdict::Rejected)),
        count(of(Verdict::Unverified)),
        plural(busiest, "callout")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_ends_at_a_round_number() {
        for (busiest, top) in [(0, 10), (1, 10), (9, 10), (10, 10), (11, 20), (21, 50), (51, 100), (4321, 5000)] {
            assert_eq!(end_of_scale(busiest), top, "{busiest}");
        }
        assert_eq!(end_of_scale(u64::MAX), u64::MAX);
    }
}
