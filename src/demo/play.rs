//! Plays one step with real requests and measures the result.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::request::Builder;
use http::{Method, Request, Response, header};
use serde_json::{Value, json};

use super::application::TOKEN;
use super::capture::field;
use super::client::{Client, PATIENCE};
use super::script::{AGENT, Act, CallBack, ELSEWHERE, Expected, Platform, Step, Upstream};
use super::stage::Stage;
use crate::preview::{AgentId, ControlId};

const BASE: &str = "/agentgateway/resource";
/// How long the log writer may take for a line.
const LOG_PATIENCE: Duration = Duration::from_secs(10);

/// The measured result of one step.
pub(super) struct Outcome {
    /// The response that the client got, or the error. For a push, the events that the application got and its
    /// response.
    pub(super) answer: Result<Answer, io::Error>,
    /// The line of the decision log for this request.
    pub(super) log_line: Option<String>,
    /// How the upstream was involved, according to its journal.
    pub(super) upstream: Upstream,
}

/// The response that the client got.
pub(super) struct Answer {
    /// HTTP
    pub(super) status: u16,
    /// Of the envelope; `none` if there is none.
    pub(super) retcode: String,
    /// `X-Previewgate-Reason`
    pub(super) reason: Option<String>,
    /// The types of the events.
    pub(super) events: Vec<String>,
    /// `result`, when it is text: the ID of a call.
    pub(super) call_id: Option<String>,
}

impl Outcome {
    /// The verdict and its reason, as logged.
    pub(super) fn decision(&self) -> Option<(&str, &str)> {
        let line = self.log_line.as_deref()?;
        Some((field(line, "decision")?, field(line, "reason")?))
    }

    /// All differences from the expected result, as text.
    pub(super) fn deviations(&self, expected: &Expected) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, wanted: String, was: String| {
            if wanted != was {
                found.push(format!("{what}: expected {wanted}, was {was}"));
            }
        };
        let wanted = expected.decision.map(|(verdict, reason)| (verdict.as_str(), reason.as_str()));
        compare("decision log", in_words(wanted), in_words(self.decision()));
        compare("upstream", expected.upstream.as_str().into(), self.upstream.as_str().into());
        match &self.answer {
            Ok(answer) => {
                // Only responses of the gateway itself have this header.
                let refused = expected.upstream == Upstream::Untouched;
                let own = wanted.filter(|_| refused).map_or("absent", |(_, reason)| reason);
                let header = answer.reason.as_deref().unwrap_or("absent");
                compare("X-Previewgate-Reason", own.into(), header.into());
                compare("status", "200".into(), answer.status.to_string());
                compare("retcode", expected.retcode.into(), answer.retcode.clone());
                compare("events", format!("{:?}", expected.events), format!("{:?}", answer.events));
            }
            Err(error) => found.push(format!("no answer: {error}")),
        }
        found
    }
}

fn in_words(decision: Option<(&str, &str)>) -> String {
    decision.map_or_else(|| "no line".to_owned(), |(verdict, reason)| format!("{verdict} ({reason})"))
}

/// The applications of all agents, and their state.
pub(super) struct Player<'a> {
    stage: &'a Stage,
    client: Client,
    guids: HashMap<u32, String>,
}

impl<'a> Player<'a> {
    /// A player on this stage.
    pub(super) fn new(stage: &'a Stage) -> Self {
        Self { stage, client: Client::new(stage.gateway.address, stage.trust.clone()), guids: HashMap::new() }
    }

    /// Plays one step. `number` identifies its request in the log and in the upstream's journal.
    pub(super) async fn play(&mut self, number: usize, step: &Step) -> Outcome {
        let request_id = format!("demo-{number:02}");
        let earlier_pushes = self.stage.simulator.handle().pushes().len();
        let answer = self.act(step, &request_id, earlier_pushes).await;
        self.stage.logging.writer.flush(LOG_PATIENCE);
        Outcome {
            answer,
            log_line: self.stage.log.decision_of(&request_id),
            upstream: self.upstream(&request_id, earlier_pushes),
        }
    }

    async fn act(&mut self, step: &Step, request_id: &str, earlier_pushes: usize) -> io::Result<Answer> {
        self.set_scene(step.platform)?;
        let (agent, method, path, body) = match step.act {
            Act::GetPush => return self.get_push(earlier_pushes).await,
            Act::SignIn(agent) => {
                (agent, Method::PUT, format!("onlineagent/{agent}"), r#"{"password":"demo"}"#.to_owned())
            }
            Act::SignInForPush(agent, call_back) => {
                (agent, Method::PUT, format!("onlineagent/{agent}"), self.sign_in_for_push(call_back))
            }
            Act::Poll(agent) => (agent, Method::GET, format!("agentevent/{agent}"), String::new()),
            Act::PollAll => (AGENT, Method::GET, "agentevent/allagentevent".to_owned(), String::new()),
            Act::Callout { agent, resource, body } => {
                (agent, Method::PUT, format!("voicecall/{agent}/{resource}"), body.to_owned())
            }
        };
        let request = Request::builder().method(method).uri(format!("{BASE}/{path}"));
        self.send(agent, request.header("X-Request-Id", request_id), body).await
    }

    async fn send(&mut self, agent: u32, mut request: Builder, body: String) -> io::Result<Answer> {
        if let Some(guid) = self.guids.get(&agent) {
            request = request.header("Guid", guid);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json; charset=UTF-8");
        }
        let request = request.body(Bytes::from(body)).map_err(io::Error::other)?;
        let response = self.client.send(request).await?;
        if let Some(guid) = header_text(&response, "set-guid").and_then(|value| value.strip_prefix("JSESSIONID=")) {
            self.guids.insert(agent, guid.to_owned());
        }
        Ok(Answer::read(&response))
    }

    fn sign_in_for_push(&self, call_back: CallBack) -> String {
        let uri = match call_back {
            CallBack::Application => self.stage.application.url(),
            CallBack::Elsewhere => ELSEWHERE.to_owned(),
        };
        json!({"password": "demo", "callBackUri": uri, "serviceToken": TOKEN}).to_string()
    }

    /// Waits for one more push. The events are those that the application got; status and retcode are those that the
    /// platform got.
    async fn get_push(&self, earlier: usize) -> io::Result<Answer> {
        let simulator = self.stage.simulator.handle();
        let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "no push");
        tokio::time::timeout(PATIENCE, simulator.wait_for_pushes(earlier + 1)).await.map_err(timed_out)?;
        let answer = simulator.pushes().into_iter().nth(earlier).map(|push| push.answer);
        let (status, body) = answer.unwrap_or_else(|| Err("no push".to_owned())).map_err(io::Error::other)?;
        let answer = Response::builder().status(status).body(body).map_err(io::Error::other)?;
        Ok(Answer { events: self.stage.application.take_events(), ..Answer::read(&answer) })
    }

    fn upstream(&self, request_id: &str, earlier_pushes: usize) -> Upstream {
        let simulator = self.stage.simulator.handle();
        if simulator.journal().iter().any(|entry| entry.header("x-request-id") == Some(request_id)) {
            return Upstream::Reached;
        }
        let gateway = format!("https://{}/", self.stage.gateway.address);
        match simulator.pushes().get(earlier_pushes) {
            Some(push) if push.uri.starts_with(&gateway) => Upstream::Pushed,
            Some(_) => Upstream::PushedPast,
            None => Upstream::Untouched,
        }
    }

    fn set_scene(&self, platform: Platform) -> io::Result<()> {
        let agent = |number| AgentId::try_from(number).map_err(io::Error::other);
        let simulator = self.stage.simulator.handle();
        match platform {
            Platform::Idle => {}
            Platform::Shows { agent: whom, control_id, numbers } => {
                simulator.preview(agent(whom)?, ControlId(control_id), numbers);
            }
            Platform::Releases(whom) => simulator.release(agent(whom)?),
        }
        Ok(())
    }
}

impl Answer {
    fn read(response: &Response<Bytes>) -> Self {
        let envelope: Value = serde_json::from_slice(response.body()).unwrap_or_default();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let events = match envelope.get("event") {
            Some(Value::Array(events)) => events.iter().collect(),
            event => Vec::from_iter(event),
        };
        Self {
            status: response.status().as_u16(),
            retcode: text(envelope.get("retcode")).unwrap_or_else(|| "none".to_owned()),
            reason: header_text(response, "x-previewgate-reason").map(str::to_owned),
            events: events.into_iter().filter_map(|event| text(event.get("eventType"))).collect(),
            call_id: text(envelope.get("result")),
        }
    }
}

fn header_text<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}
