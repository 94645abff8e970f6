//! A temporary directory for certificates and configuration, removed when the demo ends.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::simulator::SelfSigned;

/// The directory; dropping this removes it with all files.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes a new directory below the system's temporary directory. Only this user may enter it, because it holds
    /// keys.
    pub(super) fn new() -> io::Result<Self> {
        let name = format!("previewgate-demo-{:016x}", u64::from_ne_bytes(random()?));
        let path = std::env::temp_dir().join(name);
        // This fails if the directory exists.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Writes a file and returns its path.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Writes `{name}.crt` and `{name}.key`.
    pub(super) fn write_identity(&self, name: &str, identity: &SelfSigned) -> io::Result<()> {
        self.write(&format!("{name}.crt"), &identity.certificate)?;
        self.write(&format!("{name}.key"), &identity.private_key)?;
        Ok(())
    }

    /// Writes 32 random bytes.
    pub(super) fn write_secret(&self, name: &str) -> io::Result<()> {
        self.write(name, random::<32>()?).map(drop)
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

fn random<const LENGTH: usize>() -> io::Result<[u8; LENGTH]> {
    let mut random = [0; LENGTH];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(random)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all::<&Path>(&self.0);
    }
}
