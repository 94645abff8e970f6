//! Callouts of another agent's preview, and of previews that ended in a spelling that may be missed.

use super::methods::OVERRIDES;
use super::{CALLOUT, Corpus, JSON, request};

/// What ends a preview.
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

impl Corpus {
    pub(super) fn identities(&mut self) {
        for (agent, of) in [(101, 102), (102, 101), (103, 101), (101, 103), (999_999, 101), (104, 102)] {
            for (called, id) in [(of, of), (of, agent), (agent, of)] {
                for quoted in [false, true] {
                    // The agent's own number with the agent's own ID is not an attack.
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
    pub(super) fn sessions(&mut self) {
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

    /// A form that names the method, and a cancellation that means another preview to who reads it in its charset.
    pub(super) fn misread_sessions(&mut self) {
        let mut agent = 3000;
        for (method, path) in ENDS.into_iter().filter(|(method, _)| *method != "POST") {
            for media in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLencoded; charset=UTF-8"] {
                for name in ["_method", "x=1&_method", "X-HTTP-Method-Override"] {
                    agent += 1;
                    let target = format!("/agentgateway/resource/{}", path.replace("AGENT", &agent.to_string()));
                    let body = format!("{name}={method}&callcontrolid={agent}0");
                    let fields = format!("Content-Type: {media}\r\n");
                    let bytes = request("POST", &target, &self.number().to_string(), &fields, body.as_bytes());
                    self.hostile("session: odd endings", bytes).ends_session_of = Some(agent);
                }
            }
        }
        for charset in ["gbk", "GB18030", "gb2312", "\"GBK\""] {
            agent += 1;
            let target = format!("/agentgateway/resource/voicecall/{agent}/cancelPreviewCallout");
            let body =
                format!(r#"{{"x":"你\",'callcontrolid':{agent}0,'called':'1','z':'","callcontrolid":7,"q":"'}}"}}"#);
            let fields = format!("Content-Type: application/json; charset={charset}\r\n");
            let bytes = request("PUT", &target, &self.number().to_string(), &fields, body.as_bytes());
            self.hostile("session: odd endings", bytes).ends_session_of = Some(agent);
        }
    }
}
