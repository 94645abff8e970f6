//! Requests of well-behaved clients, in all known spellings.

use super::{CALLOUT, Corpus, Expected, JSON, VALID, chunked, request};

impl Corpus {
    pub(super) fn behaving(&mut self, class: &'static str, method: &str, target: &str, fields: &str, body: &[u8]) {
        let number = self.number();
        let bytes = request(method, target, &number.to_string(), fields, body);
        let expected = Expected { method: method.to_owned(), target: target.to_owned(), body: body.to_vec() };
        let case = self.hostile(class, bytes);
        case.expected = Some(expected);
    }

    /// A callout whose body arrives in another spelling.
    pub(super) fn behaving_callout(&mut self, fields: &str, body: &[u8], arrives: &str) {
        self.behaving("callout", "PUT", CALLOUT, fields, body);
        if let Some(expected) = self.cases.last_mut().and_then(|case| case.expected.as_mut()) {
            expected.body = arrives.as_bytes().to_vec();
        }
    }

    pub(super) fn behaving_callouts(&mut self) {
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

    /// Harmless requests that look like an attack.
    pub(super) fn behaving_oddly(&mut self) {
        for body in [
            r#"{"called":"710101","callcontrolid":1010,"callData":"{\"name\":\"王\",\"city\":\"北京\"}"}"#,
            r#"{"callData":"王\n李\t\"张\"","callcontrolid":"1010","called":"710102"}"#,
            r#"{"called":"710101","callcontrolid":1010,"remark":"C:\\王\\"}"#,
        ] {
            self.behaving("callout", "PUT", CALLOUT, JSON, body.as_bytes());
        }
        // A browser's form library names a content type with everything.
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        self.behaving("session and events", "DELETE", "/agentgateway/resource/onlineagent/105/logout", form, b"");
        for (path, body) in [("onlineagent/105/handshake", ""), ("voicecall/101/answer", "a=b&_method=c")] {
            let target = format!("/agentgateway/resource/{path}");
            self.behaving("session and events", "POST", &target, form, body.as_bytes());
        }
        let many = format!("{CALLOUT}?{}", "a=1&".repeat(1200));
        self.behaving("callout", "PUT", &many, JSON, VALID.as_bytes());
    }

    pub(super) fn behaving_sessions(&mut self) {
        // Old clients behind an old proxy and load balancers' probes use this form.
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

    pub(super) fn behaving_others(&mut self) {
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
