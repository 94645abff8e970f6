//! `previewgate demo`: a simulated CC-Gateway, the real gateway and scripted agents, in one process on loopback.
//!
//! [`stage`] starts all servers, [`script`] says what is sent and how it has to end, [`play`] sends it and measures
//! (the answer, the decision log, the upstream's journal), [`report`] prints, [`story`] tells one refusal in words, [`proof`]
//! shows what the audit log proves. `previewgate simulate` is in [`simulate`](mod@simulate).

mod application;
mod capture;
mod client;
mod error;
mod invitation;
mod play;
mod proof;
mod report;
mod scratch;
mod script;
mod simulate;
mod stage;
mod story;
mod style;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub use error::DemoError;
pub use simulate::{SimulateOptions, simulate};

use crate::config::{LogFormat, Mode};
use crate::standard_output::StandardOutput;
use crate::telemetry;
use play::Player;
use report::Report;
use script::SCRIPT;
use stage::{Plan, Ports, Stage};
use style::Style;

/// What follows the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// The end.
    Exit,
    /// Serve until SIGTERM or SIGINT.
    Serve,
}

/// Plays the script and prints the results.
///
/// # Errors
/// When something cannot be started, or a step did not end as expected.
pub fn demo(afterwards: Afterwards) -> Result<(), DemoError> {
    let (ports, poll_wait) = match afterwards {
        Afterwards::Exit => (Ports::Any, Duration::from_millis(300)),
        Afterwards::Serve => (Ports::WellKnown, Duration::from_secs(2)),
    };
    let plan = Plan { mode: Mode::Enforce, ports, poll_wait, log_format: LogFormat::Text };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(perform(plan, afterwards, &mut StandardOutput::new(), Style::of_stdout()))
}

async fn perform(plan: Plan, afterwards: Afterwards, out: &mut dyn Write, style: Style) -> Result<(), DemoError> {
    let mut signals = Signals::register()?;
    let stage = Stage::set(plan).await?;
    // In every case, all servers end in order and the files are removed.
    let outcome = play_and_serve(&stage, plan, afterwards, out, style, &mut signals).await;
    stage.strike().await?;
    match outcome? {
        0 => Ok(()),
        deviating => Err(DemoError::Deviated(deviating)),
    }
}

/// How many steps did not end as expected.
async fn play_and_serve(
    stage: &Stage,
    plan: Plan,
    afterwards: Afterwards,
    out: &mut dyn Write,
    style: Style,
    signals: &mut Signals,
) -> Result<usize, DemoError> {
    invitation::introduce(out, stage, plan.mode, style)?;
    let deviating = tokio::select! {
        played = play_script(stage, out, style) => played?,
        () = signals.any() => return Ok(0),
    };
    if afterwards == Afterwards::Serve {
        invitation::invite(out, stage, style)?;
        stage.log.pass_on_to(telemetry::stdout());
        signals.any().await;
    }
    Ok(deviating)
}

async fn play_script(stage: &Stage, out: &mut dyn Write, style: Style) -> io::Result<usize> {
    let mut player = Player::new(stage);
    let mut report = Report::new(out, style);
    report.head()?;
    let mut call_id = None;
    for (number, step) in (1..).zip(&SCRIPT) {
        let outcome = player.play(number, step).await;
        report.step(number, step, &outcome)?;
        call_id = call_id.or(outcome.answer.ok().and_then(|answer| answer.call_id));
    }
    report.story(&stage.gateway.services.flight_recorder.decisions())?;
    report.log()?;
    report.proof(stage.scratch.path(), call_id.as_deref()).await?;
    report.count()
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on, neither signal ends the process by itself.
    fn register() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
