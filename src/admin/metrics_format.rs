//! The format in which a scraper gets the metrics: OpenMetrics if it asks for it, otherwise the older text format.

use http::HeaderMap;
use http::header::ACCEPT;

/// A q-value in thousandths, 0 to 1000: q-values have three decimals.
type Weight = u16;

const ALWAYS: Weight = 1000;

/// Whether the client prefers OpenMetrics to plain text, or knows nothing else (RFC 9110 12.5.1).
pub(super) fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let (mut open, mut text) = (0, 0);
    let entries = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in entries.flat_map(|value| value.split(',')).map(Range::parse) {
        if range.is_open_metrics() {
            open = range.weight.max(open);
        } else if range.is_text() {
            text = range.weight.max(text);
        }
    }
    open > 0 && open >= text
}

/// One entry of `Accept`.
struct Range<'a> {
    name: &'a str,
    version: Option<&'a str>,
    weight: Weight,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self { name: parts.next().unwrap_or_default(), version: None, weight: ALWAYS };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                name if name.eq_ignore_ascii_case("q") => range.weight = weight(value),
                name if name.eq_ignore_ascii_case("version") => range.version = Some(value),
                _ => {}
            }
        }
        range
    }

    fn is_open_metrics(&self) -> bool {
        let known = self.version.is_none_or(|version| matches!(version, "1.0.0" | "0.0.1"));
        self.name.eq_ignore_ascii_case("application/openmetrics-text") && known
    }

    fn is_text(&self) -> bool {
        let known = self.version.is_none_or(|version| version == "0.0.4");
        ["text/plain", "text/*", "*/*"].iter().any(|name| self.name.eq_ignore_ascii_case(name)) && known
    }
}

/// Reads a q-value. An invalid one counts as 0.
fn weight(text: &str) -> Weight {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text.parse::<f64>() {
        Ok(value) if is_number && (0.0..=1.0).contains(&value) => (value * f64::from(ALWAYS)) as Weight,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &[&str]) -> bool {
        wants_open_metrics(&accept.iter().map(|value| (ACCEPT, value.parse().unwrap())).collect())
    }

    #[test]
    fn a_scraper_gets_open_metrics_only_if_it_prefers_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [
            &[prometheus][..],
            &["application/openmetrics-text"],
            &["text/plain;q=0.5", "Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.5"],
            &["application/openmetrics-text;q=0.001, text/html"],
        ] {
            assert!(wanted(accept), "{accept:?}");
        }
        for accept in [
            &[][..],
            &["*/*"],
            &["text/plain"],
            &["text/html,application/xhtml+xml,*/*;q=0.8"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;q=0.3, text/plain;q=0.4"],
            &["application/openmetrics-text;q=0.3, */*;q=0.4"],
            &["application/openmetrics-text;version=2.0.0"],
            &["application/openmetrics-text;q=nan"],
            &["application/openmetrics-text;q=2"],
            &["application/*"],
            &["application/openmetrics-text-not"],
        ] {
            assert!(!wanted(accept), "{accept:?}");
        }
    }
}
