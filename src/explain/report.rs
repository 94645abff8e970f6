//! The text of an explanation, and how it shows numbers.

use std::fmt::Display;

use crate::preview::DialedNumber;
use crate::telemetry::sanitized;

/// The explanation so far.
#[derive(Default)]
pub(super) struct Report(pub(super) String);

impl Report {
    pub(super) fn title(&mut self, title: &str) {
        let blank = if self.0.is_empty() { "" } else { "\n" };
        self.0.push_str(&format!("{blank}{title}:\n"));
    }

    pub(super) fn line(&mut self, line: &str) {
        self.0.push_str(&format!("  {}\n", fit(line)));
    }
}

/// What a file says, made fit for a terminal.
fn fit(text: impl Display) -> String {
    sanitized(text, 2000).to_string()
}

/// How numbers are shown.
#[derive(Clone, Copy)]
pub(super) struct Show {
    pub(super) numbers: bool,
}

impl Show {
    pub(super) fn number(self, number: &DialedNumber) -> String {
        if self.numbers { fit(number.reveal()) } else { number.masked().to_string() }
    }

    pub(super) fn list<'a>(self, numbers: impl IntoIterator<Item = &'a DialedNumber>) -> String {
        let shown: Vec<_> = numbers.into_iter().map(|number| self.number(number)).collect();
        if shown.is_empty() { "no number".to_owned() } else { shown.join(", ") }
    }
}
