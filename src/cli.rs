//! The commands.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{App, Running};
use crate::config::{self, Config, Files};
use crate::demo::{self, Afterwards, SimulateOptions};
use crate::explain;
use crate::preview::SystemClock;
use crate::reload::mode_notice;
use crate::systemd::{Inherited, Notifier};
use crate::telemetry::{Logging, stdout};

/// Exit code for a configuration that was refused (`EX_CONFIG` of sysexits.h).
const BAD_CONFIGURATION: u8 = 78;

/// A validating reverse proxy for Huawei CC-Gateway: no previewCallout without a preview.
#[derive(Parser)]
#[command(name = "previewgate", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve, until SIGTERM or SIGINT.
    Run {
        /// The configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration with the real loader; print the effective one, or every problem.
    Check {
        /// The configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Do not open the certificates and keys that it names.
        #[arg(long)]
        skip_files: bool,
    },
    /// See it work: a simulated CC-Gateway, previewgate in front of it and scripted agents, all on loopback.
    Demo {
        /// Exit after the script, instead of serving until SIGTERM or SIGINT.
        #[arg(long)]
        once: bool,
    },
    /// Serve a simulated CC-Gateway alone, until SIGTERM or SIGINT.
    Simulate(SimulateOptions),
    /// Say what the gateway would decide about a request after these events, step by step, offline.
    Explain(explain::Options),
    /// Print a completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// Carries out the command line; the exit code is 0 if all went well, 2 for wrong usage, 78 for a bad configuration, 1
/// for anything else.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let outcome = match arguments.command {
        Command::Run { config } => run(&config),
        Command::Check { config, skip_files } => check(&config, if skip_files { Files::Skip } else { Files::Check }),
        Command::Demo { once } => demo::demo(if once { Afterwards::Exit } else { Afterwards::Serve }).map_err(other),
        Command::Simulate(options) => demo::simulate(&options).map_err(other),
        Command::Explain(options) => explain::explain(&options, &mut io::stdout()).map_err(Failure::from),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "previewgate", &mut io::stdout());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::from(code)
        }
    }
}

/// Why a command failed: what to print and how to exit.
struct Failure {
    code: u8,
    message: String,
}

impl From<config::Problems> for Failure {
    fn from(problems: config::Problems) -> Self {
        Self { code: BAD_CONFIGURATION, message: problems.to_string() }
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

/// Everything that is not the configuration's fault.
fn other(error: impl std::fmt::Display) -> Failure {
    Failure { code: 1, message: format!("previewgate: {error}") }
}

fn check(path: &Path, files: Files) -> Result<(), Failure> {
    let config = config::load(path, files)?;
    for warning in config.warnings() {
        writeln!(io::stderr(), "warning: {warning}").map_err(other)?;
    }
    write!(io::stdout(), "{}", config.to_toml()).map_err(other)
}

fn run(path: &Path) -> Result<(), Failure> {
    // First of all: it changes the environment, which no other thread may read meanwhile.
    let inherited = Inherited::from_environment().map_err(other)?;
    let notifier = Notifier::from_environment();
    let config = config::load(path, Files::Check)?;
    let logging = Logging::start(config.log.format, config.log.level, stdout()).map_err(other)?;
    let _log = tracing::dispatcher::set_default(&logging.dispatch);
    announce(&config);
    let app = App::bind_with(config, &logging, inherited, Arc::new(SystemClock::new())).map_err(other)?;
    let app = app.reloading(path.to_owned()).notifying(notifier.clone());
    // Before anybody is told that the gateway is ready: a signal that nobody listens for ends the process.
    let signals = Signals::register().map_err(other)?;
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

fn announce(config: &Config) {
    let endpoints: Vec<_> = config.upstream.endpoints.iter().map(|endpoint| endpoint.url.to_string()).collect();
    let notice = mode_notice(config.validation.mode);
    tracing::info!(
        target: "previewgate",
        version = env!("CARGO_PKG_VERSION"),
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
}

/// What a process is told from outside.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn register() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hang_up = signal(SignalKind::hangup())?;
        drop(context);
        Ok(Self { runtime, terminate, interrupt, hang_up })
    }

    /// Reloads at SIGHUP; returns at SIGTERM and SIGINT.
    fn obey(self, running: &Running) {
        let Self { runtime, mut terminate, mut interrupt, mut hang_up } = self;
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    // The outcome is logged.
                    _ = hang_up.recv() => drop(running.reload()),
                }
            }
        });
    }
}
