//! The Unix socket of the admin listener: its path and its permissions.

use std::path::PathBuf;

use super::document::ValueRef;
use super::entry::Kind;
use super::model::SocketMode;
use super::reference::ValueKind;
use super::toml_text::quoted;

/// The longest path of a socket, in bytes (unix(7)).
const MAX_PATH: usize = 107;

/// The path of a Unix socket that the gateway makes.
pub(super) struct SocketPath;

/// See [`SocketPath`].
pub(super) fn socket_path() -> SocketPath {
    SocketPath
}

impl Kind for SocketPath {
    type Value = PathBuf;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<PathBuf> {
        let text = value.text("the path of a socket in quotes")?;
        if text.is_empty() || text.contains(['\0', '\n']) || text.ends_with('/') {
            return value.wrong("is not the path of a socket", "write a path such as /run/previewgate/admin.sock");
        }
        let path = value.document.resolve(text);
        if path.as_os_str().len() > MAX_PATH {
            return value.wrong("is too long for the path of a socket", "write a path of at most 107 bytes");
        }
        Some(path)
    }

    fn write(&self, value: &PathBuf) -> String {
        quoted(&value.to_string_lossy())
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Path("Unix socket that the gateway makes")
    }
}

/// Permissions in octal digits.
pub(super) struct Permissions;

impl Kind for Permissions {
    type Value = SocketMode;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<SocketMode> {
        let text = value.text("permissions in quotes, such as \"0660\"")?;
        let digits = text.len() <= 4 && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        match u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777) {
            Some(mode) => Some(SocketMode(mode)),
            None => value.wrong("is not a file mode", "write octal digits as for chmod, such as \"0660\""),
        }
    }

    fn write(&self, value: &SocketMode) -> String {
        quoted(&format!("{:04o}", value.0))
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("permissions in octal digits")
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Files, parse};

    #[test]
    fn a_socket_has_a_short_path_and_an_octal_mode() {
        let read = |lines: &str| {
            let text = format!("[upstream]\nendpoints = [\"http://h\"]\n[admin]\n{lines}");
            parse(&text, "/etc".as_ref(), Files::Skip).map(|config| config.admin).ok()
        };
        let admin = read("socket = \"run/admin.sock\"\nsocket_mode = \"600\"").unwrap();
        assert_eq!((admin.socket.unwrap().to_str(), admin.socket_mode.0), (Some("/etc/run/admin.sock"), 0o600));
        let long = format!("socket = \"/{}\"", "x".repeat(107));
        for lines in ["socket = \"\"", "socket_mode = \"0888\"", "socket_mode = \"07777\"", "socket_mode = \"\"", &long]
        {
            assert!(read(lines).is_none(), "{lines}");
        }
    }
}
