//! Output and input that several commands share.

use std::path::Path;

use super::error::Error;
use crate::audit::note::Verifier;

/// `1 line`, `2 lines`.
pub(super) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// The public keys in a file.
pub(super) fn public_keys(path: &Path) -> Result<Vec<Verifier>, Error> {
    Verifier::read_all(path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}
