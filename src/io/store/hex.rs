//! Bytes as hexadecimal digits, in files and between processes.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The bytes that `hex` stands for.
pub fn bytes(hex: &str) -> Option<Vec<u8>> {
    HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes(&hex(&all)), Some(all));
        for broken in ["0", "0g", "é", "0 "] {
            assert_eq!(bytes(broken), None, "{broken:?}");
        }
    }
}
