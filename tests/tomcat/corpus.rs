//! The requests: hostile ones, all of which ask for a call that no preview allows, and those of behaving clients.
//!
//! Deterministic. Every hostile request carries a number that nobody was shown, or one shown to somebody else; should
//! it arrive as a `previewCallout` in whatever reading, something slipped past. Every behaving request must arrive as
//! it was sent.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// Polls before the corpus is sent; so was shown 710101, 710102 under 1010.
pub(crate) const ATTACKER: u32 = 101;
/// Polls too; was shown 710201, 710202 under 1020.
pub(crate) const VICTIM: u32 = 102;

const CALLOUT: &str = "/agentgateway/resource/voicecall/101/previewCallout";
const VALID: &str = r#"{"called":"710101","callcontrolid":1010}"#;
const JSON: &str = "Content-Type: application/json; charset=UTF-8\r\n";

/// One case.
pub(crate) struct Case {
    /// Its number, in `X-Case` of all its requests.
    pub(crate) number: usize,
    /// The kind of trick, or of client.
    pub(crate) class: &'static str,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// The application may wait for more, so that silence says nothing.
    pub(crate) may_hang: bool,
    /// The answer has no body.
    pub(crate) to_head: bool,
    /// What must arrive, for a behaving request; nothing for a hostile one.
    pub(crate) expected: Option<Expected>,
    /// For requests that end a preview in an odd way: the agent, who polls before.
    pub(crate) ends_session_of: Option<u32>,
}

/// How a behaving request arrives.
pub(crate) struct Expected {
    /// The method.
    pub(crate) method: String,
    /// The target.
    pub(crate) target: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Case {
    /// Whether something slips past if this arrives as a callout.
    pub(crate) fn is_hostile(&self) -> bool {
        self.expected.is_none()
    }
}

/// All cases.
pub(crate) fn corpus() -> Vec<Case> {
    let mut corpus = Corpus { first: 0, cases: vec![], random: Random(0x70_72_65_76) };
    corpus.paths();
    corpus.methods();
    corpus.framing();
    corpus.bodies();
    corpus.queries();
    corpus.identities();
    corpus.sessions();
    corpus.combinations(700);
    corpus.mutations(700);
    corpus.behaving_callouts();
    corpus.behaving_sessions();
    corpus.behaving_others();
    corpus.cases
}

/// Pushes that do not come from CC-Gateway, each with the callout that it is to make valid. Numbered from `first`;
/// `stolen` is a push address of an agent who is neither of the two.
pub(crate) fn forged_pushes(first: usize, stolen: &str) -> Vec<Case> {
    let mut corpus = Corpus { first, cases: vec![], random: Random(0x70_75_73_68) };
    corpus.forged_pushes(stolen);
    corpus.cases
}

/// The valid callout of an agent who has polled.
pub(crate) fn valid_callout(agent: u32, case: &str) -> Vec<u8> {
    let body = format!(r#"{{"called":"7{agent}01","callcontrolid":{}}}"#, u64::from(agent) * 10);
    request("PUT", &format!("/agentgateway/resource/voicecall/{agent}/previewCallout"), case, JSON, body.as_bytes())
}

/// A request as a client would write it.
pub(crate) fn request(method: &str, target: &str, case: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() && matches!(method, "GET" | "DELETE" | "OPTIONS" | "HEAD") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: cc.example:8043\r\nGuid: 8f1c.AgentGateway1\r\nX-Case: {case}\r\n\
         {fields}{length}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// SplitMix64: the same corpus every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

struct Corpus {
    /// The number of the first case.
    first: usize,
    cases: Vec<Case>,
    random: Random,
}

impl Corpus {
    fn number(&self) -> usize {
        self.first + self.cases.len()
    }

    /// A number that nobody was shown.
    fn unshown(&self) -> String {
        format!("666{:06}", self.number())
    }

    fn unshown_body(&self) -> String {
        format!(r#"{{"called":"{}","callcontrolid":1010}}"#, self.unshown())
    }

    fn hostile(&mut self, class: &'static str, bytes: Vec<u8>) -> &mut Case {
        let number = self.number();
        let case =
            Case { number, class, bytes, may_hang: false, to_head: false, expected: None, ends_session_of: None };
        self.cases.push(case);
        self.cases.last_mut().unwrap()
    }

    fn hostile_path(&mut self, class: &'static str, target: &str) {
        let bytes = request("PUT", target, &self.number().to_string(), JSON, self.unshown_body().as_bytes());
        // Not a target at all for some servers: they may wait for the rest of something.
        self.hostile(class, bytes).may_hang = target.contains([' ', '\r', '\n']);
    }

    fn hostile_body(&mut self, class: &'static str, fields: &str, body: &[u8]) {
        let bytes = request("PUT", CALLOUT, &self.number().to_string(), fields, body);
        self.hostile(class, bytes);
    }

    fn paths(&mut self) {
        for word in ["resource", "voicecall", "101", "previewCallout"] {
            for position in 0..word.len() {
                for disguise in DISGUISES {
                    self.hostile_path("path: encoded characters", &disguised(CALLOUT, word, position, &disguise));
                }
            }
        }
        for end in ENDS {
            self.hostile_path("path: endings", &format!("{CALLOUT}{end}"));
        }
        for separator in SEPARATORS {
            for (before, after) in [("resource", "voicecall"), ("voicecall", "101"), ("101", "previewCallout")] {
                let target = CALLOUT.replace(&format!("{before}/{after}"), &format!("{before}{separator}{after}"));
                self.hostile_path("path: separators", &target);
            }
            self.hostile_path("path: separators", &CALLOUT.replace('/', separator));
        }
        for beginning in BEGINNINGS {
            self.hostile_path("path: beginnings", &format!("{beginning}/resource/voicecall/101/previewCallout"));
        }
        for agent in AGENTS {
            self.hostile_path("path: agent ID", &CALLOUT.replace("101", agent));
        }
        for _ in 0..40 {
            let target = self.odd_case();
            self.hostile_path("path: letter case", &target);
        }
    }

    fn odd_case(&mut self) -> String {
        let mut flip =
            |c: char| if self.random.below(2) == 0 { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        let (prefix, rest) = CALLOUT.split_at("/agentgateway/".len());
        prefix.to_owned() + &rest.chars().map(&mut flip).collect::<String>()
    }

    fn methods(&mut self) {
        for method in METHODS {
            let bytes = request(method, CALLOUT, &self.number().to_string(), JSON, self.unshown_body().as_bytes());
            let case = self.hostile("method", bytes);
            (case.to_head, case.may_hang) = (*method == "HEAD", true);
        }
        for method in ["POST", "GET", "OPTIONS", "DELETE", "PATCH", "PUT"] {
            for field in OVERRIDES {
                for value in ["PUT", "put", " PUT "] {
                    let fields =
                        format!("{JSON}{field}: {value}\r\nOrigin: http://a\r\nAccess-Control-Request-Method: PUT\r\n");
                    let body = self.unshown_body();
                    let bytes = request(method, CALLOUT, &self.number().to_string(), &fields, body.as_bytes());
                    self.hostile("method: override", bytes);
                }
            }
            for query in
                ["_method=PUT", "_METHOD=put", "x-http-method-override=PUT", "%5fmethod=PUT", "a=b&_method=PUT"]
            {
                for body in [self.unshown_body(), String::new()] {
                    let target = format!("{CALLOUT}?{query}&called={}&callcontrolid=1010", self.unshown());
                    let fields = format!("{JSON}Origin: http://a\r\nAccess-Control-Request-Method: PUT\r\n");
                    let bytes = request(method, &target, &self.number().to_string(), &fields, body.as_bytes());
                    self.hostile("method: override", bytes);
                }
            }
        }
        for field in ["X-Original-URL", "X-Rewrite-URL", "x-original-url"] {
            for target in [
                CALLOUT,
                "/agentgateway/resource/voicecall/101/preview%43allout",
                "/resource//voicecall/101/previewCallout;a",
            ] {
                for path in ["/agentgateway/resource/voicecall/101/answer", "/agentgateway/", CALLOUT] {
                    let fields = format!("{JSON}{field}: {target}\r\n");
                    let body = self.unshown_body();
                    let bytes = request("PUT", path, &self.number().to_string(), &fields, body.as_bytes());
                    self.hostile("path: rewriting header", bytes);
                }
            }
        }
    }

    /// The callout that is to be smuggled past, as a request of its own.
    fn inner(&self) -> Vec<u8> {
        let case = format!("{}-i", self.number());
        request("PUT", CALLOUT, &case, JSON, self.unshown_body().as_bytes())
    }

    fn framed(&mut self, class: &'static str, bytes: Vec<u8>) {
        self.hostile(class, bytes).may_hang = true;
    }

    fn framing(&mut self) {
        self.smuggled();
        self.pipelined();
        self.chunked();
        self.broken_heads();
        self.connection_options();
    }

    fn smuggled(&mut self) {
        const OUTER: &str =
            "POST /agentgateway/resource/voicecall/101/answer HTTP/1.1\r\nHost: a\r\nGuid: 8f1c.AgentGateway1\r\n";
        for coding in CODINGS {
            let inner = self.inner();
            let case = format!("X-Case: {}\r\n", self.number());
            // A length that covers everything: smuggled if the coding counts.
            let body = [b"0\r\n\r\n", inner.as_slice()].concat();
            let head = format!("{OUTER}{case}Content-Length: {}\r\n{coding}\r\n\r\n", body.len());
            self.framed("framing: length and coding", [head.as_bytes(), &body].concat());
            // A chunk that covers everything: smuggled if the length counts.
            let inner = self.inner();
            let case = format!("X-Case: {}\r\n", self.number());
            let chunk = [format!("{:x}\r\n", inner.len()).as_bytes(), &inner, b"\r\n0\r\n\r\n"].concat();
            let size_line = chunk.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let head = format!("{OUTER}{case}Content-Length: {size_line}\r\n{coding}\r\n\r\n");
            self.framed("framing: length and coding", [head.as_bytes(), &chunk].concat());
            // No length at all.
            let inner = self.inner();
            let case = format!("X-Case: {}\r\n", self.number());
            let head = format!("{OUTER}{case}{coding}\r\n\r\n0\r\n\r\n");
            self.framed("framing: length and coding", [head.as_bytes(), &inner].concat());
        }
        for length in LENGTHS {
            let inner = self.inner();
            let fields = length.replace('N', &inner.len().to_string()).replace("HEX", &format!("{:x}", inner.len()));
            let head = format!("{OUTER}X-Case: {}\r\n{fields}\r\n\r\n", self.number());
            self.framed("framing: length", [head.as_bytes(), &inner].concat());
        }
        for method in ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE"] {
            let inner = self.inner();
            let outer = OUTER.replace("POST", method);
            let head = format!("{outer}X-Case: {}\r\nContent-Length: {}\r\n\r\n", self.number(), inner.len());
            self.framed("framing: length", [head.as_bytes(), &inner].concat());
            self.cases.last_mut().unwrap().to_head = method == "HEAD";
        }
        for fields in ["Expect: 100-continue", "Expect: 100-Continue, x", "Expect: 200-ok", "Expect:"] {
            let inner = self.inner();
            let head =
                format!("{OUTER}X-Case: {}\r\n{fields}\r\nContent-Length: {}\r\n\r\n", self.number(), inner.len());
            self.framed("framing: expect", [head.as_bytes(), &inner].concat());
            let body = self.unshown_body();
            let bytes =
                request("PUT", CALLOUT, &self.number().to_string(), &format!("{JSON}{fields}\r\n"), body.as_bytes());
            self.framed("framing: expect", bytes);
        }
    }

    fn pipelined(&mut self) {
        for first in 0..12 {
            let case = self.number().to_string();
            let mut bytes = match first {
                0 => valid_callout(ATTACKER, &case),
                1 => request("GET", "/agentgateway/resource/agentevent/101", &case, "", b""),
                2 => request("OPTIONS", CALLOUT, &case, "Origin: a\r\nAccess-Control-Request-Method: PUT\r\n", b""),
                3 => request(
                    "GET",
                    "/agentgateway/x",
                    &case,
                    "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
                    b"",
                ),
                4 => request(
                    "GET",
                    "/agentgateway/x",
                    &case,
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
                    b"",
                ),
                5 => b"\r\n\r\n".to_vec(),
                6 => b"GET /agentgateway/\r\n".to_vec(),
                7 => b"GET /agentgateway/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec(),
                8 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                9 => b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(),
                10 => b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n".to_vec(),
                _ => request("POST", "/agentgateway/resource/voicecall/101/answer", &case, "", b"x"),
            };
            let inner = self.inner();
            bytes.extend_from_slice(&inner);
            self.framed("framing: pipelined", bytes);
        }
    }

    fn chunked(&mut self) {
        for chunks in CHUNKS {
            let body = self.unshown_body();
            let shown = chunks
                .replace("HEX", &format!("{:x}", body.len()))
                .replace("BODY", &body)
                .replace("INNER", &String::from_utf8(self.inner()).unwrap());
            for target in [CALLOUT, "/agentgateway/resource/voicecall/101/answer"] {
                let head = format!(
                    "PUT {target} HTTP/1.1\r\nHost: a\r\nGuid: 8f1c.AgentGateway1\r\nX-Case: {}\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n",
                    self.number()
                );
                self.framed("framing: chunks", [head.as_bytes(), shown.as_bytes()].concat());
            }
        }
    }

    fn broken_heads(&mut self) {
        for (from, to) in HEAD_EDITS {
            // What is odd about a callout must not make it another request, nor hide one.
            let body = self.unshown_body();
            let text = request("PUT", CALLOUT, &self.number().to_string(), JSON, body.as_bytes());
            let text = String::from_utf8(text).unwrap().replacen(from, to, 1);
            self.framed("framing: heads", text.into_bytes());
            let inner = String::from_utf8(self.inner()).unwrap();
            let case = self.number().to_string();
            let outer = request("PUT", "/agentgateway/resource/voicecall/101/answer", &case, JSON, inner.as_bytes());
            let outer = String::from_utf8(outer).unwrap().replacen(from, to, 1);
            self.framed("framing: heads", outer.into_bytes());
        }
        for version in [
            "HTTP/0.9",
            "HTTP/1.0",
            "HTTP/1.2",
            "HTTP/2.0",
            "HTTP/2",
            "http/1.1",
            "HTTP/1.1 ",
            "HTTP/1.1\0",
            "HTTP/01.1",
            "HTTP/+1.1",
            "ICY/1.1",
            "",
        ] {
            let body = self.unshown_body();
            let text = request("PUT", CALLOUT, &self.number().to_string(), JSON, body.as_bytes());
            let text = String::from_utf8(text).unwrap().replacen("HTTP/1.1", version, 1);
            self.framed("framing: versions", text.into_bytes());
        }
        for line in [["\r\n", "\n"], ["\r\n", "\r"], ["\r\n", "\n\r"], ["\r\n", "\r\r\n"]] {
            let inner = String::from_utf8(self.inner()).unwrap().replace(line[0], line[1]);
            self.framed("framing: heads", inner.into_bytes());
        }
    }

    fn connection_options(&mut self) {
        for named in [
            "content-length",
            "content-type",
            "guid",
            "host",
            "transfer-encoding",
            "content-encoding",
            "x-case",
            "close, content-length",
            "keep-alive, Content-Type",
        ] {
            for target in [CALLOUT, "/agentgateway/resource/voicecall/101/answer"] {
                let inner = if target == CALLOUT { self.unshown_body().into_bytes() } else { self.inner() };
                let fields = format!("{JSON}Connection: {named}\r\n");
                let bytes = request("PUT", target, &self.number().to_string(), &fields, &inner);
                self.framed("framing: connection options", bytes);
                let inner = if target == CALLOUT { self.unshown_body().into_bytes() } else { self.inner() };
                let head = format!(
                    "PUT {target} HTTP/1.1\r\nHost: a\r\nGuid: g\r\nX-Case: {}\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                    self.number(),
                    inner.len()
                );
                self.framed("framing: connection options", [head.as_bytes(), &inner, b"\r\n0\r\n\r\n"].concat());
            }
        }
    }

    fn bodies(&mut self) {
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
                    // Valid to one who reads UTF-8, with more behind it for one who does not.
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

    fn queries(&mut self) {
        for query in QUERIES {
            let target = format!("{CALLOUT}?{}", query.replace("NUMBER", &self.unshown()));
            let bytes = request("PUT", &target, &self.number().to_string(), JSON, VALID.as_bytes());
            self.hostile("query", bytes);
        }
    }

    fn identities(&mut self) {
        for (agent, of) in [(101, 102), (102, 101), (103, 101), (101, 103), (999_999, 101), (104, 102)] {
            for (called, id) in [(of, of), (of, agent), (agent, of)] {
                for quoted in [false, true] {
                    // The agent's own number under the agent's own ID is nobody's attack.
                    let id = if quoted { format!("\"{id}0\"") } else { format!("{id}0") };
                    let body =
                        format!(r#"{{"called":"7{called}01","callcontrolid":{id},"workNo":"{of}","agentId":{of}}}"#);
                    let target = CALLOUT.replace("101", &agent.to_string());
                    let bytes = request("PUT", &target, &self.number().to_string(), JSON, body.as_bytes());
                    self.hostile("identity", bytes);
                }
            }
        }
    }

    /// What ends a preview, in spellings that may be missed. A callout of the ended preview must not pass afterwards.
    fn sessions(&mut self) {
        const ENDS: [(&str, &str); 8] = [
            ("DELETE", "onlineagent/AGENT/logout"),
            ("DELETE", "onlineagent/AGENT/forcelogout"),
            ("PUT", "onlineagent/AGENT"),
            ("PUT", "onlineagent/AGENT/forcelogin"),
            ("PUT", "onlineagent/AGENT/loginex"),
            ("POST", "qualitycontrol/102/forcelogout/AGENT"),
            ("PUT", "voicecall/AGENT/cancelPreviewCallout"),
            ("DELETE", "OnlineAgent/AGENT/LogOut"),
        ];
        const SPELLINGS: [(&str, &str); 19] = [
            ("END", "?callcontrolid=AGENT0"),
            ("", ""),
            ("out", "%6fut"),
            ("out", "o%2575t"),
            ("AGENT", "AGENT;x=1"),
            ("AGENT", "0AGENT"),
            ("AGENT", "%2BAGENT"),
            ("/AGENT", "//AGENT"),
            ("/AGENT", "/./AGENT"),
            ("/AGENT", "/x/../AGENT"),
            ("/AGENT", "%2fAGENT"),
            ("/AGENT", "\\AGENT"),
            ("a", "%61"),
            ("l", "%e0%81%ac"),
            ("o", "%EF%BD%8F"),
            ("AGENT", "AGENT%20"),
            ("g", "%u0067"),
            ("END", "/"),
            ("END", ".json"),
        ];
        let mut agent = 2000;
        for (method, path) in ENDS {
            for (from, to) in SPELLINGS {
                agent += 1;
                let path = if from == "END" { format!("{path}{to}") } else { path.replacen(from, to, 1) };
                let path = path.replace("AGENT", &agent.to_string());
                let other = if path.contains('?') { "1" } else { "0" };
                let body =
                    if method == "PUT" { format!(r#"{{"callcontrolid":"{agent}{other}"}}"#) } else { String::new() };
                let target = format!("/agentgateway/resource/{path}");
                let bytes = request(method, &target, &self.number().to_string(), JSON, body.as_bytes());
                self.hostile("session: odd endings", bytes).ends_session_of = Some(agent);
            }
            for (way, field) in [("POST", OVERRIDES[0]), ("GET", OVERRIDES[1]), ("PUT", OVERRIDES[2])] {
                agent += 1;
                let target = format!("/agentgateway/resource/{}", path.replace("AGENT", &agent.to_string()));
                let fields = format!("{JSON}{field}: {method}\r\n");
                let body = format!(r#"{{"callcontrolid":"{agent}0"}}"#);
                let bytes = request(way, &target, &self.number().to_string(), &fields, body.as_bytes());
                self.hostile("session: odd endings", bytes).ends_session_of = Some(agent);
                agent += 1;
                let target =
                    format!("/agentgateway/resource/{}?_method={method}", path.replace("AGENT", &agent.to_string()));
                let body = format!(r#"{{"callcontrolid":"{agent}0"}}"#);
                let bytes = request("POST", &target, &self.number().to_string(), JSON, body.as_bytes());
                self.hostile("session: odd endings", bytes).ends_session_of = Some(agent);
            }
        }
    }

    fn forged_pushes(&mut self, stolen: &str) {
        let (head, signed) = stolen.rsplit_once('/').unwrap();
        let (target, mac) = signed.split_once('.').unwrap();
        let to = |agent: &str| format!("{}/{agent}/{signed}", head.rsplit_once('/').unwrap().0);
        let mut addresses = vec![
            // Its own, and what it says of another agent.
            stolen.to_owned(),
            to("101"),
            to("0101"),
            to("104;x=101"),
            to("104/../101"),
            to("%31%30%31"),
            stolen.replace("/push/push/", "/push/push_url/"),
            stolen.replace("/push/push/", "/push/PUSH/"),
            stolen.replace("/push/push/", "//push//push/"),
            stolen.replace("/previewgate/", "/previewgate/./"),
            stolen.replace("/previewgate/", "/%70reviewgate/"),
            stolen.replace("/previewgate/", "/agentgateway/../previewgate/"),
            stolen.replace("/previewgate/", "/agentgateway/previewgate/"),
            stolen.replace("/previewgate/", "/PREVIEWGATE/"),
            format!("http://gateway.example:8043{}", to("101")),
            format!("{}/101/{target}.{}", head.rsplit_once('/').unwrap().0, "A".repeat(mac.len())),
            format!("{}/101/{target}.", head.rsplit_once('/').unwrap().0),
            format!("{}/101/{target}", head.rsplit_once('/').unwrap().0),
            format!("{}/101/.{mac}", head.rsplit_once('/').unwrap().0),
            format!("{}/101/{target}.{mac}=", head.rsplit_once('/').unwrap().0),
            format!("{}/101/{target}.{mac}.{mac}", head.rsplit_once('/').unwrap().0),
            format!("{stolen}?agent=101"),
            format!("{stolen}/101"),
            format!("{stolen}="),
        ];
        // One bit of the signature, of the form and of the target.
        for at in [0, mac.len() / 2, mac.len() - 1] {
            let mut mac = mac.as_bytes().to_vec();
            mac[at] = if mac[at] == b'A' { b'B' } else { b'A' };
            addresses.push(format!(
                "{}/101/{target}.{}",
                head.rsplit_once('/').unwrap().0,
                String::from_utf8(mac).unwrap()
            ));
        }
        for address in addresses {
            for agent in [ATTACKER, VICTIM] {
                for method in ["POST", "PUT"] {
                    for event in EVENTS {
                        self.forged_push(method, &address, agent, event);
                    }
                }
            }
        }
    }

    /// A push, and on the same connection a callout of the number that it shows.
    fn forged_push(&mut self, method: &str, address: &str, agent: u32, event: &str) {
        let event = event.replace("NUMBER", &self.unshown()).replace("AGENT", &agent.to_string());
        let body =
            format!(r#"{{"workNo":"{agent}","eventList":[{event}],"event":{event},"retcode":"0","message":""}}"#);
        // Not the case's own marker: its first answer is the push's.
        let push = request(method, address, "forged", JSON, body.as_bytes());
        let called = format!(r#"{{"called":"{}","callcontrolid":{agent}0}}"#, self.unshown());
        let path = CALLOUT.replace("101", &agent.to_string());
        let callout = request("PUT", &path, &self.number().to_string(), JSON, called.as_bytes());
        self.framed("push: forged", [push, callout].concat());
    }

    fn combinations(&mut self, count: usize) {
        for _ in 0..count {
            let mut target = if self.random.below(3) == 0 { self.odd_case() } else { CALLOUT.to_owned() };
            for _ in 0..self.random.below(4) {
                let letters = target.trim_start_matches("/agentgateway/").to_owned();
                let position = self.random.below(letters.len());
                let disguise = self.random.pick(&DISGUISES.each_ref());
                if letters.is_char_boundary(position) && letters.is_char_boundary(position + 1) {
                    target = format!("/agentgateway/{}", disguised(&letters, &letters, position, disguise));
                }
            }
            match self.random.below(4) {
                0 => target.push_str(self.random.pick(ENDS)),
                1 => {
                    let (head, tail) = target.rsplit_once('/').unwrap();
                    target = format!("{head}{}{tail}", self.random.pick(SEPARATORS));
                }
                2 => target = format!("{target}?{}", self.random.pick(QUERIES).replace("NUMBER", &self.unshown())),
                _ => {}
            }
            let method = if self.random.below(4) == 0 { self.random.pick(METHODS) } else { "PUT" };
            let mut fields = JSON.to_owned();
            if self.random.below(4) == 0 {
                fields.push_str(&format!("{}: PUT\r\n", self.random.pick(OVERRIDES)));
            }
            if self.random.below(5) == 0 {
                fields.push_str(&format!("{}\r\n", self.random.pick(CODINGS)));
            }
            let body = self.random.pick(BODIES).replace("NUMBER", &self.unshown());
            let bytes = request(method, &target, &self.number().to_string(), &fields, body.as_bytes());
            let case = self.hostile("combinations", bytes);
            (case.to_head, case.may_hang) = (method == "HEAD", true);
        }
    }

    /// Callouts, alone or within another request, with a few bytes changed at random.
    fn mutations(&mut self, count: usize) {
        const SEEDS: &[&str] = &[
            "\r",
            "\n",
            "\r\n",
            "\r\n\r\n",
            "\0",
            " ",
            "\t",
            ";",
            ":",
            ",",
            "/",
            "//",
            "\\\\",
            ".",
            "..",
            "?",
            "#",
            "%",
            "%2f",
            "%00",
            "%25",
            "chunked",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 0\r\n",
            "0\r\n\r\n",
            "\u{e9}",
            "\"",
            "PUT ",
            "HTTP/1.1",
            "{",
            "}",
            "\"called\":\"1\",",
            "\\u0061",
        ];
        for round in 0..count {
            let mut bytes = self.inner();
            if round % 3 == 1 {
                let case = self.number().to_string();
                bytes = request("POST", "/agentgateway/resource/voicecall/101/answer", &case, "", &bytes);
            } else if round % 3 == 2 {
                let case = self.number().to_string();
                let target = "/agentgateway/resource/voicecall/101/answer";
                bytes = chunked(&request("POST", target, &case, "", &bytes), bytes.len());
            }
            for _ in 0..=self.random.below(3) {
                let at = self.random.below(bytes.len());
                let upto = (at + self.random.below(4)).min(bytes.len());
                let seed = self.random.pick(SEEDS).as_bytes().to_vec();
                match self.random.below(4) {
                    0 => drop(bytes.splice(at..upto, [])),
                    1 => drop(bytes.splice(at..at, seed)),
                    2 => drop(bytes.splice(at..upto, seed)),
                    _ => bytes[at] = self.random.next().to_le_bytes()[0],
                }
            }
            self.framed("mutations", bytes);
        }
    }

    fn behaving(&mut self, class: &'static str, method: &str, target: &str, fields: &str, body: &[u8]) {
        let number = self.number();
        let bytes = request(method, target, &number.to_string(), fields, body);
        let expected = Expected { method: method.to_owned(), target: target.to_owned(), body: body.to_vec() };
        let case = self.hostile(class, bytes);
        case.expected = Some(expected);
    }

    fn behaving_callouts(&mut self) {
        for word in ["previewCallout", "previewcallout", "PreviewCallOut"] {
            for media in [
                "application/json",
                "application/json; charset=UTF-8",
                "application/json;charset=UTF-8",
                "application/json; charset=utf-8",
                "Application/Json;charset=\"utf-8\"",
            ] {
                for body in VALID_BODIES {
                    let target = format!("/agentgateway/resource/voicecall/101/{word}");
                    self.behaving("callout", "PUT", &target, &format!("Content-Type: {media}\r\n"), body.as_bytes());
                }
            }
        }
        for fields in CLIENTS {
            self.behaving("callout", "PUT", CALLOUT, &format!("{JSON}{fields}"), VALID.as_bytes());
        }
        for query in ["_=1732270000", "t=1", "locale=zh_CN", "a=%2Fb&c=d+e", ""] {
            self.behaving("callout", "PUT", &format!("{CALLOUT}?{query}"), JSON, VALID.as_bytes());
        }
        for field in ["X-Original-URL", "X-Rewrite-URL"] {
            for original in
                [CALLOUT.to_owned(), format!("https://front.example:8043{CALLOUT}"), format!("{CALLOUT}?_=1")]
            {
                let fields = format!("{JSON}{field}: {original}\r\n");
                self.behaving("callout", "PUT", CALLOUT, &fields, VALID.as_bytes());
            }
        }
        for (agent, called) in [(101, "710102"), (102, "710201"), (102, "710202")] {
            let body = format!(r#"{{"called":"{called}","callcontrolid":"{agent}0"}}"#);
            self.behaving("callout", "PUT", &CALLOUT.replace("101", &agent.to_string()), JSON, body.as_bytes());
        }
        let fields = "Origin: https://desk.example\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: content-type,guid\r\n";
        self.behaving("callout", "OPTIONS", CALLOUT, fields, b"");
        for split in [1, 7, 20] {
            self.behaving("callout", "PUT", CALLOUT, JSON, VALID.as_bytes());
            let case = self.cases.last_mut().unwrap();
            case.bytes = chunked(&case.bytes, split);
        }
    }

    fn behaving_sessions(&mut self) {
        // As old clients behind an old proxy write it, and as a load balancer probes.
        for target in ["http://cc.example:8043", "HTTP://cc.example", "https://cc.example:8043"] {
            let path = "/agentgateway/resource/agentevent/101?calldata=x%2Fy";
            self.behaving("session and events", "GET", path, "", b"");
            let case = self.cases.last_mut().unwrap();
            let text = String::from_utf8(case.bytes.clone()).unwrap();
            case.bytes = text.replacen(path, &format!("{target}{path}"), 1).into_bytes();
        }
        for (from, to) in [
            ("HTTP/1.1\r\nHost: cc.example:8043", "HTTP/1.0"),
            ("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n"),
            ("Host: ", "hOST:"),
            ("Guid: 8f1c.AgentGateway1", "guid:\t8f1c.AgentGateway1 \t"),
            ("X-Case", "x-CASE"),
        ] {
            self.behaving("session and events", "PUT", "/agentgateway/resource/voicecall/101/answer", JSON, b"{}");
            let case = self.cases.last_mut().unwrap();
            let text = String::from_utf8(case.bytes.clone()).unwrap();
            case.bytes = text.replacen(from, to, 1).into_bytes();
        }
        for fields in CLIENTS {
            for query in ["", "?calldata=%7B%22a%22%3A1%7D", "?calldata=", "?_=1"] {
                let target = format!("/agentgateway/resource/agentevent/101{query}");
                self.behaving("session and events", "GET", &target, fields, b"");
            }
            for (method, path, body) in [
                ("GET", "agentevent/allagentevent", ""),
                ("PUT", "onlineagent/105", r#"{"password":"","phonenum":"88880000"}"#),
                ("PUT", "onlineagent/105/forcelogin", r#"{"password":"","phonenum":"88880000","status":4}"#),
                ("PUT", "onlineagent/105/loginex", r#"{"callBackUri":"https://a/b?c=%2F","serviceToken":"t"}"#),
                ("POST", "onlineagent/105/handshake", ""),
                ("POST", "onlineagent/105/resetskill/true?skillid=&phonelinkage=1", ""),
                ("GET", "onlineagent/105/agentskills", ""),
                ("DELETE", "onlineagent/105/logout", ""),
                ("DELETE", "onlineagent/105/forcelogout", ""),
                ("POST", "qualitycontrol/105/forcelogout/104", ""),
                ("PUT", "voicecall/104/cancelPreviewCallout", r#"{"callcontrolid":"1040"}"#),
                ("PUT", "voicecall/104/cancelpreviewcallout", r#"{"callcontrolid":1040}"#),
            ] {
                self.behaving(
                    "session and events",
                    method,
                    &format!("/agentgateway/resource/{path}"),
                    &format!("{JSON}{fields}"),
                    body.as_bytes(),
                );
            }
        }
    }

    fn behaving_others(&mut self) {
        for path in OTHERS {
            for method in ["GET", "PUT", "POST"] {
                let body = if method == "GET" {
                    ""
                } else {
                    r#"{"called":"10086","caller":"1","previewCallout":{"called":"1"}}"#
                };
                self.behaving(
                    "other interfaces",
                    method,
                    &format!("/agentgateway/resource/{path}"),
                    JSON,
                    body.as_bytes(),
                );
            }
        }
        for size in [0, 1, 1_000, 70_000, 300_000] {
            let body: Vec<u8> = (0..size).map(|_| self.random.next().to_le_bytes()[0]).collect();
            for fields in [
                "Content-Type: multipart/form-data; boundary=x\r\n",
                "Content-Type: application/octet-stream\r\nContent-Encoding: gzip\r\n",
                "Content-Type: text/plain; charset=gbk\r\n",
            ] {
                self.behaving(
                    "uploads",
                    "POST",
                    "/agentgateway/resource/multimedia/101/uploadfile?fileName=%E4%BD%A0.png",
                    fields,
                    &body,
                );
                if size > 0 {
                    self.behaving("uploads", "POST", "/agentgateway/resource/multimedia/101/uploadfile", fields, &body);
                    let case = self.cases.last_mut().unwrap();
                    case.bytes = chunked(&case.bytes, 1 + size / 3);
                }
            }
        }
    }
}

/// The same request with its body in chunks.
fn chunked(request: &[u8], size: usize) -> Vec<u8> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let (head, body) = (std::str::from_utf8(&request[..end]).unwrap(), &request[end + 4..]);
    let lines = head.split("\r\n").filter(|line| !line.starts_with("Content-Length"));
    let mut bytes = lines.collect::<Vec<_>>().join("\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[derive(Clone, Copy)]
enum Disguise {
    Percent,
    Double,
    Triple,
    Overlong2,
    Overlong3,
    Unicode,
    FullWidth,
    Parameter,
}

const DISGUISES: [Disguise; 8] = [
    Disguise::Percent,
    Disguise::Double,
    Disguise::Triple,
    Disguise::Overlong2,
    Disguise::Overlong3,
    Disguise::Unicode,
    Disguise::FullWidth,
    Disguise::Parameter,
];

/// `path` with the character at `position` of `word` in disguise.
fn disguised(path: &str, word: &str, position: usize, disguise: &Disguise) -> String {
    let at = path.find(word).unwrap() + position;
    let code = u32::from(path.as_bytes()[at]);
    let spelled = match disguise {
        Disguise::Percent => format!("%{code:02x}"),
        Disguise::Double => format!("%25{code:02X}"),
        Disguise::Triple => format!("%2525{code:02x}"),
        Disguise::Overlong2 => format!("%{:02X}%{:02X}", 0xc0 | code >> 6, 0x80 | code & 0x3f),
        Disguise::Overlong3 => format!("%e0%{:02x}%{:02x}", 0x80 | code >> 6, 0x80 | code & 0x3f),
        Disguise::Unicode => format!("%u{code:04x}"),
        Disguise::FullWidth => {
            let wide = char::from_u32(code + 0xfee0).unwrap();
            wide.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
        }
        Disguise::Parameter => format!("{};a=b", char::from_u32(code).unwrap()),
    };
    format!("{}{spelled}{}", &path[..at], &path[at + 1..])
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

const ENDS: &[&str] = &[
    "/",
    "//",
    "/.",
    "/./",
    "/..",
    "/x/..",
    "/x/../",
    "%2f",
    "%2F",
    "%252f",
    ";",
    ";a=b",
    ";a=b/",
    "/;x",
    ";/",
    ".json",
    ".xml",
    ".JSON",
    "%2ejson",
    ".json;a",
    "%00",
    "%00.json",
    "%20",
    "%09",
    "%0a",
    "%0d%0a",
    "%0d",
    "?",
    "?x",
    "??",
    "%3f",
    "%3Fx=y",
    "%23",
    "#",
    "#x",
    "%3b",
    "%3bjsessionid=1",
    ";jsessionid=1",
    ".",
    "..",
    "%2e",
    "\\",
    "%5c",
    "~",
    "'",
    "\"",
    "*",
    "&",
    "%ef%bb%bf",
    "%e2%80%8b",
    "%c2%a0",
    "%c2%ad",
    "+",
    ":",
    "@",
    "!",
    ",",
    "%26x",
    " ",
    "\t",
    "%",
    "%%",
    "%2",
    "%zz",
    "/%2e",
    "/%2e%2e/previewCallout",
    "/../previewCallout",
    "()",
    "[]",
    "{}",
    "|",
    "^",
    "`",
    "$",
    "=",
    "-",
    "_",
    "%c0%af",
    "%e3%80%80",
    "%1f",
    "%7f",
    "\u{1}",
    "\u{7f}",
    "\u{e9}",
];
const SEPARATORS: &[&str] = &[
    "//",
    "///",
    "/./",
    "/x/../",
    "/x/y/../../",
    ";a=b/",
    ";/",
    "/;/",
    "/;a=b/",
    "%2f",
    "%2F",
    "%252f",
    "%25252F",
    "\\",
    "%5c",
    "%255C",
    "/%2e/",
    "/%2e%2e/resource/",
    "/..;/resource/",
    "/.;/",
    "/.;a=b/",
    "/%20/",
    "/\t/",
    "%c0%af",
    "/%00/",
    "%e2%88%95",
    "%ef%bc%8f",
    ";",
    "/x/%2e%2e/",
    "/x%2f../",
    "/%3b/",
    "?/",
    "#/",
    "/*/",
    "/~/",
    "%EF%B9%A8",
    "%EF%BC%BC",
    "%E2%81%84",
    "/%E2%80%A5/",
    "/x/%EF%BC%8E%EF%BC%8E/",
    "%u2215",
    "%uFF0F",
];
const BEGINNINGS: &[&str] = &[
    "//agentgateway",
    "/./agentgateway",
    "/x/../agentgateway",
    "/AGENTGATEWAY",
    "/agentgateway/",
    "/agentgateway;x",
    "/agentgateway;x=y",
    "/%61gentgateway",
    "/agentgateway/.",
    "/agentgateway/x/..",
    "/agentgateway/x/..;",
    "/agentgateway/../agentgateway",
    "/agentgateway/..;/agentgateway",
    "/agentgateway/%2e%2e/agentgateway",
    "agentgateway",
    "\\agentgateway",
    "/agentgateway\\",
    "http://cc.example/agentgateway",
    "HTTP://cc.example/agentgateway",
    "https://other/agentgateway",
    "http://u:p@cc.example/agentgateway",
    "http:///agentgateway",
    "http:/agentgateway",
    "http://cc.example//agentgateway",
    "ftp://cc.example/agentgateway",
    "//cc.example/agentgateway",
    "*",
    "/",
    "/agentgateway/resource/..",
    "/agentgateway/resource",
    "/agentgateway/rest",
    "/agentgateway/resource/v1",
    "/agentgateway/resource;a=b/..",
    "http://cc.example:8043/agentgateway/.",
    "/agentgateway%2f",
    "/agentgateway%20",
    "http://cc.example\\agentgateway",
    "http://cc.example#/agentgateway",
    "http://cc.example?/agentgateway",
];
const AGENTS: &[&str] = &[
    "0101",
    "00000101",
    "+101",
    "%2B101",
    "-101",
    "101%20",
    "%20101",
    "101.0",
    "101;x",
    "101;x=y",
    "0x65",
    "%31%30%31",
    "1%30%31",
    "%EF%BC%91%EF%BC%90%EF%BC%91",
    "101%00",
    "101,102",
    "1e2",
    "101L",
    "%D9%A1%D9%A0%D9%A1",
    "101/102",
    "102/../101",
    "101%2f",
    "%2531%30%31",
    "101/.",
    "",
    "{101}",
    "101-",
    "101%0a",
    "101%0d",
    "101%E2%80%8B",
];
const METHODS: &[&str] = &[
    "POST",
    "GET",
    "DELETE",
    "PATCH",
    "put",
    "Put",
    "pUT",
    "PUt",
    " PUT",
    "PUT ",
    "PUT\t",
    "\tPUT",
    "HEAD",
    "TRACE",
    "CONNECT",
    "OPTIONS",
    "PROPFIND",
    "BREW",
    "PUT\0",
    "PUT,POST",
    "PUT:",
    "\"PUT\"",
    "\r\nPUT",
    "\nPUT",
    "\r\n\r\nPUT",
    "P%55T",
    "PUTPUT",
    "MERGE",
    "LOCK",
    "QUERY",
];
const OVERRIDES: &[&str] = &["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x-http-method-OVERRIDE"];
const CODINGS: &[&str] = &[
    "Transfer-Encoding: chunked",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding:  chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: CHUNKED ",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding : chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "X: y\r\n Transfer-Encoding: chunked",
    " Transfer-Encoding: chunked",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding: chunked\u{b}",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: chunked\r",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "Transfer-Encoding: chun\u{e9}ked",
    "Transfer-Encoding:",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding\u{a0}: chunked",
    "TE: chunked",
    "Transfer-Encoding: c\\hunked",
    "\u{0}Transfer-Encoding: chunked",
];
const LENGTHS: &[&str] = &[
    "Content-Length: 0",
    "Content-Length: 0\r\nContent-Length: N",
    "Content-Length: N\r\nContent-Length: 0",
    "Content-Length: N\r\nContent-Length: N",
    "Content-Length: 0, N",
    "Content-Length: N, N",
    "Content-Length: +N",
    "Content-Length: +0",
    "Content-Length: -0",
    "Content-Length: -1",
    "Content-Length: 0N",
    "Content-Length: 0xHEX",
    "Content-Length: HEX",
    "Content-Length:",
    "Content-Length: ",
    "Content-Length: N ",
    "Content-Length: N\t",
    "Content-Length: N\0",
    "Content-Length: 1e1",
    "Content-Length: N.0",
    "Content-Length : N",
    "Content-Length\t: N",
    "Content_Length: N",
    "Content-Length:\r\n N",
    "X: y\r\n Content-Length: N",
    "X: y\nContent-Length: N",
    "X: y\rContent-Length: N",
    "Content-Length: 99999999999999999999",
    "Content-Length: 18446744073709551616",
    "Content-Length: N;x",
    "Content-Length: \"N\"",
    "Content-Length: N x",
    "Content-Length: \u{ff11}",
    "Content-Length: 0\u{b}",
    "Content-Length: \u{b}N",
    "Content-length: 0\r\ncontent-LENGTH: N",
    "X-A: b",
];
const CHUNKS: &[&str] = &[
    "HEX\r\nBODY\r\n0\r\n\r\n",
    "HEX;a=b\r\nBODY\r\n0\r\n\r\n",
    "HEX ;a\r\nBODY\r\n0\r\n\r\n",
    "HEX;\"\r\nBODY\r\n0\r\n\r\n",
    "HEX \r\nBODY\r\n0\r\n\r\n",
    " HEX\r\nBODY\r\n0\r\n\r\n",
    "0xHEX\r\nBODY\r\n0\r\n\r\n",
    "+HEX\r\nBODY\r\n0\r\n\r\n",
    "0HEX\r\nBODY\r\n0\r\n\r\n",
    "HEX\nBODY\n0\n\n",
    "HEX\rBODY\r0\r\r",
    "HEX\r\nBODY0\r\n\r\n",
    "HEX\r\nBODY\r\n00\r\n\r\n",
    "HEX\r\nBODY\r\n0\r\nGuid: other\r\nX-HTTP-Method-Override: PUT\r\n\r\n",
    "HEX\r\nBODY\r\n0\r\nTransfer-Encoding: x\r\n\r\n",
    "HEX\r\nBODY\r\n0;x\r\n\r\n",
    "HEX\r\nBODY\r\n\r\n",
    "100000000000000HEX\r\nBODY\r\n0\r\n\r\n",
    "-1\r\nBODY\r\n0\r\n\r\n",
    "HEX\r\nBODY\r\n0\r\n\r\nINNER",
    "0\r\n\r\nINNER",
    "0\n\nINNER",
    "0\r\n\rINNER",
    "0;\nINNER\r\n\r\n",
    "0;x\nINNER",
    "1\r\n{\r\n0\r\n\r\nINNER",
    "2;\"a\nxx\r\n0\r\n\r\nINNER",
    "HEX\r\nBODYxx0\r\n\r\nINNER",
    "HEX\r\nBODY\n\n0\r\n\r\nINNER",
    "0\r\nX: y\nINNER\r\n\r\n",
    "0\r\n X: y\r\n\r\nINNER",
    "0\r\nContent-Length: 5\r\n\r\nINNER",
    "0_\r\n\r\nINNER",
    "HEX,\r\nBODY\r\n0\r\n\r\n",
    "\r\nHEX\r\nBODY\r\n0\r\n\r\n",
];
const HEAD_EDITS: &[(&str, &str)] = &[
    ("Host: cc.example:8043\r\n", ""),
    ("Host: cc.example:8043\r\n", "Host: a\r\nHost: b\r\n"),
    ("Host: cc", "Host: cc/x"),
    ("Host: cc.example:8043", "Host:"),
    ("Host: cc", "Host: @cc"),
    ("Host: cc", "Host: c c"),
    ("Host:", "Host :"),
    ("Host:", " Host:"),
    ("Host: ", "Host:\r\n "),
    ("Guid:", "Guid: x\r\nGuid:"),
    ("Guid:", "Guid:\r\n "),
    ("Guid: ", "Guid: \0"),
    ("Guid: 8f1c.AgentGateway1\r\n", ""),
    ("Guid: 8f1c.AgentGateway1", "Guid:"),
    ("Guid", "G\u{fc}id"),
    ("Guid", "Gu id"),
    ("Content-Type:", "Content-Type: text/plain\r\nContent-Type:"),
    ("Content-Type:", "Content-Type :"),
    ("application/json", "application/json\0"),
    ("application/json", "application/json\r\n ;x=y"),
    ("application/json", "text/plain\r\nX: application/json"),
    ("Content-Length:", "Content-Length: 0\r\nContent-Length:"),
    ("Content-Length:", "Content-Length :"),
    ("Content-Length:", "X: y\r\n\r\nContent-Length:"),
    ("\r\n", "\n"),
    ("\r\n", "\r"),
    ("\r\n\r\n", "\n\n"),
    ("\r\n\r\n", "\r\n\n"),
    ("\r\n\r\n", "\n\r\n"),
    ("\r\n\r\n", "\r\r\n\r\n"),
    ("PUT ", "PUT  "),
    ("PUT ", "PUT\t"),
    (" HTTP", "  HTTP"),
    (" HTTP", "\tHTTP"),
    (" HTTP/1.1", ""),
    ("HTTP/1.1", "HTTP/1.1 x"),
    ("PUT", "\r\nPUT"),
    ("X-Case: ", "X-Odd: \u{1}\r\nX-Case: "),
    ("X-Case: ", ": empty\r\nX-Case: "),
    ("X-Case: ", "novalue\r\nX-Case: "),
    ("X-Case: ", "X-Odd: a\rb\r\nX-Case: "),
    ("X-Case: ", "X-Odd: a\nb: c\r\nX-Case: "),
    ("X-Case: ", "@: x\r\nX-Case: "),
    ("X-Case: ", "X[]: x\r\nX-Case: "),
    ("X-Case: ", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nX-Case: "),
    ("X-Case: ", "Upgrade: websocket\r\nConnection: Upgrade\r\nX-Case: "),
    ("X-Case: ", "Trailer: Guid\r\nX-Case: "),
];
const BODIES: &[&str] = &[
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
const QUERIES: &[&str] = &[
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
/// What a forged push says: a preview more, a preview instead, no preview any more, no session any more.
const EVENTS: &[&str] = &[
    r#"{"eventType":"AgentEvent_Preview_CallOut","workNo":"AGENT","content":{"controlid":AGENT0,"dialeddigits":"NUMBER"}}"#,
    r#"{"eventType":"AgentEvent_Release_Preview","workNo":"AGENT","content":null}"#,
    r#"{"eventType":"AgentOther_ShutdownService","workNo":"AGENT","content":null}"#,
];
const VALID_BODIES: &[&str] = &[
    r#"{"called":"710101","callcontrolid":1010}"#,
    r#"{"called": "710101", "callcontrolid": "1010"}"#,
    "{\r\n  \"callcontrolid\": \"1010\",\r\n  \"called\": \"710102\"\r\n}\r\n",
    r#"{"calledName":"x","called号码":"1","recalled":1,"called":"710101","被叫":"2","call":{"called":"2"},"callcontrolid":1010}"#,
    r#"{"called":"710101","callcontrolid":1010,"caller":"","callData":"你好 \"called\":\"1\"","skills":[{"id":1}]}"#,
];
const CLIENTS: &[&str] = &[
    "",
    "User-Agent: Apache-HttpClient/4.5.13 (Java/1.8.0_301)\r\nAccept-Encoding: gzip,deflate\r\nConnection: Keep-Alive\r\n",
    "Accept: application/json, text/plain, */*\r\nOrigin: https://desk.example\r\nReferer: https://desk.example/a?b=c\r\n\
     Sec-Fetch-Mode: cors\r\nAccept-Language: zh-CN,zh;q=0.9\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n",
    "Cookie: JSESSIONID=0A;Path=/agentgateway;HttpOnly; x=\"a b\"; y=\u{4f60}\r\nExpect: 100-continue\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n",
    "X-Forwarded-For: 10.0.0.1\r\nVia: 1.1 proxy\r\nX-Real-IP: 10.0.0.1\r\ntraceparent: 00-a-b-01\r\nTE: trailers\r\n",
];
const OTHERS: &[&str] = &[
    "voicecall/101/answer",
    "voicecall/101/callout",
    "voicecall/101/hold",
    "voicecall/101/seconddial/%23",
    "voicecall/101/seconddial/*",
    "voicecall/101/seconddial/%2A",
    "voicecall/101/transfer?type=1&to=%2B8613",
    "calldata/101/callinfo",
    "voicecall/101/previewCalloutRecords",
    "agentgroup/101/groupbyvdn",
    "queuedevice/101/agentinfo/100%2C101",
    "recordplay/101/download?filePath=%2Fhome%2Fa%2Fb.wav",
    "recordplay/101/file?filePath=/home/a/b.V3&x=..%2F..%2Fetc",
    "textchat/101/download?filePath=D%3A%5Ca%5Cb.png",
    "textchat/101/queryhistory?begin=2026-01-01%2010:00:00",
    "notifybulletin/101/%E4%BD%A0%E5%A5%BD",
    "notifybulletin/101/a%20b%26c",
    "innerhelp/101/help;type=2",
    "innerhelp/101/caf%C3%A9",
    "agentgroup/101/name/O'Brien",
    "agentgroup/101/name/(x)!~$,=:@",
    "vdnconfig/101/log%20out",
    "qualitycontrol/101/addsupervise/102",
    "qualitycontrol/101/insert/102",
    "onlineagent/101/saybusy",
    "onlineagent/101/rest/600/1",
    "onlineagent/101/agentstatus?x=logout",
    "mobilecall/101/a.b.c/d_e-f",
    "outbound/101/callout/preview",
    "outbound/101/preview%20callouts",
    "multimedia/101/%5Bx%5D",
    "multimedia/101/a%25b",
    "multimedia/101/100%25",
    "multimedia/101/x?q=a|b",
    "multimedia/101/x?q=%7B%22called%22%3A%221%22%7D",
    "multimedia/101/x?called=1&callcontrolid=2&_method=GET",
    "multimedia/101/x?previewCallout=1",
    "multimedia/101/email/a+b@c.d",
    "agentgroup/101/logout-report",
    "report/agentevents/2026",
    "report/101/previewcallouts.csv",
    "mailbox/101/onlineagent%20list/x/y",
];
