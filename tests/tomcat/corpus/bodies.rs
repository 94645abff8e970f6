//! Messages, and queries beside them, that mappers read in different ways.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::{CALLOUT, Corpus, JSON, VALID, request};

impl Corpus {
    pub(super) fn bodies(&mut self) {
        for template in BODIES {
            for fields in [JSON, "Content-Type: application/json\r\n"] {
                let body = template.replace("NUMBER", &self.unshown());
                self.hostile_body("body: readings", fields, body.as_bytes());
            }
        }
        for key in ["called", "callcontrolid"] {
            for position in 0..key.len() {
                let escaped =
                    format!("{}\\u{:04x}{}", &key[..position], key.as_bytes()[position], &key[position + 1..]);
                let upper =
                    format!("{}{}{}", &key[..position], key[position..=position].to_uppercase(), &key[position + 1..]);
                for odd in [escaped, upper] {
                    let value = if key == "called" { format!("\"{}\"", self.unshown()) } else { "666".to_owned() };
                    let added = format!(r#""{odd}":{value}"#);
                    self.hostile_body(
                        "body: repeated keys",
                        JSON,
                        VALID.replace('}', &format!(",{added}}}")).as_bytes(),
                    );
                    self.hostile_body(
                        "body: repeated keys",
                        JSON,
                        VALID.replace('{', &format!("{{{added},")).as_bytes(),
                    );
                }
            }
        }
        self.charsets();
        self.codings();
        self.content_types();
        self.sizes();
        self.generated(400);
    }

    /// Valid callouts with further fields under keys that resemble the two that count. One may pass if every mapper
    /// agrees that nothing else is called.
    fn generated(&mut self, count: usize) {
        const PARTS: &[&str] = &[
            "called",
            "Called",
            "cal",
            "led",
            "call",
            "control",
            "Control",
            "id",
            "ID",
            "callcontrolid",
            "c\\u0061lled",
            "ｃalled",
            "ⓒalled",
            "\\ud835\\udd20alled",
            "㎈led",
            "c℅",
            " ",
            "\\u0000",
            "\\u200b",
            "\\t",
            "_",
            "-",
            ".",
            "[0]",
            "/",
            "\\/",
            "x",
            "s",
            "被叫",
            "\\u0301",
            "\u{feff}",
            "\\\"",
            "$",
            "@",
        ];
        for _ in 0..count {
            let mut fields = vec![r#""called":"710101""#.to_owned(), r#""callcontrolid":1010"#.to_owned()];
            for _ in 0..=self.random.below(2) {
                let key: String = (0..=self.random.below(3)).map(|_| self.random.pick(PARTS)).collect();
                let number = self.unshown();
                let value = match self.random.below(6) {
                    0 => number,
                    1 => format!("[\"{number}\"]"),
                    2 => format!("{{\"called\":\"{number}\"}}"),
                    3 => "null".to_owned(),
                    _ => format!("\"{number}\""),
                };
                let at = self.random.below(fields.len() + 1);
                fields.insert(at, format!("\"{key}\":{value}"));
            }
            self.hostile_body("body: generated", JSON, format!("{{{}}}", fields.join(",")).as_bytes());
        }
    }

    fn charsets(&mut self) {
        for charset in [
            "",
            "; charset=UTF-8",
            "; charset=utf-16",
            "; charset=UTF-16LE",
            "; charset=gbk",
            "; charset=utf-7",
            "; charset=IBM037",
            "; charset=ISO-8859-1",
            "; charset=\"utf-8\"; charset=utf-16",
            "; charset=utf-8;charset=IBM037",
            "; charset*=IBM037''x",
            "; charset='IBM037'",
            "; CHARSET = IBM037",
            ", application/json; charset=IBM037",
            "; x=\"; charset=utf-8\"; charset=IBM037",
            "; x=\"a;b\"",
            "; charset=utf-8 ; boundary=\"charset=IBM037\"",
        ] {
            let fields = format!("Content-Type: application/json{charset}\r\n");
            for encoding in 0..8 {
                let text = self.unshown_body();
                let body: Vec<u8> = match encoding {
                    0 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
                    1 => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
                    2 => format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect(),
                    3 => format!("\u{feff}{text}").into_bytes(),
                    4 => text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(),
                    5 => ebcdic(&text),
                    6 => text.replace('{', "+AHs-").replace('"', "+ACI-").into_bytes(),
                    // The body is valid in UTF-8, and has more content in another charset.
                    _ => [VALID.as_bytes(), &ebcdic(&text)].concat(),
                };
                self.hostile_body("body: charsets", &fields, &body);
            }
        }
    }

    fn codings(&mut self) {
        for coding in ["gzip", "x-gzip", "deflate", "br", "identity", "GZIP", "gzip, gzip", "", "utf-8"] {
            for name in ["Content-Encoding", "Content-encoding", "Transfer-Encoding", "Content-Transfer-Encoding"] {
                let fields = format!("{JSON}{name}: {coding}\r\n");
                let mut gzip = GzEncoder::new(vec![], Compression::default());
                gzip.write_all(self.unshown_body().as_bytes()).unwrap();
                let gzip = gzip.finish().unwrap();
                let bytes = request("PUT", CALLOUT, &self.number().to_string(), &fields, &gzip);
                self.framed("body: codings", bytes);
                let mut zlib = ZlibEncoder::new(vec![], Compression::default());
                zlib.write_all(self.unshown_body().as_bytes()).unwrap();
                let zlib = zlib.finish().unwrap();
                let bytes = request("PUT", CALLOUT, &self.number().to_string(), &fields, &zlib);
                self.framed("body: codings", bytes);
            }
        }
    }

    fn content_types(&mut self) {
        for media in [
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=b",
            "text/plain",
            "text/json",
            "application/xml",
            "application/json",
            "application/*+json",
            "*/*",
            "",
            "application/json, application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded; x=application/json",
            "application/json\t",
            "application/ json",
            "application/json;boundary=b",
        ] {
            for form in 0..4 {
                let number = self.unshown();
                let body = match form {
                    0 => format!("called={number}&callcontrolid=1010"),
                    1 => format!("--b\r\nContent-Disposition: form-data; name=\"called\"\r\n\r\n{number}\r\n--b--\r\n"),
                    2 => format!(
                        "{{\"called\":\"710101\",\"callcontrolid\":1010,\"x\":\"&called={number}&callcontrolid=1010&\"}}"
                    ),
                    _ => self.unshown_body(),
                };
                self.hostile_body("body: content types", &format!("Content-Type: {media}\r\n"), body.as_bytes());
            }
        }
    }

    fn sizes(&mut self) {
        for size in [1_000, 60_000, 65_400, 65_536, 70_000, 200_000] {
            for filler in [" ", "\n", "\t"] {
                let hostile = self.unshown_body();
                let padding = filler.repeat(size);
                self.hostile_body("body: sizes", JSON, format!("{VALID}{padding}{hostile}").as_bytes());
                let hostile = self.unshown_body();
                self.hostile_body("body: sizes", JSON, format!("{padding}{hostile}").as_bytes());
            }
            let added = format!(r#","x":"{}","called":"{}"}}"#, "x".repeat(size), self.unshown());
            self.hostile_body("body: sizes", JSON, VALID.replace('}', &added).as_bytes());
        }
        for depth in [10, 100, 127, 128, 129, 1000, 5000] {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            let added = format!(r#","x":{open}{close},"Called":"{}"}}"#, self.unshown());
            self.hostile_body("body: sizes", JSON, VALID.replace('}', &added).as_bytes());
        }
    }

    /// Valid in UTF-8; where a two-byte character swallows a backslash, the string ends early and another call follows.
    pub(super) fn swallowed_backslashes(&mut self) {
        // Of one, two and three bytes before the backslash, in UTF-8, so that one of them is half a character elsewhere.
        for swallowing in [
            "\u{4f60}",
            "\u{e9}\u{4f60}",
            "\u{4f60}\u{4f60}",
            "\u{738b}",
            "\u{8868}",
            "\u{30a2}",
            "\u{10348}",
            "\u{e9}",
        ] {
            for (escape, inner) in [
                (r#"\""#, "'called':'NUMBER','callcontrolid':1010"),
                (r#"\""#, "called:'NUMBER',callcontrolid:1010"),
                (r#"\""#, r"'c\u0061lled':'NUMBER','callcontrolid':1010"),
                (r#"\""#, "'Called':'NUMBER'"),
                (r#"\\\""#, "'called':'NUMBER','callcontrolid':1010"),
            ] {
                for media in ["", "; charset=UTF-8"] {
                    let inner = inner.replace("NUMBER", &self.unshown());
                    let body = format!(
                        r#"{{"x":"{swallowing}{escape},{inner},'z':'","called":"710101","callcontrolid":1010,"q":"'}}"}}"#
                    );
                    self.hostile_body(
                        "body: swallowed escapes",
                        &format!("Content-Type: application/json{media}\r\n"),
                        body.as_bytes(),
                    );
                }
            }
        }
    }

    /// The parameter comes after more parameters than Tomcat 10 reads by default.
    pub(super) fn many_parameters(&mut self) {
        for count in [999, 1000, 1001, 5000] {
            let target = format!("{CALLOUT}?{}called={}", "a&".repeat(count), self.unshown());
            let bytes = request("PUT", &target, &self.number().to_string(), JSON, VALID.as_bytes());
            self.hostile("query", bytes);
        }
    }

    pub(super) fn queries(&mut self) {
        for query in QUERIES {
            let target = format!("{CALLOUT}?{}", query.replace("NUMBER", &self.unshown()));
            let bytes = request("PUT", &target, &self.number().to_string(), JSON, VALID.as_bytes());
            self.hostile("query", bytes);
        }
    }
}

/// As much of IBM037 as a callout needs.
fn ebcdic(text: &str) -> Vec<u8> {
    let byte = |c: char| match c {
        '{' => 0xc0,
        '}' => 0xd0,
        '"' => 0x7f,
        ':' => 0x7a,
        ',' => 0x6b,
        '0'..='9' => 0xf0 + (c as u8 - b'0'),
        'a'..='i' => 0x81 + (c as u8 - b'a'),
        'j'..='r' => 0x91 + (c as u8 - b'j'),
        's'..='z' => 0xa2 + (c as u8 - b's'),
        _ => 0x40,
    };
    text.chars().map(byte).collect()
}

pub(super) const BODIES: &[&str] = &[
    r#"{"called":"NUMBER","callcontrolid":1010}"#,
    r#"{"called":"NUMBER","callcontrolid":"1010"}"#,
    r#"{"called":"710101","called":"NUMBER","callcontrolid":1010}"#,
    r#"{"called":"NUMBER","called":"710101","callcontrolid":1010}"#,
    r#"{"called":"710101","callcontrolid":1010,"called":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010,"callcontrolid":1020}"#,
    r#"{"called":"710101","Called":"NUMBER","callcontrolid":1010}"#,
    r#"{"called":"710101","callcontrolid":1010,"CALLED":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010,"c\u0061lled":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010,"called ":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010,"call-ed":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010,"callControlId":1020}"#,
    r#"{"called":"710101","callcontrolid":1010,"call_control_id":1020}"#,
    r#"{"called":"710101","callcontrolid":1010,"called\u0000":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010,"ｃalled":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010,"calle\u200bd":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010,"\uFEFFcalled":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010,"\ud835\udd20alled":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010}{"called":"NUMBER","callcontrolid":1010}"#,
    r#"{"called":"710101","callcontrolid":1010} //{"called":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010},{"called":"NUMBER","callcontrolid":1010}"#,
    r#"[{"called":"NUMBER","callcontrolid":1010}]"#,
    r#"[{"called":"710101","callcontrolid":1010},{"called":"NUMBER","callcontrolid":1010}]"#,
    r#"{"request":{"called":"NUMBER","callcontrolid":1010}}"#,
    r#"{'called':'NUMBER','callcontrolid':1010}"#,
    r#"{called:"NUMBER",callcontrolid:1010}"#,
    r#"{"called":"NUMBER","callcontrolid":1010,}"#,
    r#"{"called":"710101",/*","callcontrolid":1010,"x":"*/"called":"NUMBER","callcontrolid":1010}"#,
    "{\"called\":\"710101\",\"callcontrolid\":1010,\"x\":\"//\"\n,\"called\":\"NUMBER\"}",
    "{\"called\":\"NUMBER\",#\n\"callcontrolid\":1010}",
    r#"{"called":NUMBER,"callcontrolid":1010}"#,
    r#"{"called":["NUMBER"],"callcontrolid":1010}"#,
    r#"{"called":["710101","NUMBER"],"callcontrolid":[1010]}"#,
    r#"{"called":{"called":"NUMBER"},"callcontrolid":1010}"#,
    r#"{"called":"710101,NUMBER","callcontrolid":1010}"#,
    r#"{"called":"710101;NUMBER","callcontrolid":1010}"#,
    r#"{"called":"710101 NUMBER","callcontrolid":1010}"#,
    r#"{"called":"710101\u0000NUMBER","callcontrolid":1010}"#,
    r#"{"called":"NUMBER\u0000710101","callcontrolid":1010}"#,
    r#"{"called":"710101\nNUMBER","callcontrolid":1010}"#,
    "{\"called\":\"NUM\tBER\",\"callcontrolid\":1010}",
    r#"{"called":"\u0036NUMBER","callcontrolid":1010}"#,
    r#"{"called":"\uff16NUMBER","callcontrolid":1010}"#,
    r#"{"called":"NUMBER","callcontrolid":1010.0}"#,
    r#"{"called":"710101","callcontrolid":18446744073709552626}"#,
    r#"{"called":"710101","callcontrolid":4294968306}"#,
    r#"{"called":"710101","callcontrolid":1020}"#,
    r#"{"called":"710101","callcontrolid":"01010","x":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":" 1010","x":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1.01e3,"called":"NUMBER"}"#,
    r#"{"called":"710101","callcontrolid":1010.9,"CALLED":"NUMBER"}"#,
    r#"{"called":null,"called":"NUMBER","callcontrolid":1010}"#,
    r#"{"called":"710101","callcontrolid":1010,"called":null,"Called":"NUMBER"}"#,
    r#"{"called":"710201","callcontrolid":1020}"#,
    r#"{"called":"710201","callcontrolid":1010}"#,
    "\u{feff}{\"called\":\"NUMBER\",\"callcontrolid\":1010}",
    "\0{\"called\":\"NUMBER\",\"callcontrolid\":1010}",
    ")]}',\n{\"called\":\"NUMBER\",\"callcontrolid\":1010}",
    "while(1);{\"called\":\"NUMBER\",\"callcontrolid\":1010}",
    "called=NUMBER&callcontrolid=1010",
    r#"{"called":"710101","callcontrolid":1010,"__proto__":{"called":"NUMBER"},"Called":"NUMBER"}"#,
    r#"{"called"="NUMBER";"callcontrolid"=>1010}"#,
    r#"{"x":"\"},{\"called\":\"NUMBER\"","called":"NUMBER","callcontrolid":1010}"#,
    r#"{"called":"7101\u00301","callcontrolid":1010,"\u0043alled":"NUMBER"}"#,
    r#""{\"called\":\"NUMBER\",\"callcontrolid\":1010}""#,
];

pub(super) const QUERIES: &[&str] = &[
    "called=NUMBER",
    "called=NUMBER&callcontrolid=1010",
    "callcontrolid=1020",
    "CALLED=NUMBER",
    "c%61lled=NUMBER",
    "%63%61%6c%6c%65%64=NUMBER",
    "called%20=NUMBER",
    "+called=NUMBER",
    "called[]=NUMBER",
    "called%5B0%5D=NUMBER",
    "x=1&called=NUMBER",
    "x=1;called=NUMBER",
    "x=1&amp;called=NUMBER",
    "&&called=NUMBER",
    "?called=NUMBER",
    "callControlId=1020",
    "call_control_id=1020",
    "_=1&Called=NUMBER#x",
    "called=NUMBER&called=710101",
    "called=710101&called=NUMBER",
    "called%00=NUMBER",
    "%EF%BD%83alled=NUMBER",
    "a=b%26called=NUMBER&callcontrolid=1020",
    "called=&callcontrolid=7",
];
