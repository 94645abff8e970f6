//! A JSON reader as lenient as Gson and fastjson are at their defaults, and in some points more so.
//!
//! It is a model for tests: each habit of a mapper is a switch, so that a property can hold for all mixtures.

/// The habits of one mapper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// `'text'` is a string.
    pub(super) single_quotes: bool,
    /// Names and text may stand without quotes.
    pub(super) bare: bool,
    /// `//`, `/* */` and `#`.
    pub(super) comments: bool,
    /// `=` and `=>` separate a name from its value.
    pub(super) equals: bool,
    /// `;` separates members.
    pub(super) semicolons: bool,
    /// Separators may be repeated, and may stand behind the last member.
    pub(super) spare_commas: bool,
    /// Control characters, NUL among them, are blanks.
    pub(super) odd_blanks: bool,
    /// SUB (0x1A) ends the text.
    pub(super) sub_ends: bool,
    /// Brackets that are open at the end of the text are closed there.
    pub(super) closes_at_end: bool,
    /// A character that is escaped without need means itself; `\x41` and `\101` are escapes.
    pub(super) odd_escapes: bool,
    /// Of repeated names the first counts, not the last.
    pub(super) first_wins: bool,
    /// Names are compared without case, `_`, `-` and blanks.
    pub(super) loose_names: bool,
    /// NUL characters at the end of a value mean nothing.
    pub(super) trims_nuls: bool,
}

impl Habits {
    /// `new Gson()`.
    pub(super) const GSON: Self = Self {
        single_quotes: true,
        bare: true,
        comments: true,
        equals: true,
        semicolons: true,
        spare_commas: false,
        odd_blanks: false,
        sub_ends: false,
        closes_at_end: false,
        odd_escapes: false,
        first_wins: false,
        loose_names: false,
        trims_nuls: false,
    };
    /// `JSON.parseObject` of fastjson.
    pub(super) const FASTJSON: Self = Self {
        equals: false,
        semicolons: false,
        spare_commas: true,
        odd_blanks: true,
        sub_ends: true,
        odd_escapes: true,
        loose_names: true,
        ..Self::GSON
    };

    /// The mixture that these bits choose.
    pub(super) fn mixture(bits: u16) -> Self {
        let bit = |position: u16| bits >> position & 1 == 1;
        Self {
            single_quotes: bit(0),
            bare: bit(1),
            comments: bit(2),
            equals: bit(3),
            semicolons: bit(4),
            spare_commas: bit(5),
            odd_blanks: bit(6),
            sub_ends: bit(7),
            closes_at_end: bit(8),
            odd_escapes: bit(9),
            first_wins: bit(10),
            loose_names: bit(11),
            trims_nuls: bit(12),
        }
    }
}

/// A value, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    /// A string, or text without quotes.
    Text(String),
    /// `null`
    Null,
    /// An object or an array.
    Other,
}

/// The members of the first object in `text`, read with these habits; nothing if it cannot be read.
pub(super) struct Object {
    members: Vec<(String, Value)>,
    habits: Habits,
}

impl Object {
    /// Reads the object at the beginning of `text`. What stands behind it is of no interest to this reader.
    pub(super) fn read(text: &str, habits: Habits) -> Option<Self> {
        let mut chars: Vec<char> = text.chars().collect();
        if habits.sub_ends {
            let end = chars.iter().position(|c| *c == '\u{1a}').unwrap_or(chars.len());
            chars.truncate(end);
        }
        if chars.first() == Some(&'\u{feff}') {
            chars.remove(0);
        }
        let mut reader = Reader { chars, at: 0, habits };
        reader.blanks()?;
        reader.take('{')?;
        Some(Self { members: reader.members(0)?, habits })
    }

    /// The value of the member that this reader finds by `name`: `Some(None)` if there is none, or `null`. Nothing if it
    /// is no text.
    pub(super) fn text(&self, name: &str) -> Option<Option<String>> {
        let matches = |key: &str| if self.habits.loose_names { fold(key) == fold(name) } else { key == name };
        let mut found = self.members.iter().filter(|(key, _)| matches(key)).map(|(_, value)| value);
        match if self.habits.first_wins { found.next() } else { found.next_back() } {
            None | Some(Value::Null) => Some(None),
            Some(Value::Other) => None,
            Some(Value::Text(text)) if self.habits.trims_nuls => Some(Some(text.trim_end_matches('\0').to_owned())),
            Some(Value::Text(text)) => Some(Some(text.clone())),
        }
    }
}

fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    habits: Habits,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn take(&mut self, expected: char) -> Option<()> {
        (self.next()? == expected).then_some(())
    }

    fn skip(&mut self, expected: char) -> bool {
        let there = self.peek() == Some(expected);
        self.at += usize::from(there);
        there
    }

    /// Skips blanks and comments; fails in a comment that does not end.
    fn blanks(&mut self) -> Option<()> {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r' | '\n') => self.at += 1,
                Some(c) if self.habits.odd_blanks && c.is_control() => self.at += 1,
                Some('#') if self.habits.comments => self.line(),
                Some('/') if self.habits.comments => match self.chars.get(self.at + 1)? {
                    '/' => self.line(),
                    '*' => {
                        let rest: String = self.chars.get(self.at + 2..)?.iter().collect();
                        self.at += 4 + rest.split("*/").next()?.chars().count();
                        rest.contains("*/").then_some(())?;
                    }
                    _ => return None,
                },
                _ => return Some(()),
            }
        }
    }

    fn line(&mut self) {
        while self.next().is_some_and(|c| c != '\n' && c != '\r') {}
    }

    fn is_end(&self) -> bool {
        self.habits.closes_at_end && self.peek().is_none()
    }

    /// Skips the separator of two members, or says that there is none.
    fn separator(&mut self) -> Option<bool> {
        self.blanks()?;
        let is_separator = |c| c == ',' || (c == ';' && self.habits.semicolons);
        if !self.peek().is_some_and(is_separator) {
            return Some(false);
        }
        self.at += 1;
        while self.habits.spare_commas {
            self.blanks()?;
            if !self.skip(',') {
                break;
            }
        }
        Some(true)
    }

    /// The members of an object whose bracket has been read, with its end.
    fn members(&mut self, depth: usize) -> Option<Vec<(String, Value)>> {
        let mut members = Vec::new();
        self.blanks()?;
        if self.skip('}') || depth > 200 {
            return (depth <= 200).then_some(members);
        }
        loop {
            self.blanks()?;
            if self.habits.spare_commas && self.skip('}') {
                return Some(members);
            }
            let name = self.name()?;
            self.blanks()?;
            match self.next()? {
                ':' => {}
                '=' if self.habits.equals => _ = self.skip('>'),
                _ => return None,
            }
            members.push((name, self.value(depth)?));
            if !self.separator()? {
                return (self.skip('}') || self.is_end()).then_some(members);
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        match self.peek()? {
            '"' => self.quoted(),
            '\'' if self.habits.single_quotes => self.quoted(),
            _ if self.habits.bare => self.bare(),
            _ => None,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.blanks()?;
        match self.peek()? {
            '"' => self.quoted().map(Value::Text),
            '\'' if self.habits.single_quotes => self.quoted().map(Value::Text),
            '{' => {
                self.at += 1;
                self.members(depth + 1).map(|_| Value::Other)
            }
            '[' => {
                self.at += 1;
                self.elements(depth + 1).map(|()| Value::Other)
            }
            _ => match self.bare()?.as_str() {
                "null" => Some(Value::Null),
                // A reader that asks for text gets numbers and words as text.
                word => Some(Value::Text(word.to_owned())),
            },
        }
    }

    fn elements(&mut self, depth: usize) -> Option<()> {
        self.blanks()?;
        if self.skip(']') || depth > 200 {
            return (depth <= 200).then_some(());
        }
        loop {
            self.blanks()?;
            if self.habits.spare_commas && self.skip(']') {
                return Some(());
            }
            self.value(depth)?;
            if !self.separator()? {
                return (self.skip(']') || self.is_end()).then_some(());
            }
        }
    }

    /// Text without quotes, up to what ends it.
    fn bare(&mut self) -> Option<String> {
        let ends = |c: char| "/\\;#={}[]:,\"' \t\r\n\u{c}".contains(c) || c.is_control();
        let mut word = String::new();
        while let Some(c) = self.peek().filter(|c| !ends(*c)) {
            word.push(c);
            self.at += 1;
        }
        (!word.is_empty()).then_some(word)
    }

    fn quoted(&mut self) -> Option<String> {
        let quote = self.next()?;
        let mut units: Vec<u16> = Vec::new();
        loop {
            match self.next()? {
                c if c == quote => return Some(String::from_utf16_lossy(&units)),
                '\\' => units.push(self.escape()?),
                c => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        let code = |c: char| u16::try_from(u32::from(c)).ok();
        match self.next()? {
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'u' => self.number(4, 16),
            'x' if self.habits.odd_escapes => self.number(2, 16),
            '0'..='7' if self.habits.odd_escapes => {
                self.at -= 1;
                self.number(1, 8)
            }
            c @ ('"' | '\\' | '/' | '\'' | '\n') => code(c),
            c if self.habits.odd_escapes => code(c),
            _ => None,
        }
    }

    fn number(&mut self, digits: usize, radix: u32) -> Option<u16> {
        let text: String = self.chars.get(self.at..self.at + digits)?.iter().collect();
        self.at += digits;
        u16::from_str_radix(&text, radix).ok()
    }
}

#[test]
fn the_model_is_as_lenient_as_its_originals() {
    let read = |text: &str, habits| Object::read(text, habits).and_then(|object| object.text("called")).flatten();
    for (text, gson, fastjson) in [
        (r#"{"called":"1"}"#, Some("1"), Some("1")),
        ("{'called':'1'}", Some("1"), Some("1")),
        ("{called:1}", Some("1"), Some("1")),
        ("{called=1;x=>2}", Some("1"), None),
        ("{/*x*/called:1//\n}", Some("1"), Some("1")),
        (r#"{"called":"1","called":"2"}"#, Some("2"), Some("2")),
        (r#"{"called":"1","CALL_ED":"2"}"#, Some("1"), Some("2")),
        (r#"{"called":"1",,}"#, None, Some("1")),
        (r#"{"x":"\x41","called":"1"}"#, None, Some("1")),
        ("\u{feff}{\"called\":\"1\"} {\"called\":\"2\"}", Some("1"), Some("1")),
        ("{\u{0}\"called\":\"1\"}", None, Some("1")),
        (r#"{"x":[1,{"called":"2"}],"called":"1"}"#, Some("1"), Some("1")),
        (r#"{"called":"1""#, None, None),
        (r#"{"a":"b"c,"called":"1"}"#, None, None),
    ] {
        assert_eq!(read(text, Habits::GSON).as_deref(), gson, "{text}");
        assert_eq!(read(text, Habits::FASTJSON).as_deref(), fastjson, "{text}");
    }
}
