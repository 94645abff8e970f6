//! `previewgate audit keygen`, `audit public-key` and `audit hash`.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use crate::audit::note::Signer;
use crate::audit::number_keys::{NumberKey, NumberKeys, Subject, make_keys};
use crate::audit::recipient::RecipientKey;
use crate::audit::record::KeyedMac;
use crate::preview::{Clock, SystemClock};

/// The options of `keygen`.
#[derive(Debug, clap::Args)]
pub struct KeygenOptions {
    /// Make the signing key here, and its public half beside it with the ending `.pub`.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["number_keys", "recipient"])]
    signing_key: Option<PathBuf>,
    /// Make the keys of the numbers here, one file for each month, beginning with this month; files that exist stay.
    #[arg(long, value_name = "DIR")]
    number_keys: Option<PathBuf>,
    /// Make an auditor's key here, and its public half (`audit.recipient`) beside it. The auditor reads the numbers with it.
    #[arg(long, value_name = "FILE")]
    recipient: Option<PathBuf>,
    /// The number of months.
    #[arg(long, default_value_t = 24, value_name = "N", requires = "number_keys")]
    months: u32,
}

/// The options of `public-key`.
#[derive(Debug, clap::Args)]
pub struct PublicKeyOptions {
    /// The key that signs checkpoints.
    #[arg(value_name = "FILE")]
    signing_key: PathBuf,
}

/// The options of `hash`.
#[derive(Debug, clap::Args)]
pub struct HashOptions {
    /// The keys of the numbers.
    #[arg(long, value_name = "DIR")]
    number_keys: PathBuf,
}

pub(super) fn keygen(options: &KeygenOptions, out: &mut impl Write) -> Result<u8, Error> {
    if let Some(path) = &options.signing_key {
        signing_key(path, out)?;
    }
    if let Some(path) = &options.recipient {
        let (recipient, private) = RecipientKey::generate().ok_or_else(no_random_numbers)?;
        write_pair(path, &private, &recipient.to_string(), out)?;
    }
    if let Some(directory) = &options.number_keys {
        make_keys(directory, SystemClock::new().now(), options.months)
            .map_err(|error| Error::about(directory, error))?;
    }
    Ok(0)
}

fn signing_key(path: &Path, out: &mut impl Write) -> Result<(), Error> {
    let (signer, pem) = Signer::generate().map_err(|_| no_random_numbers())?;
    write_pair(path, &pem, &signer.verifier().to_string(), out)
}

fn no_random_numbers() -> Error {
    Error::Unusable("the system has no random numbers".to_owned())
}

/// Writes a private key for its owner only, and its public half beside it.
fn write_pair(path: &Path, private: &str, public: &str, out: &mut impl Write) -> Result<(), Error> {
    let about = |error: std::io::Error| Error::about(path, error);
    // An existing key must stay. Without it, the log cannot be continued, or its numbers cannot be read.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(about)?;
    file.write_all(private.as_bytes()).map_err(about)?;
    let beside = PathBuf::from(format!("{}.pub", path.display()));
    std::fs::write(&beside, format!("{public}\n")).map_err(|error| Error::about(&beside, error))?;
    writeln!(out, "{public}")?;
    Ok(())
}

pub(super) fn public_key(options: &PublicKeyOptions, out: &mut impl Write) -> Result<u8, Error> {
    let signer = Signer::read(&options.signing_key).map_err(|error| Error::about(&options.signing_key, error))?;
    writeln!(out, "{}", signer.verifier())?;
    Ok(0)
}

pub(super) fn hash(options: &HashOptions, input: &mut impl Read, out: &mut impl Write) -> Result<u8, Error> {
    for KeyedMac { key, hmac } in hashes_of_number(&options.number_keys, input)? {
        writeln!(out, "{key} {hmac}")?;
    }
    Ok(0)
}

/// The hashes of the number on the standard input, one for each key in the directory.
pub(super) fn hashes_of_number(directory: &Path, input: &mut impl Read) -> Result<Vec<KeyedMac>, Error> {
    let keys = NumberKeys::read(directory).map_err(|error| Error::about(directory, error))?;
    let mut number = String::new();
    input.take(1024).read_to_string(&mut number)?;
    let number = number.trim_end_matches(['\r', '\n']);
    if number.is_empty() {
        return Err(Error::Usage("no number was given on standard input".to_owned()));
    }
    let hash = |key: &Arc<NumberKey>| KeyedMac { key: key.id(), hmac: key.mac(Subject::Number, number.as_bytes()) };
    Ok(keys.all().iter().map(hash).collect())
}
