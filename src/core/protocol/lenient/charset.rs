//! What a body may become when it is decoded: by any charset that contains ASCII, and by decoders that recover from
//! malformed input in ways of their own. A model for tests.

use encoding_rs::Encoding;

/// All charsets of the Encoding standard but UTF-16, which does not contain ASCII, and `replacement`.
const LABELS: [&str; 37] = [
    "utf-8",
    "ibm866",
    "iso-8859-2",
    "iso-8859-3",
    "iso-8859-4",
    "iso-8859-5",
    "iso-8859-6",
    "iso-8859-7",
    "iso-8859-8",
    "iso-8859-8-i",
    "iso-8859-10",
    "iso-8859-13",
    "iso-8859-14",
    "iso-8859-15",
    "iso-8859-16",
    "koi8-r",
    "koi8-u",
    "macintosh",
    "windows-874",
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "windows-1253",
    "windows-1254",
    "windows-1255",
    "windows-1256",
    "windows-1257",
    "windows-1258",
    "x-mac-cyrillic",
    "gbk",
    "gb18030",
    "big5",
    "euc-jp",
    "iso-2022-jp",
    "shift_jis",
    "euc-kr",
    "x-user-defined",
];

/// How a decoder reads bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    /// Which of [`LABELS`]; a number beyond them stands for a decoder that is in no standard.
    pub(super) label: usize,
    /// Of that decoder: which bytes beyond ASCII swallow the byte behind them, by their position.
    pub(super) swallows: u64,
    /// A backslash is a yen sign, as in x-IBM943 and JIS X 0201.
    pub(super) yen: bool,
}

impl Decoder {
    /// The text that this decoder finds.
    pub(super) fn decode(self, bytes: &[u8]) -> String {
        let text = match LABELS.get(self.label).and_then(|label| Encoding::for_label(label.as_bytes())) {
            Some(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
            None => self.recover(bytes),
        };
        if self.yen { text.replace('\\', "¥") } else { text }
    }

    fn recover(self, bytes: &[u8]) -> String {
        let mut text = String::new();
        let mut rest = bytes.iter().enumerate();
        while let Some((position, byte)) = rest.next() {
            if byte.is_ascii() {
                text.push(char::from(*byte));
                continue;
            }
            text.push('\u{fffd}');
            if self.swallows >> (position % 64) & 1 == 1 {
                rest.next();
            }
        }
        text
    }
}

#[test]
fn every_label_is_known_and_keeps_ascii() {
    let ascii: Vec<u8> = (0x20..0x7f).collect();
    for label in 0..=LABELS.len() {
        let decoder = Decoder { label, swallows: u64::MAX, yen: false };
        assert_eq!(decoder.decode(&ascii).as_bytes(), ascii, "{label}");
    }
    let gbk = LABELS.iter().position(|label| *label == "gbk").unwrap();
    let swallowing = Decoder { label: gbk, swallows: 0, yen: false };
    assert_eq!(swallowing.decode(b"\x81\\\"").chars().count(), 2);
    assert_eq!(Decoder { label: 99, swallows: 1, yen: true }.decode(b"\xe4\"\\"), "\u{fffd}¥");
}
