//! An agent, as the application sees one.

use previewgate::preview::ControlId;
use serde_json::{Value, json};

use super::{API, Access, Answer, Request, id};

/// A signed-in agent. Every request goes through the gateway, over a connection of its own.
#[derive(Clone)]
pub(crate) struct Agent {
    access: Access,
    pub(crate) number: u32,
    pub(crate) guid: String,
}

impl Agent {
    pub(super) async fn sign_in(access: &Access, number: u32) -> Self {
        let request = Request::put(format!("{API}/onlineagent/{number}")).json(&json!({"phonenum": "40038"}));
        let answer = access.send(&request).await.passed();
        assert_eq!(answer.retcode(), "0", "{answer:?}");
        let guid = answer.header("set-guid").strip_prefix("JSESSIONID=").unwrap().to_owned();
        Self { access: access.clone(), number, guid }
    }

    /// The agent's session as the simulator knows it; one is opened if there is none. The gateway is not involved.
    pub(super) fn signed_in_elsewhere(access: &Access, number: u32) -> Self {
        let simulator = &access.simulator;
        let guid = simulator.guid(id(number)).unwrap_or_else(|| simulator.sign_in_directly(id(number)));
        Self { access: access.clone(), number, guid }
    }

    /// The same agent at another gateway.
    pub(crate) fn through(&self, gateway: &Access) -> Self {
        Self { access: gateway.clone(), ..self.clone() }
    }

    /// The agent's long poll.
    pub(crate) fn poll_request(&self) -> Request {
        Request::get(format!("{API}/agentevent/{}", self.number)).guid(&self.guid)
    }

    /// Polls once.
    #[track_caller]
    pub(crate) fn poll(&self) -> impl Future<Output = Answer> {
        self.access.send(&self.poll_request())
    }

    /// Has a preview injected and polls it, so that agent and gateway know it.
    pub(crate) async fn shown(&self, control_id: i64, numbers: &str) {
        self.access.simulator.preview(id(self.number), ControlId(control_id), numbers);
        let answer = self.poll().await.passed();
        assert_eq!(answer.json()["event"]["content"]["controlid"], control_id, "{answer:?}");
    }

    /// Has the agent's previews released and polls the event.
    pub(crate) async fn released(&self) {
        self.access.simulator.release(id(self.number));
        let answer = self.poll().await.passed();
        assert_eq!(answer.json()["event"]["eventType"], "AgentEvent_Release_Preview", "{answer:?}");
    }

    /// A `previewCallout` with this body.
    pub(crate) fn callout_request(&self, body: &Value) -> Request {
        Request::put(format!("{API}/voicecall/{}/previewCallout", self.number)).guid(&self.guid).json(body)
    }

    /// A `previewCallout` of this number of this preview.
    pub(crate) fn callout(&self, control_id: i64, number: &str) -> Request {
        self.callout_request(&json!({"called": number, "callcontrolid": control_id}))
    }

    /// Asks to call this number of this preview.
    #[track_caller]
    pub(crate) fn call(&self, control_id: i64, number: &str) -> impl Future<Output = Answer> {
        self.access.send(&self.callout(control_id, number))
    }

    /// Sends a request through a gateway that may end at any time; nothing without a whole answer.
    pub(crate) async fn try_send(&self, request: &Request) -> Option<Answer> {
        self.access.try_connect().await.ok()?.try_send(request).await.ok()
    }

    /// Like [`Agent::shown`], through a gateway that may end at any time.
    pub(crate) async fn try_shown(&self, control_id: i64, numbers: &str) -> Option<()> {
        self.access.simulator.preview(id(self.number), ControlId(control_id), numbers);
        self.try_poll_until(|event| event["content"]["controlid"] == control_id).await
    }

    /// Like [`Agent::released`], through a gateway that may end at any time.
    pub(crate) async fn try_released(&self) -> Option<()> {
        self.access.simulator.release(id(self.number));
        self.try_poll_until(|event| event["eventType"] == "AgentEvent_Release_Preview").await
    }

    /// Polls until this event comes: others may be left that could not be delivered.
    async fn try_poll_until(&self, wanted: impl Fn(&Value) -> bool) -> Option<()> {
        while !wanted(&self.try_send(&self.poll_request()).await?.json()["event"]) {}
        Some(())
    }
}
