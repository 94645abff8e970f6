//! Bodies that are one thing as strict JSON in UTF-8, and another one in another charset or to a lenient mapper.
//!
//! Most of them name the shown number and may pass. Then every reader must find that number and no other.

use super::{Corpus, JSON, VALID, request};

/// A call that lenient mappers find where a string ends early: in several spellings.
const INNER: &[&str] = &[
    ",'called':'NUMBER','callcontrolid':1010,'z':'",
    ",called:'NUMBER',callcontrolid:1010,z:'",
    ";called=NUMBER;callcontrolid=1010;z='",
    ",'c\\u0061lled':'NUMBER','z':'",
    ",'Called':'NUMBER','z':'",
    ",'call_ed':'NUMBER','z':'",
    "/**/,/**/'called'/**/:/**/'NUMBER','z':'",
    ",called:NUMBER}//",
    ",called:NUMBER}#",
    ",called:NUMBER} ",
    "},{called:NUMBER,callcontrolid:1010,z:'",
    " called:'NUMBER',callcontrolid:1010,z:'",
    "called:'NUMBER',callcontrolid:1010,z:'",
    ",\\u0022called\\u0022:\\u0022NUMBER\\u0022,'z':'",
];

/// Escapes that end a string early for readers who know no escapes.
const ESCAPES: &[&str] = &["\\\"", "\\\\\\\"", "\\\\\\\\\\\"", "\\n\\\"", "\\u0022\\\"", "x\\\"\\\""];

impl Corpus {
    /// In charsets such as x-IBM943 a backslash is a yen sign.
    pub(super) fn escapes_that_escape_nothing(&mut self) {
        for escape in ESCAPES {
            for inner in INNER {
                for first in [false, true] {
                    let hidden = format!("\"x\":\"{escape}{}\"", inner.replace("NUMBER", &self.unshown()));
                    let valid = r#""called":"710101","callcontrolid":1010"#;
                    let quoted = format!("{valid},\"q\":\"'\"");
                    let body = if first {
                        format!("{{{hidden},{quoted}}}")
                    } else {
                        format!("{{{valid},{hidden},\"q\":\"'\"}}")
                    };
                    self.hostile_body("body: escapes that escape nothing", JSON, body.as_bytes());
                }
            }
        }
        for body in [
            r#"{"called":"710101\u0036","callcontrolid":1010}"#,
            r#"{"called":"71010\u0031","callcontrolid":1010}"#,
            r#"{"called":"710101","callcontrolid":"101\u0030"}"#,
            r#"{"callco\ntrolid":1020,"called":"710101","callcontrolid":1010}"#,
            r#"{"call\u0065d":"710101","callcontrolid":1010}"#,
            r#"{"called":"710101\u0000","callcontrolid":"1010\u0000"}"#,
        ] {
            self.hostile_body("body: escapes that escape nothing", JSON, body.as_bytes());
        }
    }

    /// Text in UTF-8 whose bytes are broken or half characters in other charsets, in front of what a decoder may swallow.
    pub(super) fn broken_sequences(&mut self) {
        for text in [
            "\u{80}",
            "\u{e9}",
            "\u{fe}",
            "\u{3b1}",
            "\u{4f60}",
            "\u{8868}",
            "\u{ff21}",
            "\u{fffd}",
            "\u{e000}",
            "\u{1f4de}",
            "\u{10ffff}",
            "\u{4f60}\u{4f60}",
            "\u{e9}\u{4f60}",
            "a\u{4f60}0\u{e9}",
        ] {
            for escape in ["", "\\", "\\\\", "0", "'", "{", "\\\"", "\\\\\\\""] {
                if escape == "\\" {
                    continue;
                }
                for inner in INNER.iter().take(4) {
                    let inner = inner.replace("NUMBER", &self.unshown());
                    for body in [
                        format!(
                            r#"{{"x":"{text}{escape}","y":"{inner}","called":"710101","callcontrolid":1010,"q":"'"}}"#
                        ),
                        format!(
                            r#"{{"called":"710101","callcontrolid":1010,"{text}{escape}":"{inner}","q":"'{text}"}}"#
                        ),
                        format!(
                            r#"{{"x":"{text}{escape}{inner}","called":"710101","callcontrolid":1010,"q":"'}}{text}"}}"#
                        ),
                    ] {
                        let fields = ["Content-Type: application/json\r\n", JSON][self.number() % 2];
                        self.hostile_body("body: broken sequences", fields, body.as_bytes());
                    }
                }
            }
        }
        // Bytes that are no UTF-8: the gateway has no reading, and must not forward them.
        for lead in [0x81_u8, 0x95, 0xbf, 0xc0, 0xe0, 0xf0, 0xff] {
            for trail in [&b"\\"[..], b"\"", b"\\\"", b"0", b""] {
                let inner = format!(",called:{}", self.unshown());
                let body = [
                    &br#"{"called":"710101","callcontrolid":1010,"x":""#[..],
                    &[lead],
                    trail,
                    inner.as_bytes(),
                    br#""}"#,
                ]
                .concat();
                self.hostile_body("body: broken sequences", JSON, &body);
            }
        }
    }

    /// A charset where only some readers of `Content-Type` find one.
    pub(super) fn hidden_charsets(&mut self) {
        for charset in ["x-IBM943", "GBK", "IBM037", "UTF-16"] {
            for tail in [
                "; x=\"charset=NAME\"",
                "; x=\"; charset=NAME\"",
                "; x=\";charset=NAME;\"; charset=UTF-8",
                "; charset=UTF-8; x=\"charset=NAME\"",
                "; x=charset=NAME",
                "; xcharset=NAME",
                "; charset =NAME",
                "; charset= NAME",
                "; Charset=UTF-8; charset=NAME",
                "; charset='NAME'",
                "; charset=\"NAME\"",
                "; charset=\"NA\\ME\"",
                ";charset*=UTF-8''NAME",
                "; x='; charset=NAME",
                "; x=\"\\\"; charset=NAME; y=\"\"",
                "\r\nContent-Type: application/json; charset=NAME",
            ] {
                for (escape, inner) in [("\\\"", INNER[0]), ("\u{4f60}\\\"", INNER[1])] {
                    let inner = inner.replace("NUMBER", &self.unshown());
                    let body = format!(r#"{{"x":"{escape}{inner}","called":"710101","callcontrolid":1010,"q":"'"}}"#);
                    let fields = format!("Content-Type: application/json{}\r\n", tail.replace("NAME", charset));
                    self.hostile_body("body: hidden charsets", &fields, body.as_bytes());
                }
            }
        }
    }

    /// Callouts whose strings hold quotes, escapes, text and calls in any mixture.
    pub(super) fn texts_within_texts(&mut self, count: usize) {
        const PARTS: &[&str] = &[
            "\\\"",
            "\\\\",
            "\\n",
            "\\u0022",
            "\\u005c",
            "\\/",
            "'",
            ",",
            ":",
            ";",
            "=",
            "{",
            "}",
            "[",
            "/*",
            "*/",
            "//",
            "#",
            "called",
            "callcontrolid",
            "c\\u0061lled",
            "Called",
            "NUMBER",
            "710201",
            "1020",
            "\u{4f60}",
            "\u{e9}",
            "\u{8868}",
            " ",
            "x",
            "null",
        ];
        for _ in 0..count {
            let mut text = || -> String {
                let parts = 2 + self.random.below(10);
                let text: String = (0..parts).map(|_| self.random.pick(PARTS)).collect();
                text.replace("NUMBER", &self.unshown())
            };
            let (one, two, name) = (text(), text(), text());
            let body =
                format!(r#"{{"a":"{one}","called":"710101","n{name}":"{two}","callcontrolid":1010,"z":"{two}"}}"#);
            self.hostile_body("body: texts within texts", JSON, body.as_bytes());
        }
    }

    /// Cancellations that mean the agent's preview to some readers and another one to others.
    pub(super) fn cancellations_with_two_readings(&mut self) {
        let mut agent = 4000;
        for escape in ESCAPES.iter().chain(&["\u{4f60}\\\"", "\u{8868}\\\""]) {
            for inner in [",'callcontrolid':AGENT0,'z':'", ",callcontrolid:AGENT0,z:'", ",'CallControlId':AGENT0,'z':'"]
            {
                for media in
                    ["application/json", "application/json; charset=UTF-8", "application/json; x=\"charset=x-IBM943\""]
                {
                    agent += 1;
                    let inner = inner.replace("AGENT", &agent.to_string());
                    let body = format!(r#"{{"x":"{escape}{inner}","callcontrolid":7,"q":"'"}}"#);
                    let target = format!("/agentgateway/resource/voicecall/{agent}/cancelPreviewCallout");
                    let fields = format!("Content-Type: {media}\r\n");
                    let bytes = request("PUT", &target, &self.number().to_string(), &fields, body.as_bytes());
                    self.hostile("session: two readings", bytes).ends_session_of = Some(agent);
                }
            }
        }
    }

    pub(super) fn behaving_readings(&mut self) {
        let marked = format!("\u{feff}{VALID}");
        for media in ["application/json", "application/json; charset='utf-8'", "application/json;charset=UTF-8"] {
            let fields = format!("Content-Type: {media}\r\n");
            self.behaving_callout(&fields, marked.as_bytes(), VALID);
            for body in [
                r#"{"called":"710101","callcontrolid":1010,"callData":"{\"name\":\"x\",\"called\":\"138\"}"}"#,
                r#"{"callData":"{\"a\":\"{\\\"called\\\":\\\"2\\\"}\"}","called":"710102","callcontrolid":"1010"}"#,
                r#"{"callData":"[\"王\",\"\\\"李\\\"\"]","called":"710102","callcontrolid":"1010"}"#,
                r#"{"called":"710101","callcontrolid":1010,"remark":"say \"hi\" to 王, C:\\表\\"}"#,
                r#"{"called":"710101","callcontrolid":1010,"remark":"\ud83d\ude00 \u738b 😀"}"#,
            ] {
                self.behaving_callout(&fields, body.as_bytes(), body);
            }
            let padded = r#"{"called":"710101\u0000\u0000","callcontrolid":"1010\u0000"}"#;
            self.behaving_callout(&fields, padded.as_bytes(), r#"{"called":"710101","callcontrolid":"1010"}"#);
        }
    }
}
