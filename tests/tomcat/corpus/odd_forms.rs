//! Forms that are a letter to one server, nothing to another, and the end of the text to a third one; and names of fields that
//! only some frameworks take for an override.

use super::{CALLOUT, Corpus, JSON, VALID, chunked, request};

/// Overlong forms, broken sequences, characters beyond ASCII, in each way to write them in a path.
const FORMS: &[&str] = &[
    "%c1%b0",
    "%C0%80",
    "%c0%ae",
    "%e0%81%b0",
    "%e0%80%80",
    "%f0%80%81%b0",
    "%ff",
    "%fe%ff",
    "%80",
    "%C3%A9",
    "%c3",
    "%E4%BD%A0",
    "%uff50",
    "%u4f60",
    "%E2%93%92",
    "%ed%a0%80",
    "%F4%90%80%80",
    "%25c1%25b0",
    "%25ff",
    "%ef%bb%bf",
];

/// Escapes to a reader who takes the last character for a digit, and rubbish to the others.
const UNFINISHED: &[&str] =
    &["%a%E3%8F%82", "%7%E2%92%8B", "%u006%E2%91%A0", "%%36%E2%91%A0", "%6%EF%BC%91", "%6\u{ff11}"];

impl Corpus {
    pub(super) fn odd_forms(&mut self) {
        self.forms_in_paths();
        self.forms_in_queries();
        self.overrides_in_odd_fields();
        self.aliases_of_charsets();
        self.behaving_forms();
    }

    fn forms_in_paths(&mut self) {
        let word = "previewCallout";
        for form in FORMS {
            for at in (0..=word.len()).step_by(2).chain([word.len() - 1]) {
                let spelled = format!("{}{form}{}", &word[..at], &word[at..]);
                self.hostile_path("path: odd forms", &CALLOUT.replace(word, &spelled));
            }
            for word in ["resource", "voicecall", "101"] {
                for spelled in [format!("{word}{form}"), format!("{form}{word}")] {
                    self.hostile_path("path: odd forms", &CALLOUT.replace(word, &spelled));
                }
            }
            for tail in ["/x/.FORM.", "/.FORM", "/FORM", "FORM.json", ";FORM", ".FORMjson"] {
                self.hostile_path("path: odd forms", &format!("{CALLOUT}{}", tail.replace("FORM", form)));
            }
            let elsewhere = CALLOUT.replace("previewCallout", &format!("x/.{form}./previewCallout"));
            self.hostile_path("path: odd forms", &elsewhere);
        }
        for end in UNFINISHED {
            for path in [format!("{CALLOUT}{end}"), format!("{CALLOUT}{end}/"), CALLOUT.replace('t', "%74") + end] {
                self.hostile_path("path: odd forms", &path);
            }
        }
        for hidden in [
            "answer;/previewCallout",
            "answer;a=b/../previewCallout",
            "answer;previewCallout",
            "answer%3b/..%2fpreviewCallout",
            "answer?/../previewCallout",
            "x;%2f..%2fpreviewCallout",
        ] {
            self.hostile_path("path: odd forms", &CALLOUT.replace("previewCallout", hidden));
        }
    }

    /// Fields in the query, to a framework that merges it with the body.
    fn forms_in_queries(&mut self) {
        for form in FORMS.iter().chain(UNFINISHED) {
            for query in ["calFORMled=NUMBER", "calledFORM=NUMBER", "FORMcalled=NUMBER", "callcontrolFORMid=1020"] {
                let query = query.replace("FORM", form).replace("NUMBER", &self.unshown());
                let bytes =
                    request("PUT", &format!("{CALLOUT}?{query}"), &self.number().to_string(), JSON, VALID.as_bytes());
                self.hostile("query", bytes).may_hang = true;
            }
        }
    }

    /// A sign-out that is a POST with one of these fields. A callout of the ended preview must not pass afterwards.
    fn overrides_in_odd_fields(&mut self) {
        let mut agent = 5000;
        for field in [
            "X_HTTP_Method_Override",
            "X-HTTP_METHOD-OVERRIDE",
            "X-HTTPMethodOverride",
            "X_HTTP_METHOD",
            "HTTP-Method-Override",
            "Method-Override",
            "X.HTTP.Method.Override",
            "X-MethodOverride",
            "_method",
        ] {
            for path in ["onlineagent/AGENT/logout", "OnlineAgent/AGENT/forcelogout"] {
                agent += 1;
                let target = format!("/agentgateway/resource/{}", path.replace("AGENT", &agent.to_string()));
                let fields = format!("{JSON}{field}: DELETE\r\n");
                let bytes = request("POST", &target, &self.number().to_string(), &fields, b"{}");
                self.hostile("session: odd endings", bytes).ends_session_of = Some(agent);
            }
            let fields = format!("{JSON}{field}: PUT\r\nOrigin: http://a\r\nAccess-Control-Request-Method: PUT\r\n");
            for method in ["POST", "OPTIONS", "GET"] {
                let body = self.unshown_body();
                let bytes = request(method, CALLOUT, &self.number().to_string(), &fields, body.as_bytes());
                self.hostile("method: override", bytes);
            }
            // Behind the body.
            agent += 1;
            let target = format!("/agentgateway/resource/onlineagent/{agent}/logout");
            let fields = format!("Trailer: {field}\r\nTE: trailers\r\n");
            let bytes = request("POST", &target, &self.number().to_string(), &fields, b"{}");
            let bytes = String::from_utf8(chunked(&bytes, 1000)).unwrap();
            let trailer = format!("0\r\n{field}: DELETE\r\n\r\n");
            let case = self.hostile("session: odd endings", bytes.replace("0\r\n\r\n", &trailer).into_bytes());
            (case.ends_session_of, case.may_hang) = (Some(agent), true);
        }
        for form in FORMS.iter().chain(UNFINISHED) {
            for (method, path) in [
                ("DELETE", "onlineagent/AGENT/logoutFORM"),
                ("DELETE", "onlineagent/AGENT/logFORMout"),
                ("DELETE", "onlineagentFORM/AGENT/logout"),
                ("PUT", "onlineagent/AGENT/FORM"),
                ("PUT", "onlineFORMagent/AGENT/forcelogin"),
                ("PUT", "voicecall/AGENT/cancelPreviewCalloutFORM"),
                ("POST", "qualityFORMcontrol/102/forcelogout/AGENT"),
            ] {
                agent += 1;
                let path = path.replace("AGENT", &agent.to_string()).replace("FORM", form);
                let body = if method == "PUT" { format!(r#"{{"callcontrolid":"{agent}0"}}"#) } else { String::new() };
                let target = format!("/agentgateway/resource/{path}");
                let bytes = request(method, &target, &self.number().to_string(), JSON, body.as_bytes());
                let case = self.hostile("session: odd endings", bytes);
                (case.ends_session_of, case.may_hang) = (Some(agent), true);
            }
        }
    }

    /// Charsets that are nearly UTF-8.
    fn aliases_of_charsets(&mut self) {
        for name in [
            "CESU-8",
            "UTF-8BOM",
            "utf-8-sig",
            "x-UTF-8",
            "unicode-1-1-utf-8",
            "UTF_8",
            "UTF-8-MAC",
            "java-utf8",
            "UTF-8,",
            "UTF-8 ",
            "\u{ff35}TF-8",
            "utf-8\t",
            "UTF-08",
            "UTF-8;x=\"",
            "\"UTF-8",
            "'UTF-8",
            "UTF-8'",
            "csUTF8",
            "SCSU",
            "BOCU-1",
            "Modified-UTF-8",
        ] {
            let number = self.unshown();
            for body in [
                format!(r#"{{"x":"\",'called':'{number}','z':'","called":"710101","callcontrolid":1010,"q":"'"}}"#),
                format!("{{\"called\":\"710101\",\"callcontrolid\":1010,\u{2028}\"called\":\"{number}\"}}"),
                format!("{{\"x\":\"//\u{2028}\",\"called\":\"710101\",\"callcontrolid\":1010}}//\u{2029}{number}"),
                format!("{{\"x\":\"\u{85}\\\u{85}\",\"called\":\"{number}\",\"callcontrolid\":1010}}"),
            ] {
                let fields = format!("Content-Type: application/json; charset={name}\r\n");
                let bytes = request("PUT", CALLOUT, &self.number().to_string(), &fields, body.as_bytes());
                self.framed("body: aliases of charsets", bytes);
            }
        }
    }

    /// Odd forms far from anything that is guarded.
    fn behaving_forms(&mut self) {
        for target in [
            "mediafile/101/%E5%BD%95%E9%9F%B3%C3%A9.wav",
            "textchat/101/notes/caf%C3%A9%20%E4%BD%A0?x=%E4%BD%A0&called2=%ff",
            "voicecall/101/seconddial/%EF%BC%83",
        ] {
            self.behaving("other interfaces", "GET", &format!("/agentgateway/resource/{target}"), "", b"");
        }
    }
}
