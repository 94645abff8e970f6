//! `previewgate explain`: why a callout was, or would be, refused, step by step and offline.
//!
//! Events and a request come from files instead of sockets; everything that decides is the live path's own code:
//! framing, classification, the checks of the head, the judgement, the policy, and the table of answers. What is here
//! reads files and finds words.

mod error;
mod history;
mod report;
mod request;
mod verdict;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::{self, Config, Files, Problems};
use crate::preview::Timestamp;
use history::History;
use report::{Report, Show};

pub use error::Error;

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Captured events, oldest first: a line is a polling answer, a push or a bare event; {"agent":101,"body":…} says
    /// whose poll it answers. {"agent":101,"callout":{…}} is an earlier callout that was forwarded. `#` begins a comment.
    #[arg(long, value_name = "FILE")]
    events: PathBuf,
    /// The request: raw HTTP, or the JSON body alone with --agent (or with an "agent" member).
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Whose callout it is, if the request is a body alone.
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// The configuration with the policy; the defaults if absent.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// When the request was made, in milliseconds since 1970: previews age from their eventGenTime. Otherwise all are new.
    #[arg(long, value_name = "MILLIS")]
    now: Option<u64>,
    /// Show numbers whole.
    #[arg(long)]
    show_numbers: bool,
}

/// Writes the explanation to `out`. The result is a success with any verdict, because it was explained.
///
/// # Errors
/// When a file cannot be read or the explanation not be written.
pub fn explain(options: &Options, out: &mut impl Write) -> Result<(), Error> {
    let config = match &options.config {
        Some(path) => config::load(path, Files::Skip)?,
        None => defaults()?,
    };
    let events = read(&options.events)?;
    let asked = request::read(read(&options.request)?, options.agent.as_deref(), &config)?;
    let show = Show { numbers: options.show_numbers };
    let mut report = Report::default();
    say_policy(&config, options, &mut report);
    report.title(&format!("events, from {}", options.events.display()));
    let history = History::replay(&events, options.now.map(Timestamp), &config, show, &mut report);
    report.title(&format!("request, from {}", options.request.display()));
    verdict::tell(&asked, &history, &config, show, &mut report);
    out.write_all(report.0.as_bytes())?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}

fn defaults() -> Result<Config, Problems> {
    config::parse("[upstream]\nendpoints = [\"https://localhost:8043\"]\n", Path::new(""), Files::Skip)
}

fn say_policy(config: &Config, options: &Options, report: &mut Report) {
    let source = options.config.as_ref().map_or("the defaults".to_owned(), |path| path.display().to_string());
    let ttl = humantime::format_duration(config.previews.ttl);
    report.title(&format!("policy, from {source}"));
    report.line(&format!("mode {}", config.validation.mode));
    report.line(&format!("on_unknown_preview {}", config.validation.on_unknown_preview));
    report.line(&format!("previews can be called for {ttl}"));
    if config.previews.calls_per_number > 0 {
        report.line(&format!("each number of a preview can be called {} time(s)", config.previews.calls_per_number));
    }
    match options.now {
        Some(_) => report.line("previews age from eventGenTime to --now"),
        None => report.line("all events are taken to have just arrived; --now MILLIS and eventGenTime tell ages"),
    }
}
