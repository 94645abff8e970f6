//! The result of `check`, as text and as JSON.

use std::io::{self, Write};

use serde_json::json;

use super::online::Attempt;
use crate::config::{Problem, Problems};

/// What `check` concludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The configuration is good.
    Good,
    /// It is refused: it has a problem, or with `--strict` a warning.
    Refused,
    /// It is good, but an endpoint or Redis cannot be reached.
    Unreachable,
}

/// The findings of one check.
pub(super) struct Report {
    file: String,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    /// Connections that were tried.
    pub(super) online: Vec<Attempt>,
    /// The effective configuration, if the loader accepts it.
    pub(super) configuration: Option<String>,
}

impl Report {
    pub(super) fn new(file: String) -> Self {
        Self { file, problems: Vec::new(), warnings: Vec::new(), online: Vec::new(), configuration: None }
    }

    pub(super) fn verdict(&self, strict: bool) -> Verdict {
        if !self.problems.is_empty() || (strict && !self.warnings.is_empty()) {
            Verdict::Refused
        } else if self.online.iter().any(|attempt| attempt.failure.is_some()) {
            Verdict::Unreachable
        } else {
            Verdict::Good
        }
    }

    /// The effective configuration goes to `out`, and everything else to `err`: the configuration can be redirected into
    /// a file.
    pub(super) fn print_text(self, verdict: Verdict, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        let Self { file, problems, warnings, online, configuration } = self;
        for warning in &warnings {
            writeln!(err, "warning: {warning}")?;
        }
        for Attempt { target, detail, failure } in &online {
            match failure {
                None => writeln!(err, "online: {target}: ok{detail}")?,
                Some(failure) => writeln!(err, "online: {target}: {failure}")?,
            }
        }
        let count = match warnings.len() {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            several => format!(", {several} warnings"),
        };
        match verdict {
            Verdict::Refused if problems.is_empty() => writeln!(err, "{file}: refused because of --strict{count}"),
            Verdict::Refused => writeln!(err, "{}", Problems { file, problems }),
            Verdict::Unreachable => {
                writeln!(err, "{file}: the configuration is good, but not everything can be reached")
            }
            Verdict::Good => {
                out.write_all(configuration.unwrap_or_default().as_bytes())?;
                writeln!(err, "{file}: ok{count}")
            }
        }
    }

    pub(super) fn print_json(self, verdict: Verdict, out: &mut dyn Write) -> io::Result<()> {
        let Self { file, problems, warnings, online, configuration } = self;
        let problem = |problem: &Problem| {
            let Problem { line, column, key, value, message, cure } = problem;
            json!({"line": line, "column": column, "key": key, "value": value, "message": message, "cure": cure})
        };
        let attempt = |attempt: &Attempt| json!({"target": attempt.target, "ok": attempt.failure.is_none(), "error": attempt.failure});
        let report = json!({
            "file": file,
            "ok": verdict == Verdict::Good,
            "problems": problems.iter().map(problem).collect::<Vec<_>>(),
            "warnings": warnings,
            "online": online.iter().map(attempt).collect::<Vec<_>>(),
            "configuration": configuration,
        });
        writeln!(out, "{report:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(warning: bool, unreachable: bool, strict: bool) -> Verdict {
        let mut report = Report::new("gateway.toml".to_owned());
        report.warnings.extend(warning.then(|| "a warning".to_owned()));
        let failure = unreachable.then(|| "refused".to_owned());
        report.online.push(Attempt { target: "https://a:8043".to_owned(), detail: String::new(), failure });
        report.verdict(strict)
    }

    #[test]
    fn warnings_fail_only_if_they_should() {
        assert_eq!(verdict(false, false, true), Verdict::Good);
        assert_eq!(verdict(true, false, false), Verdict::Good);
        assert_eq!(verdict(true, false, true), Verdict::Refused);
        assert_eq!(verdict(true, true, false), Verdict::Unreachable);
        assert_eq!(verdict(true, true, true), Verdict::Refused);
    }
}
