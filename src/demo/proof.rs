//! The audit log of the demo, through the commands that an auditor has: it is verified, one call is told from it, and a copy
//! that was changed is found.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use super::style::{Colour, Style, wrapped};
use crate::audit_commands::{self, Command};

/// Where the gateway writes, and the names beside it.
pub(super) const DIRECTORY: &str = "audit";
pub(super) const SIGNING_KEY: &str = "audit.key";
pub(super) const NUMBER_KEYS: &str = "audit-numbers";
const PUBLIC_KEY: &str = "audit.key.pub";
const COPY: &str = "audit-copy";
/// Lines are wrapped to this many columns, without the margin.
const WIDTH: usize = 116;
/// How long the records of the last step may take to the disk.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// `previewgate audit verify audit --public-key audit.key.pub`: for the text, and for those who want to repeat it.
pub(super) fn verify_command() -> String {
    command_line(&verify_arguments(DIRECTORY))
}

/// Makes the directory and the keys that `[audit]` names.
pub(super) fn prepare(scratch: &Path) -> io::Result<()> {
    fs::create_dir(scratch.join(DIRECTORY))?;
    let arguments = ["keygen", "--signing-key", SIGNING_KEY, "--number-keys", NUMBER_KEYS, "--months", "1"];
    run(scratch, &arguments).map(drop)
}

/// Prints what the log proves; returns what is not as it must be.
pub(super) async fn prove(
    scratch: &Path,
    call_id: Option<&str>,
    out: &mut dyn Write,
    style: Style,
) -> io::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let heading = |out: &mut dyn Write, text: &str| writeln!(out, "\n{}", style.paint(Colour::Bold, text));
    heading(out, "The audit log: proof for a reader who does not trust this gateway")?;
    writeln!(
        out,
        "Each record holds the digest of the one before, and signed checkpoints seal them. The verifier applies the rule"
    )?;
    writeln!(out, "once more to what was recorded, without seeing a number.\n")?;
    let verified = settled(scratch).await?;
    let is_short = |line: &str| !line.starts_with("        ") && !line.contains("  anchored");
    say(out, style, &verify_arguments(DIRECTORY), &verified.kept(is_short))?;
    if verified.code != 0 {
        wrong.push("the audit log is not proved".to_owned());
    }
    if let Some(call_id) = call_id {
        let arguments = ["show", DIRECTORY, "--call", call_id, "--no-verify"];
        let told = run(scratch, &arguments)?;
        let is_wanted =
            |line: &str| !["SHA-256", "recorded in", "asked from", "audit log:"].iter().any(|word| line.contains(word));
        say(out, style, &arguments, &told.kept(is_wanted))?;
        if told.code != 0 {
            wrong.push("the audit log does not tell a call".to_owned());
        }
    }
    heading(out, "A copy of it, in which the refusal of step 6 was changed into a permitted call")?;
    tamper(scratch)?;
    let found = run(scratch, &verify_arguments(COPY))?;
    let is_fault = |line: &str| line.starts_with("broken") || line.starts_with("result");
    say(out, style, &verify_arguments(COPY), &found.kept(is_fault))?;
    if found.code != 1 {
        wrong.push("a changed audit log is not found".to_owned());
    }
    Ok(wrong)
}

/// What a command printed, and its exit code.
struct Printed {
    code: u8,
    text: String,
}

impl Printed {
    fn kept(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<&str> {
        self.text.lines().filter(|line| !line.is_empty() && is_wanted(line)).collect()
    }
}

fn verify_arguments(directory: &str) -> [&str; 4] {
    ["verify", directory, "--public-key", PUBLIC_KEY]
}

fn command_line(arguments: &[&str]) -> String {
    format!("previewgate audit {}", arguments.join(" "))
}

/// Runs `previewgate audit …` as the program itself does; the names of files are those in `scratch`.
fn run(scratch: &Path, arguments: &[&str]) -> io::Result<Printed> {
    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }
    let files = [DIRECTORY, COPY, SIGNING_KEY, NUMBER_KEYS, PUBLIC_KEY];
    let path = |argument: &&str| match files.contains(argument) {
        true => scratch.join(argument),
        false => PathBuf::from(argument),
    };
    let line = Line::try_parse_from([PathBuf::from("audit")].into_iter().chain(arguments.iter().map(path)));
    let mut text = Vec::new();
    let code = audit_commands::run(&line.map_err(io::Error::other)?.command, &mut text).map_err(io::Error::other)?;
    Ok(Printed { code, text: String::from_utf8(text).map_err(io::Error::other)? })
}

/// Verifies the log when the records of the last step are in it, and a checkpoint seals them.
async fn settled(scratch: &Path) -> io::Result<Printed> {
    const BROKEN: u8 = 1;
    const INCOMPLETE: u8 = 3;
    let start = tokio::time::Instant::now();
    loop {
        let verified = run(scratch, &verify_arguments(DIRECTORY))?;
        let is_settled = verified.code != INCOMPLETE && verified.text.contains("  unsealed  none");
        if is_settled || verified.code == BROKEN || start.elapsed() > RECORD_PATIENCE {
            return Ok(verified);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn say(out: &mut dyn Write, style: Style, arguments: &[&str], lines: &[&str]) -> io::Result<()> {
    writeln!(out, "  {}", style.paint(Colour::Dim, &format!("$ {}", command_line(arguments))))?;
    for line in lines {
        let colour = match line.split(':').next() {
            Some("broken") => Some(Colour::Red),
            Some("result") if line.contains("broken") => Some(Colour::Red),
            Some("result") => Some(Colour::Green),
            _ => None,
        };
        for part in wrapped(line, WIDTH) {
            writeln!(out, "  {}", colour.map_or_else(|| part.clone(), |colour| style.paint(colour, &part)))?;
        }
    }
    Ok(())
}

/// Copies the log, and changes one decision in the copy.
fn tamper(scratch: &Path) -> io::Result<()> {
    let copy = scratch.join(COPY);
    fs::create_dir(&copy)?;
    for entry in fs::read_dir(scratch.join(DIRECTORY))? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        fs::write(copy.join(name), changed(&fs::read_to_string(&path)?))?;
    }
    Ok(())
}

/// The first callout of a number that was not shown becomes one that was.
fn changed(log: &str) -> String {
    const REASON: &str = "\"reason\":\"number_not_in_preview\"";
    let mut lines: Vec<String> = log.lines().map(|line| format!("{line}\n")).collect();
    if let Some(line) = lines.iter_mut().find(|line| line.contains(REASON)) {
        *line = line.replace(REASON, "\"reason\":\"ok\"").replace("\"rejected\"", "\"forwarded\"");
    }
    lines.concat()
}
