//! An agent, as the application sees one.

use serde_json::{Value, json};

use super::{API, Answer, Lab, Request, id};
use previewgate::preview::ControlId;

/// A signed-in agent. Everything goes through the gateway, each request over a connection of its own.
pub(crate) struct Agent<'l> {
    lab: &'l Lab,
    pub(crate) number: u32,
    pub(crate) guid: String,
}

impl<'l> Agent<'l> {
    pub(super) async fn sign_in(lab: &'l Lab, number: u32) -> Self {
        let request = Request::put(format!("{API}/onlineagent/{number}")).json(&json!({"phonenum": "40038"}));
        let answer = lab.send(&request).await.passed();
        assert_eq!(answer.retcode(), "0", "{answer:?}");
        let guid = answer.header("set-guid").strip_prefix("JSESSIONID=").unwrap().to_owned();
        Self { lab, number, guid }
    }

    /// The agent's long poll.
    pub(crate) fn poll_request(&self) -> Request {
        Request::get(format!("{API}/agentevent/{}", self.number)).guid(&self.guid)
    }

    /// Polls once.
    #[track_caller]
    pub(crate) fn poll(&self) -> impl Future<Output = Answer> {
        self.lab.send(&self.poll_request())
    }

    /// Has a preview injected and polls it, so that agent and gateway know it.
    pub(crate) async fn shown(&self, control_id: i64, numbers: &str) {
        self.lab.simulator.preview(id(self.number), ControlId(control_id), numbers);
        let answer = self.poll().await.passed();
        assert_eq!(answer.json()["event"]["content"]["controlid"], control_id, "{answer:?}");
    }

    /// A `previewCallout` with this body.
    pub(crate) fn callout_request(&self, body: &Value) -> Request {
        Request::put(format!("{API}/voicecall/{}/previewCallout", self.number)).guid(&self.guid).json(body)
    }

    /// Asks to call this number of this preview.
    #[track_caller]
    pub(crate) fn call(&self, control_id: i64, number: &str) -> impl Future<Output = Answer> {
        self.lab.send(&self.callout_request(&json!({"called": number, "callcontrolid": control_id})))
    }
}
