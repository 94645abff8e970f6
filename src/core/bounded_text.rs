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

    /// Appends `digits` hexadecimal digits, at most 16: the last ones of `number`.
    pub fn push_hex(&mut self, number: u64, digits: u32) {
        let [high, low] = [(number >> 32) as u32, number as u32].map(hex_digits);
        let mut all = [0; 16];
        let (first, last) = all.split_at_mut(high.len());
        first.copy_from_slice(&high);
        last.copy_from_slice(&low);
        let start = all.len().saturating_sub(digits as usize);
        self.extend(all.get(start..).unwrap_or_default());
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

/// The hexadecimal digits of `number`, in lower case. All eight are made at once, each in its own byte of a larger number:
/// each audit record has hundreds of them.
pub fn hex_digits(number: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let spread = u64::from(number);
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & (EACH * 0x0f);
    // One in each byte that is a letter.
    let letters = (spread + EACH * 6) >> 4 & EACH;
    (spread + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
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
        for number in (0..32).flat_map(|digit| [digit, digit << 13, !digit << 24]).chain([0x0123_4567, 0x89ab_cdef]) {
            assert_eq!(hex_digits(number), *format!("{number:08x}").as_bytes());
        }
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
