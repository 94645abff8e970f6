//! `previewgate audit verify`.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::certify;
use super::error::Error;
use super::output::{count, public_keys};
use crate::audit::Rfc3339;
use crate::audit::verify::{self, ChainSummary, Decisions, Grade, Request, Result as Proof, Verification};

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Directories with audit logs: those of all gateways that share previews.
    #[arg(required_unless_present = "certificate", value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// The public half of the signing key, as `audit keygen` printed it.
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    /// Signed notes that were kept elsewhere: from `audit anchor`, or the gateway's log.
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// A certificate that `audit certify` made, instead of directories.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["directories", "anchor"])]
    certificate: Option<PathBuf>,
    /// Print the result only.
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> Result<u8, Error> {
    if let Some(certificate) = &options.certificate {
        return certify::verify(certificate, &options.public_key, out);
    }
    let keys = public_keys(&options.public_key)?;
    let anchor = options.anchor.as_deref().map(read).transpose()?;
    let directories = &options.directories;
    let anchor = anchor.as_ref().map(|(source, text)| (&**source, &**text));
    let verification = match verify::verify(&Request { directories, keys: &keys, anchor }) {
        Ok(verification) => verification,
        Err(error) => {
            writeln!(out, "result: nothing: {error}")?;
            return Ok(4);
        }
    };
    if !options.quiet {
        write_all(&verification, out)?;
    }
    let (word, code) = match verification.result() {
        Proof::Proved => ("proved: nothing was changed, and each verdict follows from what the agent was shown", 0),
        Proof::Broken => ("broken: see above", 1),
        Proof::Incomplete => ("incomplete: nothing was changed, but something is missing, see above", 3),
        Proof::Nothing => ("nothing: no audit log was found", 4),
    };
    writeln!(out, "result: {word}")?;
    Ok(code)
}

fn read(path: &Path) -> Result<(String, String), Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    Ok((path.display().to_string(), text))
}

fn write_all(verification: &Verification, out: &mut impl Write) -> Result<(), Error> {
    for chain in &verification.chains {
        write_chain(chain, out)?;
    }
    write_decisions(&verification.decisions, out)?;
    for grade in [Grade::Note, Grade::Incomplete, Grade::Broken] {
        for finding in verification.findings.of(grade) {
            writeln!(out, "{finding}")?;
        }
        let kept = u64::try_from(verification.findings.of(grade).count()).unwrap_or(u64::MAX);
        let more = verification.findings.count(grade).saturating_sub(kept);
        if more > 0 {
            writeln!(out, "{grade}: {more} more")?;
        }
    }
    Ok(())
}

fn write_chain(chain: &ChainSummary, out: &mut impl Write) -> Result<(), Error> {
    let segments = count(chain.segments.try_into().unwrap_or(u64::MAX), "segment");
    write!(out, "chain {}: {segments}", chain.instance)?;
    if chain.pruned > 0 {
        write!(out, ", {} pruned", chain.pruned)?;
    }
    let Some((first, last)) = chain.lines else { return Ok(writeln!(out, ", no line")?) };
    if let Some((begin, end)) = chain.times {
        write!(out, ", seq {first} to {last}, {} to {}", Rfc3339(begin), Rfc3339(end))?;
    }
    writeln!(out, "{}", if chain.live { ", being written" } else { "" })?;
    let range = |from: u64, to: u64| if from > to { "none".to_owned() } else { format!("seq {from} to {to}") };
    let sealed = chain.sealed.unwrap_or_default();
    let signed = chain.sealed_at.map_or(String::new(), |at| format!(", signed {}", Rfc3339(at)));
    writeln!(out, "  sealed    {}{signed}", range(first, sealed))?;
    writeln!(out, "  unsealed  {}", range(first.max(sealed + 1), last))?;
    writeln!(out, "  anchored  {}", range(first, chain.anchored.unwrap_or_default()))?;
    Ok(())
}

fn write_decisions(decisions: &Decisions, out: &mut impl Write) -> Result<(), Error> {
    let total: u64 = decisions.by_reason.values().sum();
    writeln!(out, "decisions: {total}")?;
    for ((verdict, reason), number) in &decisions.by_reason {
        writeln!(out, "  {number:>8}  {verdict} {reason}")?;
    }
    let Decisions { derived, not_by_rule, unknown, answered, failed, not_sent, open, .. } = decisions;
    writeln!(
        out,
        "  {derived} derived again with the same verdict, {not_by_rule} not by the rule, {unknown} cannot be derived"
    )?;
    writeln!(out, "outcomes: {answered} answered, {failed} failed, {not_sent} not sent, {open} not recorded")?;
    Ok(())
}
