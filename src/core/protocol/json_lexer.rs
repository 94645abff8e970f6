//! A JSON lexer that is fed piece by piece and keeps nothing of what it has read.
//!
//! For what the platform writes (docs/protocol.md 5): strings may hold raw control characters and broken UTF-8, and NUL
//! characters may stand between tokens. The structure must be JSON. One pass, whatever the size and the depth; a bit of
//! memory for each open bracket.

use crate::bounded_text::BoundedText;

/// Longest name and longest literal (number, `true`) that are reported. Longer ones are of no interest.
const MAX_WORD: usize = 64;

/// The text without a UTF-8 byte order mark.
pub(super) fn trim_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Receives the parts of a JSON text, in their order.
pub(super) trait Handler {
    /// A value begins that is an object or an array.
    fn begin(&mut self, container: Container);
    /// It ends.
    fn end(&mut self);
    /// The name of a member, its ASCII letters in lower case; empty if it is longer than any that matters.
    fn name(&mut self, name: &str);
    /// A string begins as a value; returns whether its text is wanted.
    fn begin_text(&mut self) -> bool;
    /// A part of its text, unescaped.
    fn text(&mut self, piece: &[u8]);
    /// It ends.
    fn end_text(&mut self);
    /// A number, `true`, `false`, `null`.
    fn literal(&mut self, literal: &str);
}

/// The kinds of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
}

/// Which bytes take the byte behind them with them, a backslash included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeadBytes {
    /// None: UTF-8 and single-byte charsets.
    None,
    /// 0x81 to 0xFE: GBK, GB18030, Big5.
    Chinese,
    /// 0x81 to 0x9F and 0xE0 to 0xFC: Shift_JIS.
    ShiftJis,
}

impl LeadBytes {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::None => false,
            Self::Chinese => matches!(byte, 0x81..=0xfe),
            Self::ShiftJis => matches!(byte, 0x81..=0x9f | 0xe0..=0xfc),
        }
    }
}

/// The tokens that may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Colon,
    CommaOrEnd,
    Nothing,
}

/// The token that the next byte belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    None,
    Text,
    /// Behind a lead byte.
    Trail,
    /// Behind a backslash.
    Escape,
    /// Among the digits of `\uXXXX`.
    Unit {
        digits: u8,
        value: u16,
    },
    Literal,
}

/// The lexer.
#[derive(Clone)]
pub(super) struct Lexer {
    lead_bytes: LeadBytes,
    open: Nesting,
    expect: Expect,
    within: Within,
    is_name: bool,
    wanted: bool,
    /// One byte more than the bound shows that it is too long.
    word: BoundedText<{ MAX_WORD + 1 }>,
    high_surrogate: Option<u16>,
    broken: bool,
}

impl Lexer {
    /// At the beginning of a text.
    pub(super) fn new() -> Self {
        Self {
            lead_bytes: LeadBytes::None,
            open: Nesting::default(),
            expect: Expect::Value,
            within: Within::None,
            is_name: false,
            wanted: false,
            word: BoundedText::default(),
            high_surrogate: None,
            broken: false,
        }
    }

    /// The same lexer for a text in which other bytes are lead bytes. Nothing but ASCII may have been read before.
    pub(super) fn with_lead_bytes(&self, lead_bytes: LeadBytes) -> Self {
        Self { lead_bytes, ..self.clone() }
    }

    /// Whether exactly one value has been read, and nothing is wrong with it.
    pub(super) fn is_complete(&self) -> bool {
        !self.broken && self.expect == Expect::Nothing && self.within == Within::None
    }

    /// Reads the next piece of the text.
    pub(super) fn feed(&mut self, piece: &[u8], handler: &mut impl Handler) {
        let mut rest = piece;
        while let Some((&byte, tail)) = rest.split_first() {
            if self.broken {
                return;
            }
            match self.within {
                // Each string ends in one: to look at it first saves half of the searches.
                Within::Text if self.is_special(byte) => self.special(byte, handler),
                Within::Text => {
                    let (text, behind) = rest.split_at_checked(self.text_length(rest)).unwrap_or((rest, &[]));
                    self.emit(text, handler);
                    rest = behind;
                    continue;
                }
                Within::Trail => {
                    self.emit(&[byte], handler);
                    self.within = Within::Text;
                }
                Within::Escape => self.escape(byte, handler),
                Within::Unit { digits, value } => self.digit(byte, digits, value, handler),
                Within::Literal if byte.is_ascii_alphanumeric() || b"+-.".contains(&byte) => self.word.push(byte),
                Within::Literal => {
                    self.end_literal(handler);
                    continue;
                }
                Within::None => self.between(byte, handler),
            }
            rest = tail;
        }
    }

    /// Whether a byte of a string is not simply text.
    fn is_special(&self, byte: u8) -> bool {
        matches!(byte, b'"' | b'\\') || self.lead_bytes.has(byte)
    }

    /// Count of ordinary bytes before the next special one.
    fn text_length(&self, rest: &[u8]) -> usize {
        let special = match self.lead_bytes {
            LeadBytes::None => memchr::memchr2(b'"', b'\\', rest),
            _ => rest.iter().position(|byte| self.is_special(*byte)),
        };
        special.unwrap_or(rest.len())
    }

    fn emit(&mut self, text: &[u8], handler: &mut impl Handler) {
        if text.is_empty() {
            return;
        }
        self.end_pair(handler);
        self.put(text, handler);
    }

    fn put(&mut self, text: &[u8], handler: &mut impl Handler) {
        if self.is_name {
            self.word.extend(text);
        } else if self.wanted {
            handler.text(text);
        }
    }

    /// A byte of a string that is not simply text.
    fn special(&mut self, byte: u8, handler: &mut impl Handler) {
        match byte {
            b'"' => self.end_string(handler),
            b'\\' => self.within = Within::Escape,
            lead => {
                self.emit(&[lead], handler);
                self.within = Within::Trail;
            }
        }
    }

    fn end_string(&mut self, handler: &mut impl Handler) {
        self.end_pair(handler);
        self.within = Within::None;
        if self.is_name {
            self.word.make_ascii_lowercase();
            handler.name(self.word());
            self.word.clear();
            self.expect = Expect::Colon;
        } else {
            handler.end_text();
            self.end_value();
        }
    }

    fn escape(&mut self, byte: u8, handler: &mut impl Handler) {
        let meant = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.within = Within::Unit { digits: 0, value: 0 };
                return;
            }
            _ => {
                self.broken = true;
                return;
            }
        };
        self.within = Within::Text;
        self.emit(&[meant], handler);
    }

    fn digit(&mut self, byte: u8, digits: u8, value: u16, handler: &mut impl Handler) {
        let Some(digit) = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()) else {
            self.broken = true;
            return;
        };
        let value = value * 16 + digit;
        if digits < 3 {
            self.within = Within::Unit { digits: digits + 1, value };
            return;
        }
        self.within = Within::Text;
        self.unit(value, handler);
    }

    /// A code unit that was escaped, perhaps the half of a pair.
    fn unit(&mut self, unit: u16, handler: &mut impl Handler) {
        let first = self.high_surrogate.take();
        let pair = first.and_then(|high| char::decode_utf16([high, unit]).next()?.ok());
        match pair {
            Some(character) => self.character(character, handler),
            None => {
                if first.is_some() {
                    self.character(char::REPLACEMENT_CHARACTER, handler);
                }
                match unit {
                    0xd800..=0xdbff => self.high_surrogate = Some(unit),
                    _ => self.character(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER), handler),
                }
            }
        }
    }

    /// A half that has no other stands for nothing.
    fn end_pair(&mut self, handler: &mut impl Handler) {
        if self.high_surrogate.take().is_some() {
            self.character(char::REPLACEMENT_CHARACTER, handler);
        }
    }

    fn character(&mut self, character: char, handler: &mut impl Handler) {
        self.put(character.encode_utf8(&mut [0; 4]).as_bytes(), handler);
    }

    fn end_literal(&mut self, handler: &mut impl Handler) {
        self.within = Within::None;
        handler.literal(self.word());
        self.word.clear();
        self.end_value();
    }

    /// The name or literal that was collected; empty if it is too long, or not UTF-8, as no name that matters is.
    fn word(&self) -> &str {
        if self.word.len() > MAX_WORD { "" } else { std::str::from_utf8(self.word.as_bytes()).unwrap_or_default() }
    }

    fn end_value(&mut self) {
        self.expect = if self.open.is_empty() { Expect::Nothing } else { Expect::CommaOrEnd };
    }

    /// A byte between tokens.
    fn between(&mut self, byte: u8, handler: &mut impl Handler) {
        use Expect::{Colon, CommaOrEnd, Name, NameOrEnd, Value, ValueOrEnd};
        match (byte, self.expect) {
            (0..=b' ', _) => {}
            (b'{', Value | ValueOrEnd) => self.begin(Container::Object, handler),
            (b'[', Value | ValueOrEnd) => self.begin(Container::Array, handler),
            (b'}', NameOrEnd | CommaOrEnd) => self.end(Container::Object, handler),
            (b']', ValueOrEnd | CommaOrEnd) => self.end(Container::Array, handler),
            (b'"', Value | ValueOrEnd) => {
                (self.within, self.is_name) = (Within::Text, false);
                self.wanted = handler.begin_text();
            }
            (b'"', Name | NameOrEnd) => (self.within, self.is_name) = (Within::Text, true),
            (b':', Colon) => self.expect = Value,
            (b',', CommaOrEnd) => {
                self.expect = if self.open.last() == Some(Container::Object) { Name } else { Value };
            }
            (b'-' | b'0'..=b'9' | b'a'..=b'z', Value | ValueOrEnd) => {
                self.within = Within::Literal;
                self.word.push(byte);
            }
            _ => self.broken = true,
        }
    }

    fn begin(&mut self, container: Container, handler: &mut impl Handler) {
        self.open.push(container);
        self.expect = match container {
            Container::Object => Expect::NameOrEnd,
            Container::Array => Expect::ValueOrEnd,
        };
        handler.begin(container);
    }

    fn end(&mut self, container: Container, handler: &mut impl Handler) {
        if self.open.pop() != Some(container) {
            self.broken = true;
            return;
        }
        handler.end();
        self.end_value();
    }
}

/// The open containers.
#[derive(Clone, Default)]
struct Nesting {
    /// The innermost ones: the lowest bit is the last, and 1 stands for an object.
    inner: u64,
    depth: usize,
    /// All others, 64 at a time. Hardly any text is so deep.
    outer: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, container: Container) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(container == Container::Object);
        self.depth += 1;
    }

    fn pop(&mut self) -> Option<Container> {
        let last = self.last()?;
        self.inner >>= 1;
        self.depth -= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
        Some(last)
    }

    fn last(&self) -> Option<Container> {
        let last = if self.inner & 1 == 1 { Container::Object } else { Container::Array };
        (self.depth > 0).then_some(last)
    }

    fn is_empty(&self) -> bool {
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Records the calls that it gets.
    #[derive(Default)]
    struct Recorder(String);

    impl Handler for Recorder {
        fn begin(&mut self, container: Container) {
            self.0.push_str(if container == Container::Object { "{" } else { "[" });
        }
        fn end(&mut self) {
            self.0.push_str("end ");
        }
        fn name(&mut self, name: &str) {
            self.0.push_str(&format!("{name}: "));
        }
        fn begin_text(&mut self) -> bool {
            self.0.push('<');
            true
        }
        fn text(&mut self, piece: &[u8]) {
            self.0.push_str(&String::from_utf8_lossy(piece));
        }
        fn end_text(&mut self) {
            self.0.push_str("> ");
        }
        fn literal(&mut self, literal: &str) {
            self.0.push_str(&format!("{literal} "));
        }
    }

    fn told(lead_bytes: LeadBytes, pieces: &[&[u8]]) -> Option<String> {
        let (mut lexer, mut recorder) = (Lexer::new().with_lead_bytes(lead_bytes), Recorder::default());
        pieces.iter().for_each(|piece| lexer.feed(piece, &mut recorder));
        lexer.is_complete().then_some(recorder.0)
    }

    fn whole(text: &str) -> Option<String> {
        told(LeadBytes::None, &[text.as_bytes()])
    }

    #[test]
    fn values_in_their_order() {
        let text =
            "\0 {\"A\" : [1, -2.5e+3,true,null,{}, []] ,\"b\":\"x\\ny\\u4f60\\ud835\\udd20\",\"\":{\"c\":\"\"}}\0\n";
        let expected = "{a: [1 -2.5e+3 true null {end [end end b: <x\ny你𝔠> : {c: <> end end ";
        assert_eq!(whole(text).unwrap(), expected);
    }

    #[test]
    fn strings_may_hold_anything_and_names_of_interest_are_short() {
        assert_eq!(whole(r#"["\b\f\n\r\t\"\\\/"]"#).unwrap(), "[<\u{8}\u{c}\n\r\t\"\\/> end ");
        assert_eq!(whole("{\"a\":\"\u{1}\0\n\"}").unwrap(), "{a: <\u{1}\0\n> end ");
        assert_eq!(told(LeadBytes::None, &[b"{\"a\":\"\xff\"}"]).unwrap(), "{a: <\u{fffd}> end ");
        assert_eq!(whole(r#"{"a":"\ud835x\udd20\ud835"}"#).unwrap(), "{a: <\u{fffd}x\u{fffd}\u{fffd}> end ");
        let long = "n".repeat(MAX_WORD);
        assert_eq!(whole(&format!("{{\"{long}\":1}}")).unwrap(), format!("{{{long}: 1 end "));
        assert_eq!(whole(&format!("{{\"{long}x\":1}}")).unwrap(), "{: 1 end ");
    }

    #[test]
    fn what_is_not_one_value_is_not_complete() {
        for text in [
            "",
            "{",
            "[",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "[1,]",
            "[1 2]",
            "{}{}",
            "{} x",
            "[}",
            "{]",
            "{1:2}",
            "'a'",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"",
            "<html>",
            "{\"a\":1",
            "}",
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn a_lead_byte_swallows_a_backslash() {
        let gbk = b"{\"a\":\"\xbf\x5c\",\"b\":1}";
        assert_eq!(told(LeadBytes::None, &[gbk]), None);
        assert!(told(LeadBytes::Chinese, &[gbk]).unwrap().contains("b: 1"));
        // A single byte in Shift_JIS, and an escaped quote behind it.
        let katakana = b"{\"a\":\"\xb1\x5c\"\",\"b\":1}";
        assert!(told(LeadBytes::ShiftJis, &[katakana]).unwrap().contains("b: 1"));
        assert!(told(LeadBytes::ShiftJis, &[b"{\"a\":\"\x95\x5c\",\"b\":1}"]).unwrap().contains("b: 1"));
    }

    #[test]
    fn depth_is_not_bounded() {
        let text = format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(whole(&text).is_some());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "(\\{|\\}|\\[|\\]|\"|\\\\|:|,|a|u12ab|1|你|\"a\":|\"b\"|\\{\"){0,30}", at in 0_usize..80) {
            let at = at.min(text.len());
            let bytes = text.as_bytes();
            let recorded = |pieces: &[&[u8]]| {
                let (mut lexer, mut recorder) = (Lexer::new(), Recorder::default());
                pieces.iter().for_each(|piece| lexer.feed(piece, &mut recorder));
                (lexer.is_complete(), recorder.0.replace('\u{fffd}', ""))
            };
            let (whole, halves) = (recorded(&[bytes]), recorded(&[&bytes[..at], &bytes[at..]]));
            prop_assert_eq!(whole.0, halves.0);
            if text.is_ascii() {
                prop_assert_eq!(whole.1, halves.1);
            }
        }

        /// What serde_json takes for JSON is complete here.
        #[test]
        fn json_is_complete(text in "(\\{|\\}|\\[|\\]|\"a\"|:|,|1|-2|null|true){1,12}") {
            if serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|value| value.is_object() || value.is_array()) {
                prop_assert!(whole(&text).is_some(), "{}", text);
            }
        }
    }

    proptest! {
        #[test]
        fn nesting_is_a_stack(steps in proptest::collection::vec(0..5_u8, 0..400)) {
            let (mut nesting, mut model) = (Nesting::default(), Vec::new());
            for step in steps {
                match step {
                    0 => prop_assert_eq!(nesting.pop(), model.pop()),
                    odd if odd % 2 == 1 => {
                        nesting.push(Container::Object);
                        model.push(Container::Object);
                    }
                    _ => {
                        nesting.push(Container::Array);
                        model.push(Container::Array);
                    }
                }
                prop_assert_eq!((nesting.last(), nesting.is_empty()), (model.last().copied(), model.is_empty()));
            }
            while let Some(container) = model.pop() {
                prop_assert_eq!(nesting.pop(), Some(container));
            }
            prop_assert_eq!(nesting.pop(), None);
        }
    }
}
