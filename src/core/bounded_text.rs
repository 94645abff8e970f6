//! A short text that is written in place, so that it takes no memory of its own.

use std::fmt;

/// At most `MAX` bytes. What does not fit is left out, so a full text may have been longer.
#[derive(Clone)]
pub struct BoundedText<const MAX: usize> {
    bytes: [u8; MAX],
    length: usize,
}

impl<const MAX: usize> BoundedText<MAX> {
    /// Appends a byte, if there is room.
    pub fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    pub(crate) fn extend(&mut self, piece: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let count = piece.len().min(room.len());
        if let (Some(room), Some(piece)) = (room.get_mut(..count), piece.get(..count)) {
            room.copy_from_slice(piece);
        }
        self.length += count;
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Empty if the text is not UTF-8.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Appends `digits` hexadecimal digits: the last ones of `number`.
    pub fn push_hex(&mut self, number: u64, digits: u32) {
        for position in (0..digits).rev() {
            let digit = (number >> (4 * position)) & 15;
            self.push(b"0123456789abcdef".get(digit as usize).copied().unwrap_or_default());
        }
    }

    pub(crate) fn make_ascii_lowercase(&mut self) {
        self.bytes.get_mut(..self.length).unwrap_or_default().make_ascii_lowercase();
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl<const MAX: usize> Default for BoundedText<MAX> {
    fn default() -> Self {
        Self { bytes: [0; MAX], length: 0 }
    }
}

impl<const MAX: usize> PartialEq for BoundedText<MAX> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const MAX: usize> Eq for BoundedText<MAX> {}

impl<const MAX: usize> fmt::Debug for BoundedText<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits() {
        let mut text = BoundedText::<40>::default();
        for (number, digits) in [(0xabc, 4), (0, 1), (u64::MAX, 16), (0x1234, 2)] {
            text.push_hex(number, digits);
            text.push(b' ');
        }
        assert_eq!(text.as_str(), "0abc 0 ffffffffffffffff 34 ");
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut text = BoundedText::<5>::default();
        text.extend(b"AB");
        text.push(b'C');
        text.make_ascii_lowercase();
        assert_eq!((text.as_bytes(), text.len()), (b"abc".as_slice(), 3));
        text.extend(b"defg");
        text.push(b'h');
        assert_eq!(text.as_bytes(), b"abcde");
        assert_eq!(text.as_str(), "abcde");
        let full = text.clone();
        text.clear();
        assert!(text.is_empty() && text == BoundedText::default() && text != full);
    }
}
