//! `previewgate audit …`: the offline half of the audit log. The commands read the directories and keys that they are given.
//! Only `replay` needs a configuration, and no command needs a running gateway.

mod anchor;
mod arguments;
mod certify;
mod checked;
mod course;
mod decrypt;
mod error;
mod keys;
mod output;
mod prune;
mod reconcile;
pub mod replay;
mod report;
mod show;
mod story;
mod verify;
mod words;

use std::io::Write;

pub use error::Error;

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Verify directories: the chain, signatures and anchors, and each verdict. Exit code 0: proved; 1: broken; 3: something
    /// is missing and a crash explains it; 4: no log is there.
    Verify(verify::Options),
    /// Print the latest signed note of each chain, to keep it where the gateway's host cannot change it.
    Anchor(anchor::Options),
    /// Print the story of one call: shown, delivered, decided, answered, talked. Exit code 1: nothing is recorded about it,
    /// or its verdict does not follow.
    Show(show::Options),
    /// Print a certificate of one call: its records, each with its proof, and no other data.
    Certify(certify::Options),
    /// Report on one day: calls, refusals, unverified callouts and their reasons, callouts without outcome.
    Report(report::Options),
    /// Compare the platform's own call records with the log. Exit code 1: there are differences.
    Reconcile(reconcile::Options),
    /// Make the key that signs checkpoints, the keys of the numbers, or an auditor's key.
    Keygen(keys::KeygenOptions),
    /// Print the public half of a signing key, for keys that `openssl genpkey -algorithm ed25519` made.
    PublicKey(keys::PublicKeyOptions),
    /// Read a number from standard input; print the hashes to search for, one for each month.
    Hash(keys::HashOptions),
    /// Print the numbers that were encrypted to an auditor's key (`audit.recipient`), as CSV: for the auditor.
    Decrypt(decrypt::Options),
    /// Remove old segments, whole ones only; their last signed notes stay.
    Prune(prune::Options),
}

/// Runs a command; returns its exit code.
///
/// # Errors
/// [`Error`]
pub fn run(command: &Command, out: &mut impl Write) -> Result<u8, Error> {
    match command {
        Command::Verify(options) => verify::run(options, out),
        Command::Anchor(options) => anchor::run(options, out),
        Command::Show(options) => show::run(options, out),
        Command::Certify(options) => certify::run(options, out),
        Command::Report(options) => report::run(options, out),
        Command::Reconcile(options) => reconcile::run(options, out),
        Command::Keygen(options) => keys::keygen(options, out),
        Command::PublicKey(options) => keys::public_key(options, out),
        Command::Hash(options) => keys::hash(options, &mut std::io::stdin().lock(), out),
        Command::Decrypt(options) => decrypt::run(options, out),
        Command::Prune(options) => prune::run(options, out),
    }
}
