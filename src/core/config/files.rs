//! Files that the configuration names: they must exist, be readable and have the right content.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ::aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::BASE64;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::document::{Files, ValueRef};
use super::entry::Kind;
use super::reference::ValueKind;
use super::toml_text::quoted;

/// The required content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileContent {
    /// At least one certificate, PEM.
    Certificates,
    /// A private key, PEM.
    PrivateKey,
    /// At least one usable trust anchor, PEM.
    Roots,
    /// At least 16 bytes.
    HashKey,
    /// One line of text.
    Password,
    /// At least 32 bytes.
    PushKey,
    /// An Ed25519 key, PEM. Other users must not be able to read it: with it, records can be forged.
    SigningKey,
    /// The public key of an auditor.
    Recipient,
}

/// A path, relative to the directory of the configuration file.
pub(super) struct FilePath(FileContent);

/// See [`FilePath`].
pub(super) fn file(content: FileContent) -> FilePath {
    FilePath(content)
}

impl Kind for FilePath {
    type Value = PathBuf;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<PathBuf> {
        // Operators sometimes write the secret itself. Until a file of that name is found, the value is not shown.
        value.withhold(self.0.is_secret());
        let text = value.text("the path of a file in quotes")?;
        if text.is_empty() || text.contains(['\0', '\n']) || text.contains("-----BEGIN") {
            return value.wrong("is not a path", "write the path of a file, not its content");
        }
        let path = value.document.resolve(text);
        if value.document.files == Files::Check {
            self.check(value, text, &path)?;
        }
        Some(path)
    }

    fn write(&self, value: &PathBuf) -> String {
        quoted(&value.to_string_lossy())
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Path(match self.0 {
            FileContent::Certificates => "PEM file with a certificate chain",
            FileContent::PrivateKey => "PEM file with a private key",
            FileContent::Roots => "PEM file with CA certificates",
            FileContent::HashKey => "file with at least 16 bytes",
            FileContent::Password => "file with a password in its only line",
            FileContent::PushKey => "file with at least 32 bytes",
            FileContent::SigningKey => "PEM file with an Ed25519 private key",
            FileContent::Recipient => "file with the public key of an auditor",
        })
    }

    fn is_file(&self) -> bool {
        true
    }

    /// Operators sometimes paste the secret itself in place of the path.
    fn is_secret(&self) -> bool {
        self.0.is_secret()
    }
}

/// The path of a file that the gateway writes. It need not exist yet.
pub(super) struct WrittenFile;

/// See [`WrittenFile`].
pub(super) fn written_file() -> WrittenFile {
    WrittenFile
}

impl Kind for WrittenFile {
    type Value = PathBuf;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<PathBuf> {
        const CURE: &str = "write the path of a file; the gateway creates it, in a directory that it may write to";
        let text = value.text("the path of a file in quotes")?;
        if text.is_empty() || text.contains(['\0', '\n']) || text.ends_with('/') {
            return value.wrong("is not the path of a file", CURE);
        }
        let path = value.document.resolve(text);
        // The directory may be created later. A failure to write is logged at run time.
        let other = |path: &Path| path.metadata().is_ok_and(|found| !found.is_file());
        if path.file_name().is_none() || value.document.files == Files::Check && other(&path) {
            return value.wrong("is not a regular file", CURE);
        }
        Some(path)
    }

    fn write(&self, value: &PathBuf) -> String {
        quoted(&value.to_string_lossy())
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Path("file that the gateway writes")
    }
}

impl FilePath {
    fn check(&self, value: &mut ValueRef<'_, '_>, text: &str, path: &Path) -> Option<()> {
        let content = match content(path) {
            Ok(content) => content,
            Err(error) => {
                let is_a_path = !self.is_secret() || looks_like_a_path(text, path);
                value.withhold(!is_a_path);
                let message = match is_a_path {
                    true => format!("cannot be read ({}): {error}", path.display()),
                    false => format!("cannot be read: {error}"),
                };
                let base = value.document.base().display();
                let cure = format!("name a file that this user may read; relative paths start at {base}");
                return value.wrong(&message, &cure);
            }
        };
        value.withhold(false);
        if self.0 == FileContent::SigningKey && is_open_to_others(path) {
            return value.wrong("can be read by every user of this machine", "run `chmod 600` on it");
        }
        match self.0.fault(&content) {
            None => Some(()),
            Some((message, cure)) => value.wrong(&format!("{message} ({})", path.display()), cure),
        }
    }
}

fn is_open_to_others(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.permissions().mode() & 0o006 != 0)
}

/// Whether what should be the path of a file with a secret is a path, and not the secret itself.
fn looks_like_a_path(text: &str, path: &Path) -> bool {
    const ENDINGS: [&str; 6] = ["key", "pem", "crt", "txt", "secret", "password"];
    let has_ending =
        path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending));
    let is_in_a_directory = path.parent().is_some_and(Path::is_dir);
    has_ending || (text.contains('/') && is_in_a_directory)
}

impl FileContent {
    fn is_secret(self) -> bool {
        match self {
            Self::PrivateKey | Self::HashKey | Self::PushKey | Self::Password | Self::SigningKey => true,
            Self::Certificates | Self::Roots | Self::Recipient => false,
        }
    }

    /// The fault of `content`, and its cure.
    fn fault(self, content: &[u8]) -> Option<(&'static str, &'static str)> {
        const CERTIFICATE_CURE: &str = "name a file with `-----BEGIN CERTIFICATE-----`";
        const KEY_CURE: &str = "name a file with `-----BEGIN PRIVATE KEY-----` (or RSA or EC)";
        match self {
            Self::Certificates => certificates(content)
                .is_none()
                .then_some(("is a file without a readable PEM certificate", CERTIFICATE_CURE)),
            Self::Roots => (!has_roots(content))
                .then_some(("is a file without a PEM certificate that can be trusted as a CA", CERTIFICATE_CURE)),
            Self::PrivateKey if private_key(content).is_some() => None,
            Self::PrivateKey if is_encrypted(content) => Some((
                "is a file with an encrypted private key, which the gateway cannot decrypt",
                "decrypt it with `openssl pkey` and restrict the file's permissions",
            )),
            Self::PrivateKey => Some(("is a file without a readable PEM private key", KEY_CURE)),
            Self::SigningKey => (!is_ed25519(content)).then_some((
                "is a file without a readable Ed25519 private key",
                "make one with `openssl genpkey -algorithm ed25519 -out FILE` or `previewgate audit keygen`",
            )),
            Self::Recipient => (!is_recipient(content)).then_some((
                "is a file without an auditor's public key",
                "make one with `previewgate audit keygen --recipient FILE` and name FILE.pub",
            )),
            Self::PushKey => (content.len() < 32)
                .then_some(("is a file of less than 32 bytes", "make one with `openssl rand -out FILE 32`")),
            Self::HashKey => (content.len() < 16)
                .then_some(("is a file of less than 16 bytes", "make one with `openssl rand -out FILE 32`")),
            Self::Password => password(content)
                .is_none()
                .then_some(("is a file without a password", "write one line with the password and nothing else")),
        }
    }
}

/// Why the certificate chain and the private key cannot be used together, if both can be read.
pub(super) fn mismatch(certificate: &Path, private_key: &Path) -> Option<rustls::Error> {
    let chain = certificates(&content(certificate).ok()?)?;
    let key = self::private_key(&content(private_key).ok()?)?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).err()
}

/// The content of a regular file. Reading a device or a pipe could block the check.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    const MAX_BYTES: u64 = 8 * 1024 * 1024;
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

fn certificates(content: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(content).collect::<Result<_, _>>().ok()?;
    (!chain.is_empty()).then_some(chain)
}

/// Whether every certificate is a usable CA. A CA that was ignored silently would lock out its clients.
fn has_roots(content: &[u8]) -> bool {
    let mut roots = RootCertStore::empty();
    certificates(content).is_some_and(|chain| chain.into_iter().all(|certificate| roots.add(certificate).is_ok()))
}

/// The only line of a password file; `None` if the content is not one line of text.
pub fn password(content: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(content).ok()?.trim_end_matches(['\r', '\n']);
    (!line.is_empty() && !line.contains(char::is_control)).then_some(line)
}

fn private_key(content: &[u8]) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(content).ok()
}

fn is_ed25519(content: &[u8]) -> bool {
    let Some(PrivateKeyDer::Pkcs8(key)) = private_key(content) else { return false };
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der()).is_ok()
}

/// `audit::recipient` reads the key itself.
fn is_recipient(content: &[u8]) -> bool {
    let key = content.trim_ascii().strip_prefix(b"previewgate-auditor+");
    key.and_then(|key| BASE64.decode(key).ok()).is_some_and(|key| key.len() == 32)
}

fn is_encrypted(content: &[u8]) -> bool {
    String::from_utf8_lossy(content).contains("ENCRYPTED")
}
