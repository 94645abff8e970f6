//! Verifies a log before a command reports on its content.

use std::path::PathBuf;

use serde::Serialize;

use super::error::Error;
use super::output::{count, public_keys};
use crate::audit::verify::{self, Grade, Request, Result as Proof, Verification};

/// Options of commands that verify the log before they read it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct CheckOptions {
    /// The public half of the signing key: signatures are checked as well. Without it only the chain and the rule are.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Do not verify the log first, and say so. It saves the time to read all of it.
    #[arg(long, conflicts_with = "public_key")]
    no_verify: bool,
}

/// Whether the log can be believed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Checked {
    /// `proved`, `incomplete`, `broken`, `nothing` or `not_verified`.
    pub(super) result: &'static str,
    /// The signatures were checked.
    pub(super) signatures: bool,
    /// The number of all faults and gaps.
    pub(super) findings: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<String>,
}

impl CheckOptions {
    /// Verifies the directories, unless that is not wanted.
    pub(super) fn check(&self, directories: &[PathBuf]) -> Result<Checked, Error> {
        if self.no_verify {
            return Ok(Checked { result: "not_verified", signatures: false, findings: 0, first: None });
        }
        let keys = self.public_key.as_deref().map(public_keys).transpose()?.unwrap_or_default();
        let verification = verify::verify(&Request { directories, keys: &keys, anchor: None })?;
        Ok(Checked::new(&verification, !keys.is_empty()))
    }
}

impl Checked {
    fn new(verification: &Verification, signatures: bool) -> Self {
        let (result, grade) = match verification.result() {
            Proof::Proved => ("proved", None),
            Proof::Broken => ("broken", Some(Grade::Broken)),
            Proof::Incomplete => ("incomplete", Some(Grade::Incomplete)),
            Proof::Nothing => ("nothing", None),
        };
        let findings = &verification.findings;
        let first = grade.and_then(|grade| findings.of(grade).next()).map(ToString::to_string);
        Self { result, signatures, findings: grade.map_or(0, |grade| findings.count(grade)), first }
    }

    /// One sentence for people.
    pub(super) fn sentence(&self) -> String {
        let unsigned =
            if self.signatures { "" } else { "; signatures were not checked (--public-key FILE checks them)" };
        let more = count(self.findings, "finding");
        let first = self.first.as_deref().unwrap_or_default();
        match self.result {
            "proved" => {
                format!(
                    "verified: nothing was changed, and each verdict follows from what the agent was shown{unsigned}"
                )
            }
            "incomplete" => {
                format!(
                    "verified: nothing was changed, but something is missing ({more}; the first: {first}){unsigned}"
                )
            }
            "broken" => format!("BROKEN: do not rely on what is said here ({more}; the first: {first})"),
            "nothing" => "no audit log is in these directories".to_owned(),
            _ => "not verified (--no-verify): it may have been changed".to_owned(),
        }
    }

    /// The class of the sentence on a page.
    pub(super) fn class(&self) -> &'static str {
        match self.result {
            "proved" => "checked",
            "incomplete" => "incomplete",
            _ => "doubt",
        }
    }

    /// The exit code that the verification alone leads to: 1 for a broken log, 4 if there is no log.
    pub(super) fn code(&self) -> u8 {
        match self.result {
            "broken" => 1,
            "nothing" => 4,
            _ => 0,
        }
    }
}
