//! `previewgate check`: whether a configuration is good, before a gateway runs with it.
//!
//! The loader is the one of `run`. In addition, `check` finds what only an operator can mend: certificates that expire,
//! directories that are missing, and files that the service's user cannot read. With `--online` it also finds endpoints and
//! a Redis that cannot be reached.

mod online;
mod permissions;
mod report;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use crate::config::{self, Config, Files, Problems};
use crate::gateway::Certificates;
use report::Report;
pub use report::Verdict;

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Do not open the certificates and keys that it names.
    #[arg(long)]
    skip_files: bool,
    /// Fail if there is a warning.
    #[arg(long)]
    strict: bool,
    /// Connect to every endpoint, and to Redis, as the gateway would.
    #[arg(long, conflicts_with = "skip_files")]
    online: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// As root: warn if this user cannot read a file. Without it: the user `previewgate`, if there is one.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The effective configuration on standard output; problems, warnings and `ok` on standard error.
    Text,
    /// One JSON object on standard output.
    Json,
}

/// Checks, and prints the result to `out` and `err`.
///
/// # Errors
/// When the result cannot be printed, or when `--online` cannot be done at all.
pub fn check(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Verdict> {
    let mut report = Report::new(options.config.display().to_string());
    match config::load(&options.config, if options.skip_files { Files::Skip } else { Files::Check }) {
        Ok(config) => examine(&config, options, &mut report)?,
        Err(Problems { problems, .. }) => report.problems = problems,
    }
    let verdict = report.verdict(options.strict);
    match options.format {
        Format::Text => report.print_text(verdict, out, err)?,
        Format::Json => report.print_json(verdict, out)?,
    }
    Ok(verdict)
}

fn examine(config: &Config, options: &Options, report: &mut Report) -> io::Result<()> {
    report.configuration = Some(config.to_toml());
    report.warnings = config.warnings();
    if !options.skip_files {
        report.problems = config.missing_directories();
        let notices = Certificates::read(config).notices(SystemTime::now());
        report.warnings.extend(notices.iter().map(ToString::to_string));
        report.warnings.extend(permissions::warnings(config, &options.config, options.user.as_deref()));
    }
    if options.online && report.problems.is_empty() {
        report.online = online::attempts(config)?;
    }
    Ok(())
}
