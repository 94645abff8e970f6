//! Requests with more than one reading of where they end and the next one begins.

use super::{ATTACKER, CALLOUT, Corpus, JSON, request, valid_callout};

impl Corpus {
    pub(super) fn framing(&mut self) {
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
            // An oddity of a callout must neither change it into another request nor hide one.
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
}

pub(super) const CODINGS: &[&str] = &[
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
