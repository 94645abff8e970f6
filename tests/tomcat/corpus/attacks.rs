//! Further attacks on how heads and bodies are read: each of the shapes of `Content-Type`, keys in every spelling, JSON in
//! strings at depth, forms, charsets with shifts, HTTP/1.0 and `Transfer-Encoding` in mixtures.

use super::{CALLOUT, Corpus, JSON, VALID, chunked, request};

/// A body that is one call as UTF-8 and another where a backslash or a text swallows the next byte.
fn two_readings(number: &str, round: usize) -> String {
    let escape = ["\\\"", "\u{4f60}\\\"", "\u{8868}\\\"", "\\\\\\\""][round % 4];
    let inner = [
        ",'called':'NUMBER','callcontrolid':1010,'z':'",
        ",called:'NUMBER',callcontrolid:1010,z:'",
        ";called=NUMBER;callcontrolid=1010;z='",
    ][round / 4 % 3];
    format!(r#"{{"x":"{escape}{}","called":"710101","callcontrolid":1010,"q":"'"}}"#, inner.replace("NUMBER", number))
}

impl Corpus {
    pub(super) fn further_attacks(&mut self) {
        self.shapes_of_content_types();
        self.charsets_in_other_fields();
        self.keys_in_every_spelling();
        self.json_in_strings_at_depth();
        self.forms_within_json();
        self.shifting_charsets();
        self.old_protocol();
        self.options_of_connections();
    }

    /// `Content-Type` with parameters of any shape, and more than once.
    fn shapes_of_content_types(&mut self) {
        const SHAPES: &[&str] = &[
            "application/json;charset=NAME;charset=UTF-8",
            "application/json;charset=UTF-8;;charset=NAME",
            "application/json;;;charset=NAME",
            "application/json; charset=UTF-8 charset=NAME",
            "application/json; charset=UTF-8,charset=NAME",
            "application/json; charset=UTF-8\tNAME",
            "application/json; charset=UTF-8;\tCHARSET\t=\tNAME",
            "application/json; charset=\"UTF-8\";x=\"\\\";charset=NAME\"",
            "application/json; x=\"\\\\\";charset=NAME",
            "application/json; x='\"';charset=NAME;y='\"'",
            "application/json; x=<charset=NAME>",
            "application/json; x=(charset=NAME); charset=UTF-8",
            "application/json; q=0.5;level=charset=NAME",
            "application/json; boundary=charset=NAME",
            "application/json; charset=utf-8; profile=\"http://x/?charset=NAME\"",
            "application/json; charset=utf-8; profile=http://x/charset=NAME",
            "application/json; charset=utf-8; chars\"et=NAME\"",
            "application/json; charset=utf-8; char set=NAME",
            "application/json; charset=utf-8; charset%3DNAME",
            "application/json; charset=utf-8; xcharset=utf-8; charset_=NAME",
            "application/json; =charset=NAME",
            "application/json; \"charset\"=NAME",
            "application/json; charset:NAME",
            "application/json; charset==NAME",
            "application/json; charset=;charset=NAME",
            "application/json; charset=UTF\u{ad}8;charset=NAME",
            "application/json+charset=NAME",
            "application/json/charset=NAME",
            "application/charset=NAME; application/json",
            "charset=NAME",
            "application/json; charset=UTF-8\r\nContent-Type: application/json; charset=NAME",
            "application/json; charset=NAME\r\nContent-Type: application/json; charset=UTF-8",
            "application/json\r\ncontent-type: application/json;charset=NAME",
            "application/json\r\nCONTENT-TYPE: ;charset=NAME",
            "application/json; charset=UTF-8\r\n charset=NAME",
            "application/json; charset=UTF-8;\r\n\tcharset=NAME",
            "\r\nContent-Type: application/json; charset=NAME",
            "application/json; charset=UTF-8\r\nContent-Type:",
        ];
        for name in ["x-IBM943", "GBK", "Shift_JIS", "UTF-16BE"] {
            for shape in SHAPES {
                let body = two_readings(&self.unshown(), self.number());
                let fields = format!("Content-Type: {}\r\n", shape.replace("NAME", name));
                let bytes = request("PUT", CALLOUT, &self.number().to_string(), &fields, body.as_bytes());
                self.framed("body: shapes of content types", bytes);
            }
        }
    }

    /// A charset in fields that are none of the server's business.
    fn charsets_in_other_fields(&mut self) {
        for name in ["x-IBM943", "Big5", "IBM037"] {
            for field in [
                "Accept-Charset: NAME",
                "Content-Charset: NAME",
                "Charset: NAME",
                "X-Charset: NAME",
                "Content-Language: zh; charset=NAME",
                "Content-Disposition: inline; charset=NAME",
                "Accept: application/json; charset=NAME",
                "Content-Type-Options: charset=NAME",
                "X-Content-Type: application/json; charset=NAME",
                "Content-Encoding: charset=NAME",
                "Cookie: charset=NAME",
                "Trailer: Content-Type",
            ] {
                let body = two_readings(&self.unshown(), self.number());
                let fields = format!("{JSON}{}\r\n", field.replace("NAME", name));
                self.hostile_body("body: charsets in other fields", &fields, body.as_bytes());
            }
            // A charset behind the body.
            let body = two_readings(&self.unshown(), self.number());
            let bytes = request("PUT", CALLOUT, &self.number().to_string(), JSON, body.as_bytes());
            let bytes = String::from_utf8(chunked(&bytes, 1000)).unwrap();
            let trailer = format!("0\r\nContent-Type: application/json; charset={name}\r\n\r\n");
            self.framed("body: charsets in other fields", bytes.replace("0\r\n\r\n", &trailer).into_bytes());
        }
    }

    /// The two keys that count, repeated with other letters, escapes and padding, on every side and at depth.
    fn keys_in_every_spelling(&mut self) {
        const SPELLINGS: &[&str] = &[
            "called",
            "\\u0063alled",
            "\\u0063\\u0061\\u006c\\u006c\\u0065\\u0064",
            "\\u0043alled",
            "\\u0043\\u0041LLED",
            "CalleD",
            "cAlLeD",
            "called\\u0000",
            "\\u0000called",
            "called\\u0020",
            "called\\t",
            "called\\u200b",
            "call\\u00aded",
            "call\\u017fed",
            "c\\u0251lled",
            "\\uff43alled",
            "\\u24d2alled",
            "cal\\/led",
            "call\\u005fed",
            "_called",
            "called_",
            "get_called",
            "is_called",
            "called[]",
            "called.x",
            "$.called",
            "@called",
            "called:1",
        ];
        for spelling in SPELLINGS {
            for place in 0..5 {
                let number = self.unshown();
                let odd = format!("\"{spelling}\":\"{number}\"");
                let body = match place {
                    0 => VALID.replacen('{', &format!("{{{odd},"), 1),
                    1 => VALID.replace('}', &format!(",{odd}}}")),
                    2 => VALID.replace(',', &format!(",{odd},")),
                    3 => format!("{{{odd},\"callcontrolid\":1010,\"x\":{VALID}}}"),
                    _ => VALID.replace('}', &format!(",\"x\":{{{odd},\"callcontrolid\":1010}}}}")),
                };
                self.hostile_body("body: keys in every spelling", JSON, body.as_bytes());
            }
        }
    }

    /// A call within a string within a string.
    fn json_in_strings_at_depth(&mut self) {
        for depth in 1..6 {
            for quote in ['"', '\''] {
                for tail in ["", "}", "\\\\", "\\\\\\"] {
                    let mut text = format!("{{{quote}called{quote}:{quote}{}{quote}}}", self.unshown());
                    for _ in 0..depth {
                        text = format!("{{\"x\":\"{}\"}}", text.replace('\\', "\\\\").replace('"', "\\\""));
                    }
                    let data = text.replace('\\', "\\\\").replace('"', "\\\"");
                    let body = VALID.replace('}', &format!(",\"callData\":\"{data}{tail}\"}}"));
                    self.hostile_body("body: JSON in strings at depth", JSON, body.as_bytes());
                }
            }
        }
    }

    /// Strings that are forms, parts and queries to a reader of those.
    fn forms_within_json(&mut self) {
        for text in [
            "&called=NUMBER&",
            "\\r\\n--b\\r\\nContent-Disposition: form-data; name=\\\"called\\\"\\r\\n\\r\\nNUMBER\\r\\n--b--",
            "?called=NUMBER#",
            "\\u0026called\\u003dNUMBER\\u0026",
            "<called>NUMBER</called>",
            "]]>{\\\"called\\\":\\\"NUMBER\\\"}",
            "called: NUMBER\\ncallcontrolid: 1010",
        ] {
            for media in [
                "application/json",
                "application/json; charset=UTF-8",
                "application/json;boundary=b",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=b",
                "text/yaml",
                "application/xml",
            ] {
                let text = text.replace("NUMBER", &self.unshown());
                let body = VALID.replace('}', &format!(",\"x\":\"{text}\"}}"));
                self.hostile_body("body: forms within JSON", &format!("Content-Type: {media}\r\n"), body.as_bytes());
            }
        }
    }

    /// Charsets that leave ASCII by a shift, and come back by another one.
    fn shifting_charsets(&mut self) {
        for name in ["ISO-2022-JP", "ISO-2022-KR", "ISO-2022-CN", "JIS_X0201", "UTF-7", "HZ-GB-2312", "UTF-8", ""] {
            let media = if name.is_empty() { String::new() } else { format!("; charset={name}") };
            for (shift, back) in [
                ("\u{1b}$B", "\u{1b}(B"),
                ("\u{1b}(J", "\u{1b}(B"),
                ("\u{e}", "\u{f}"),
                ("\\u001b$B", "\\u001b(B"),
                ("\\u000e", "\\u000f"),
                ("~{", "~}"),
                ("+ACI-", "+ACI-"),
                ("+AFw-", ""),
                ("~", "~\\n"),
            ] {
                let number = self.unshown();
                let body = format!(
                    r#"{{"x":"{shift}\",'called':'{number}','z':'{back}","called":"710101","callcontrolid":1010,"q":"'"}}"#
                );
                let fields = format!("Content-Type: application/json{media}\r\n");
                self.hostile_body("body: shifting charsets", &fields, body.as_bytes());
            }
        }
    }

    /// HTTP/1.0, and codings of transfer that only some servers take for chunked.
    fn old_protocol(&mut self) {
        for version in ["HTTP/1.0", "HTTP/1.1", "HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "http/1.1"] {
            for coding in [
                "",
                "Transfer-Encoding: chunked\r\n",
                "Transfer-Encoding: Chunked\r\n",
                "Transfer-Encoding:\tchunked \r\n",
                "Transfer-Encoding: chunked;x=1\r\n",
                "Transfer-Encoding: \"chunked\"\r\n",
                "Transfer-Encoding: identity, chunked\r\n",
                "Transfer-Encoding: chunked, identity\r\n",
                "Transfer-Encoding: gzip, chunked\r\n",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
                "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
                "Transfer-Encoding : chunked\r\n",
                " Transfer-Encoding: chunked\r\n",
                "Transfer_Encoding: chunked\r\n",
                "X: y\r\n Transfer-Encoding: chunked\r\n",
                "Transfer-Encoding: \u{b}chunked\r\n",
                "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n",
                "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n",
            ] {
                for with_length in [false, true] {
                    let inner = self.inner();
                    let (case, number) = (self.number(), self.unshown());
                    let length = if with_length { "Content-Length: 4\r\n" } else { "" };
                    let head = format!(
                        "POST /agentgateway/resource/voicecall/101/answer {version}\r\nHost: cc.example\r\nGuid: 8f1c.AgentGateway1\r\nX-Case: {case}\r\n{coding}{length}\r\n"
                    );
                    let bytes = if case % 2 == 0 {
                        [head.as_bytes(), b"0\r\n\r\n", &inner].concat()
                    } else {
                        let body = format!("{{\"called\":\"{number}\",\"callcontrolid\":1010}}");
                        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
                        let head =
                            head.replace("POST /agentgateway/resource/voicecall/101/answer", &format!("PUT {CALLOUT}"));
                        [head.as_bytes(), chunk.as_bytes(), &inner].concat()
                    };
                    self.framed("framing: old protocol", bytes);
                }
            }
        }
    }

    /// `Connection` that is to remove what was evaluated.
    fn options_of_connections(&mut self) {
        for option in [
            "Content-Type",
            "content-type, Guid",
            "close, Content-Type",
            "Content-Length",
            "Content-Encoding",
            "Transfer-Encoding",
            "X-HTTP-Method-Override",
            "Host, Content-Type",
        ] {
            for charset in ["UTF-16LE", "UTF-8"] {
                for override_field in ["", "X-HTTP-Method-Override: PUT\r\n"] {
                    let text = self.unshown_body();
                    let body: Vec<u8> = if charset == "UTF-8" {
                        two_readings(&self.unshown(), self.number()).into_bytes()
                    } else {
                        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
                    };
                    let fields = format!(
                        "Content-Type: application/json; charset={charset}\r\nConnection: {option}\r\n{override_field}"
                    );
                    let bytes = request("PUT", CALLOUT, &self.number().to_string(), &fields, &body);
                    self.framed("body: connection options", bytes);
                }
            }
        }
    }
}
