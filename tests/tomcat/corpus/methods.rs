//! Requests that some framework takes for a `PUT`, or for a request to another path.

use super::{CALLOUT, Corpus, JSON, request};

impl Corpus {
    /// Bytes that are a letter in one charset and nothing in another.
    pub(super) fn rewriting_bytes(&mut self) {
        for (from, to) in [
            ("Callout", b"C\xaallout".as_slice()),
            ("voice", b"v\xbaice"),
            ("preview", b"\xc1\xb0review"),
            ("preview", "\u{ff50}review".as_bytes()),
            ("previewCallout", b"previewCallout\xa0"),
        ] {
            for field in ["X-Original-URL", "X-Rewrite-URL"] {
                let (before, after) = CALLOUT.split_once(from).unwrap();
                let value = [before.as_bytes(), to, after.as_bytes()].concat();
                let body = self.unshown_body();
                let path = "/agentgateway/resource/voicecall/101/answer";
                let bytes = request("PUT", path, &self.number().to_string(), JSON, body.as_bytes());
                let end = bytes.windows(2).position(|window| window == b"\r\n").unwrap() + 2;
                let field = [field.as_bytes(), b": ", &value, b"\r\n"].concat();
                self.hostile("path: rewriting header", [&bytes[..end], &field, &bytes[end..]].concat());
            }
        }
    }

    pub(super) fn methods(&mut self) {
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
}

pub(super) const METHODS: &[&str] = &[
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

pub(super) const OVERRIDES: &[&str] =
    &["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x-http-method-OVERRIDE"];
