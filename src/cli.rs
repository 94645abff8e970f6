//! The commands.

mod descriptors;
mod health;
mod help;
mod signals;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};

use self::signals::Signals;
use crate::app::{App, Predecessor, StartError};
use crate::audit_commands;
use crate::check;
use crate::config::{self, Config, Files};
use crate::demo::{self, Afterwards, SimulateOptions};
use crate::explain;
use crate::preview::SystemClock;
use crate::reload::mode_notice;
use crate::report::{self, ReportOptions};
use crate::schema;
use crate::standard_output::StandardOutput;
use crate::systemd::{Inherited, Notifier};
use crate::telemetry::{LineStyle, Logging, stdout};

/// The version, and the revision if it is known. `build.rs` makes it.
const VERSION: &str = env!("PREVIEWGATE_VERSION");
/// Exit code for a configuration that was refused (`EX_CONFIG` of sysexits.h).
const BAD_CONFIGURATION: u8 = 78;

/// A validating reverse proxy for Huawei CC-Gateway: no previewCallout without a preview.
#[derive(Parser)]
#[command(name = "previewgate", version = VERSION, max_term_width = 100, after_help = help::TOP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
    #[command(after_help = help::RUN)]
    Run {
        /// The configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Take over from the running gateway that listens on the same address. The running gateway passes on its sockets
        /// and its previews, finishes its requests and ends. Without such a gateway, start as usual.
        #[arg(long)]
        takeover: bool,
    },
    /// Check a configuration with the real loader; print the effective one, or every problem.
    #[command(after_help = help::CHECK)]
    Check(check::Options),
    /// See it work: a simulated CC-Gateway, previewgate in front of it and scripted agents, all on loopback.
    #[command(after_help = help::DEMO)]
    Demo {
        /// Exit after the script, instead of serving until SIGTERM or SIGINT.
        #[arg(long)]
        once: bool,
    },
    /// Run a simulated CC-Gateway alone, until SIGTERM or SIGINT.
    #[command(after_help = help::SIMULATE)]
    Simulate(SimulateOptions),
    /// Explain what the gateway would decide about a request after these events, step by step, offline.
    #[command(after_help = help::EXPLAIN)]
    Explain(explain::Options),
    /// Verify and read the audit log, offline.
    #[command(subcommand, after_help = help::AUDIT)]
    Audit(audit_commands::Command),
    /// List the past callouts that another configuration would have decided differently, from the audit log alone.
    #[command(after_help = help::REPLAY)]
    Replay(audit_commands::replay::Options),
    /// Print the JSON Schema of something that previewgate writes.
    #[command(after_help = help::SCHEMA)]
    Schema {
        /// What the schema describes.
        subject: schema::Subject,
    },
    /// Ask a running gateway whether it is ready, for container health checks.
    #[command(after_help = help::HEALTH)]
    Health(health::Options),
    /// Report what monitor mode would have refused, from the logs, and recommend what to enforce next.
    #[command(after_help = help::REPORT)]
    Report(ReportOptions),
    /// Print a completion script.
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell that the script is for.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages.
    #[command(after_help = help::MAN)]
    Man {
        /// The directory to write them to.
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

/// Executes the command line. The exit code is 0 for success, 2 for wrong usage, 78 for a bad configuration, and 1 for any
/// other failure. `audit verify` has more codes.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let mut out = StandardOutput::new();
    let mut code = ExitCode::SUCCESS;
    let outcome = match arguments.command {
        Command::Run { config, takeover } => run(&config, takeover),
        Command::Check(options) => check(&options, &mut out),
        Command::Demo { once } => {
            demo::demo(if once { Afterwards::Exit } else { Afterwards::Serve }).map_err(Failure::from)
        }
        Command::Simulate(options) => demo::simulate(&options).map_err(Failure::from),
        Command::Explain(options) => explain::explain(&options, &mut out).map_err(Failure::from),
        Command::Audit(command) => {
            audit_commands::run(&command, &mut out).map(|found| code = ExitCode::from(found)).map_err(Failure::from)
        }
        Command::Replay(options) => audit_commands::replay::run(&options, &mut out).map_err(Failure::from),
        Command::Schema { subject } => out.write_all(subject.schema().as_bytes()).map_err(other),
        Command::Health(options) => health::health(&options, &mut out).map_err(Failure::from),
        Command::Report(options) => report::report(&options, &mut out).map_err(other),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "previewgate", &mut script);
            out.write_all(&script).map_err(other)
        }
        Command::Man { directory } => man(&directory),
    };
    match outcome.and_then(|()| out.flush().map_err(other)) {
        Ok(()) => code,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                let _ = writeln!(io::stderr(), "{message}");
            }
            ExitCode::from(code)
        }
    }
}

/// Prints the help that was asked for, or what is wrong with the arguments.
fn usage(message: &clap::Error) -> ExitCode {
    match (message.print(), message.use_stderr()) {
        (_, true) => ExitCode::from(2),
        (Err(error), false) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "{}", other(error).message);
            ExitCode::FAILURE
        }
        (_, false) => ExitCode::SUCCESS,
    }
}

fn man(directory: &Path) -> Result<(), Failure> {
    let named = |error| other(format!("{}: {error}", directory.display()));
    std::fs::create_dir_all(directory).map_err(named)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(named)
}

/// Why a command failed: what to print, if anything, and how to exit.
struct Failure {
    code: u8,
    message: String,
}

impl From<config::Problems> for Failure {
    fn from(problems: config::Problems) -> Self {
        Self { code: BAD_CONFIGURATION, message: problems.to_string() }
    }
}

impl From<demo::DemoError> for Failure {
    fn from(error: demo::DemoError) -> Self {
        match error {
            demo::DemoError::Config(problems) => problems.into(),
            error => other(error),
        }
    }
}

impl From<explain::Error> for Failure {
    fn from(error: explain::Error) -> Self {
        match error {
            explain::Error::Configuration(problems) => problems.into(),
            explain::Error::NoAgent => Self { code: 2, ..other(error) },
            explain::Error::Unreadable { .. } | explain::Error::Output(_) => other(error),
        }
    }
}

impl From<health::Unhealthy> for Failure {
    fn from(error: health::Unhealthy) -> Self {
        match error {
            health::Unhealthy::Configuration(problems) => problems.into(),
            error => other(error),
        }
    }
}

impl From<audit_commands::Error> for Failure {
    fn from(error: audit_commands::Error) -> Self {
        match error {
            audit_commands::Error::Configuration(problems) => problems.into(),
            audit_commands::Error::Usage(_) => Self { code: 2, ..other(error) },
            audit_commands::Error::Io(_) | audit_commands::Error::Unusable(_) => other(error),
        }
    }
}

/// Everything that is not the configuration's fault.
fn other(error: impl std::fmt::Display) -> Failure {
    Failure { code: 1, message: format!("previewgate: {error}") }
}

fn check(options: &check::Options, out: &mut impl Write) -> Result<(), Failure> {
    // `check` has printed the problems.
    let failed = |code| Err(Failure { code, message: String::new() });
    match check::check(options, out, &mut io::stderr()).map_err(other)? {
        check::Verdict::Good => Ok(()),
        check::Verdict::Refused => failed(BAD_CONFIGURATION),
        check::Verdict::Unreachable => failed(1),
    }
}

fn run(path: &Path, takeover: bool) -> Result<(), Failure> {
    // This must come first: it changes the environment, which is safe only before there is another thread.
    let inherited = Inherited::from_environment().map_err(other)?;
    let signals = Signals::register().map_err(other)?;
    let notifier = Notifier::from_environment();
    let config = config::load(path, Files::Check)?;
    let logging = Logging::start(LineStyle::of_stdout(config.log.format), config.log.level, stdout()).map_err(other)?;
    let _log = tracing::dispatcher::set_default(&logging.dispatch);
    announce(&config);
    descriptors::raise_limit();
    descriptors::warn_if_too_few(&config.limits);
    let app = match predecessor(&config, takeover).map_err(other)? {
        Some(predecessor) => App::take_over(config, &logging, predecessor),
        None => App::bind_with(config, &logging, inherited, Arc::new(SystemClock::new())),
    };
    let app = app.map_err(other)?.reloading(path.to_owned()).notifying(notifier.clone());
    let app = app.offering_takeover(signals.stopper());
    let running = app.start().map_err(other)?;
    tracing::info!(
        target: "previewgate",
        address = %running.address,
        admin = %running.admin_address,
        "ready"
    );
    notifier.ready("serving");
    signals.obey(&running);
    notifier.stopping();
    running.stop();
    running.wait().map_err(other)
}

/// The gateway to take over from, if there should be one and there is.
fn predecessor(config: &Config, takeover: bool) -> Result<Option<Predecessor>, StartError> {
    if !takeover {
        return Ok(None);
    }
    let found = Predecessor::find(config.listener.address).map_err(StartError::Takeover)?;
    if found.is_none() {
        tracing::info!(target: "previewgate", address = %config.listener.address, "no gateway to take over from");
    }
    Ok(found)
}

fn announce(config: &Config) {
    let endpoints: Vec<_> = config.upstream.endpoints.iter().map(|endpoint| endpoint.url.to_string()).collect();
    let notice = mode_notice(&config.validation);
    tracing::info!(
        target: "previewgate",
        version = env!("CARGO_PKG_VERSION"),
        build = VERSION,
        mode = config.validation.mode.as_str(),
        on_unknown_preview = config.validation.on_unknown_preview.as_str(),
        upstream = endpoints.join(" "),
        workers = config.runtime.workers,
        config_hash = config.hash(),
        "starting{notice}"
    );
    for warning in config.warnings() {
        tracing::warn!(target: "previewgate", "{warning}");
    }
    for problem in config.missing_directories() {
        tracing::warn!(target: "previewgate", "{}: {}", problem.key, problem.message);
    }
}
