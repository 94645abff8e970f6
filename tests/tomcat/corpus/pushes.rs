//! Pushes that do not come from CC-Gateway.

use super::{ATTACKER, CALLOUT, Corpus, JSON, VICTIM, request};

impl Corpus {
    pub(super) fn forged_pushes(&mut self, stolen: &str) {
        let (head, signed) = stolen.rsplit_once('/').unwrap();
        let (target, mac) = signed.split_once('.').unwrap();
        let to = |agent: &str| format!("{}/{agent}/{signed}", head.rsplit_once('/').unwrap().0);
        let mut addresses = vec![
            // The address of the agent itself, and one of another agent.
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
}

/// The content of forged pushes: another preview, a replaced preview, the end of a preview, the end of a session.
const EVENTS: &[&str] = &[
    r#"{"eventType":"AgentEvent_Preview_CallOut","workNo":"AGENT","content":{"controlid":AGENT0,"dialeddigits":"NUMBER"}}"#,
    r#"{"eventType":"AgentEvent_Release_Preview","workNo":"AGENT","content":null}"#,
    r#"{"eventType":"AgentOther_ShutdownService","workNo":"AGENT","content":null}"#,
];
