//! Gateways in this process that share one Redis, one simulator behind them all, and their agents.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use previewgate::app::{App, Running};
use previewgate::config::{self, Files};
use previewgate::preview::{AgentId, ControlId};
use previewgate::simulator::{Delivery, Simulator, SimulatorConfig, SimulatorHandle};
use previewgate::store::{Ledger, StoreState};
use previewgate::telemetry::Logging;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::RedisServer;

const PATIENCE: Duration = Duration::from_secs(20);
const API: &str = "/agentgateway/resource";

pub(crate) fn agent(number: u32) -> AgentId {
    AgentId::try_from(number).unwrap()
}

/// Looks again and again: nobody tells when a metric or a state changes.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Everything of one test.
pub(crate) struct Lab {
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) redis: RedisServer,
    simulator: SimulatorHandle,
    _upstream: Simulator,
}

impl Lab {
    /// One gateway for each element of `settings`, which are further lines of `[previews.store]`; all connected.
    pub(crate) async fn start(redis: RedisServer, settings: &[&str]) -> Self {
        let lab = Self::start_unconnected(redis, settings).await;
        until("all gateways to be connected", || lab.gateways.iter().all(Gateway::is_well)).await;
        lab
    }

    /// The same, connected or not.
    pub(crate) async fn start_unconnected(redis: RedisServer, settings: &[&str]) -> Self {
        let honest = SimulatorConfig { follow_ups: false, lenient_callouts: true, ..SimulatorConfig::default() };
        let upstream = Simulator::start(honest).await.unwrap();
        let start = |lines: &&str| Gateway::start(&redis, upstream.address(), lines, upstream.handle());
        let gateways = settings.iter().map(start).collect();
        Self { gateways, redis, simulator: upstream.handle(), _upstream: upstream }
    }

    /// Shows the agent a preview through this gateway.
    pub(crate) async fn shown(&self, gateway: &Gateway, number: u32, control_id: i64, numbers: &str) {
        self.simulator.preview(agent(number), ControlId(control_id), numbers);
        let event = gateway.poll(number).await.json();
        assert_eq!(event["event"]["content"]["controlid"], control_id, "{event}");
    }

    /// Ends the agent's previews through this gateway.
    pub(crate) async fn released(&self, gateway: &Gateway, number: u32) {
        self.simulator.release(agent(number));
        let event = gateway.poll(number).await.json();
        assert_eq!(event["event"]["eventType"], "AgentEvent_Release_Preview", "{event}");
    }
}

/// One gateway.
pub(crate) struct Gateway {
    running: Running,
    simulator: SimulatorHandle,
    log: CapturedLog,
    logging: Logging,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `X-Previewgate-Reason`, or "forwarded".
    pub(crate) reason: String,
    body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn retcode(&self) -> String {
        self.json()["retcode"].as_str().unwrap().to_owned()
    }

    pub(crate) fn text(&self) -> &str {
        &self.body
    }
}

impl Gateway {
    fn start(redis: &RedisServer, upstream: SocketAddr, lines: &str, simulator: SimulatorHandle) -> Self {
        let store = redis.settings();
        let text = format!(
            r#"
            [listener]
            address = "127.0.0.1:0"
            [upstream]
            endpoints = ["http://{upstream}"]
            [previews]
            per_agent = 128
            [previews.store]
            {store}
            {lines}
            [admin]
            address = "127.0.0.1:0"
            [runtime]
            workers = 1
            [shutdown]
            drain = "1s"
            "#
        );
        let config = config::parse(&text, redis.directory.path(), Files::Check);
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let log = CapturedLog::default();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone())).unwrap();
        let running = App::bind(config, &logging).unwrap().start().unwrap();
        Self { running, simulator, log, logging }
    }

    pub(crate) fn store(&self) -> Arc<Ledger> {
        Arc::clone(&self.running.services.ledger)
    }

    /// Connected, and Redis knows everything that this gateway does.
    pub(crate) fn is_well(&self) -> bool {
        self.running.services.ledger.state() == StoreState::Ok
    }

    /// Asks to call this number of this preview.
    pub(crate) async fn call(&self, number: u32, control_id: i64, called: &str) -> Answer {
        let before = self.simulator.callouts().len();
        let body = json!({"called": called, "callcontrolid": control_id}).to_string();
        let answer = self.ask("PUT", &format!("/voicecall/{number}/previewCallout"), number, &body).await;
        let rung = self.simulator.callouts().len() - before;
        assert_eq!(rung, usize::from(answer.reason == "forwarded"), "{} {}", answer.reason, answer.body);
        answer
    }

    pub(crate) async fn cancel(&self, number: u32, control_id: i64) -> Answer {
        let body = json!({"callcontrolid": control_id}).to_string();
        self.ask("PUT", &format!("/voicecall/{number}/cancelPreviewCallout"), number, &body).await
    }

    /// Signs in for push to `url`; returns the path that pushes come to at `http://gate.example:8043`.
    pub(crate) async fn sign_in_for_push(&self, number: u32, url: &str) -> String {
        let body = json!({"password": "", "phonenum": "40038", "pushUrl": url}).to_string();
        let answer = self.ask("PUT", &format!("/onlineagent/{number}/forcelogin"), number, &body).await;
        assert_eq!(answer.retcode(), "0", "{}", answer.body);
        let Some(Delivery::PushUrl { uri }) = self.simulator.delivery(agent(number)) else { panic!("no push") };
        uri.strip_prefix("http://gate.example:8043").unwrap().to_owned()
    }

    /// Pushes a preview to `path`, as CC-Gateway would.
    pub(crate) async fn push(&self, path: &str, control_id: i64, numbers: &str) -> Answer {
        let content = json!({"dialeddigits": numbers, "controlid": control_id});
        let event = json!({"eventType": "AgentEvent_Preview_CallOut", "content": content});
        let head = format!("POST {path} HTTP/1.1\r\nHost: gateway\r\n");
        exchange(self.running.address, &head, &json!({"event": event}).to_string()).await
    }

    pub(crate) async fn sign_out(&self, number: u32) -> Answer {
        self.ask("DELETE", &format!("/onlineagent/{number}/logout"), number, "").await
    }

    pub(crate) async fn poll(&self, number: u32) -> Answer {
        self.ask("GET", &format!("/agentevent/{number}"), number, "").await
    }

    async fn ask(&self, method: &str, resource: &str, number: u32, body: &str) -> Answer {
        let id = agent(number);
        let guid = self.simulator.guid(id).unwrap_or_else(|| self.simulator.sign_in_directly(id));
        let head = format!("{method} {API}{resource} HTTP/1.1\r\nHost: gateway\r\nGuid: {guid}\r\n");
        exchange(self.running.address, &head, body).await
    }

    pub(crate) async fn admin(&self, path: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
        exchange(self.running.admin_address, &head, "").await
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        self.admin(path).await.json()
    }

    /// What the admin listener says of the store.
    pub(crate) async fn admin_store(&self, number: u32) -> String {
        self.json(&format!("/previews/{number}")).await["store"].as_str().unwrap().to_owned()
    }

    /// Operations on the store so far.
    pub(crate) fn counted(&self, operation: &str, outcome: &str) -> f64 {
        self.metric(&format!("previewgate_store_operations_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}"))
    }

    /// The present value of a series.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let page = self.running.services.metrics.encode();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
    }

    /// What was logged so far.
    pub(crate) fn log(&self) -> String {
        assert!(self.logging.writer.flush(PATIENCE));
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.running.stop();
    }
}

/// One request over a connection of its own.
async fn exchange(address: SocketAddr, head: &str, body: &str) -> Answer {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let rest = format!(
            "Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    assert_eq!(field("transfer-encoding"), None, "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let reason = field("x-previewgate-reason").unwrap_or_else(|| "forwarded".to_owned());
    Answer { status, reason, body: body.to_owned() }
}

/// A log that can be read.
#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
