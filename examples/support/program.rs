//! The program that is measured.

use std::path::PathBuf;

/// The one that was built beside this example, with the same profile.
pub(crate) fn built_beside() -> PathBuf {
    let mut program = std::env::current_exe().unwrap();
    program.pop(); // examples/
    program.pop();
    program.push("previewgate");
    assert!(program.exists(), "{} is missing: cargo build it, with the same profile", program.display());
    program
}
