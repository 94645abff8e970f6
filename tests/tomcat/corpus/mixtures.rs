//! Several tricks in one request, and bytes changed at random.

use super::bodies::{BODIES, QUERIES};
use super::framing::CODINGS;
use super::methods::{METHODS, OVERRIDES};
use super::paths::{DISGUISES, ENDS, SEPARATORS, disguised};
use super::{CALLOUT, Corpus, JSON, chunked, request};

impl Corpus {
    pub(super) fn combinations(&mut self, count: usize) {
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
    pub(super) fn mutations(&mut self, count: usize) {
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
}
