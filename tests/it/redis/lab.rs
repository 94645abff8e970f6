//! Gateways in this process that share one Redis, one simulator behind them all, and their agents.

use previewgate::simulator::Delivery;
use serde_json::{Value, json};

use crate::support::{
    API, Access, Agent, Answer, Gateway, Kind, RedisServer, Relay, Request, Setup, Site, eventually, id,
};

/// Everything of one test. `R` is the server; a test that needs to handle it apart has it elsewhere.
pub(crate) struct RedisLab<R = RedisServer> {
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) redis: R,
    _site: Site,
}

impl RedisLab {
    /// A Redis without TLS and passwords, and one connected gateway for each element of `settings`, which are further
    /// lines of `[previews.store]`; nothing where there is no Redis.
    pub(crate) async fn start(settings: &[&str]) -> Option<Self> {
        Some(Self::with(RedisServer::start(Kind::Plain)?, settings).await)
    }

    /// Gateways that are connected to this Redis.
    pub(crate) async fn with(redis: RedisServer, settings: &[&str]) -> Self {
        let lab = Self::unconnected(redis, settings).await;
        lab.all_well().await;
        lab
    }

    /// Gateways that may be connected or not.
    pub(crate) async fn unconnected(redis: RedisServer, settings: &[&str]) -> Self {
        let store = redis.settings();
        Self::reaching(redis, &store, settings).await
    }
}

impl<R> RedisLab<R> {
    /// Gateways that reach a Redis by `store`, their `[previews.store]`.
    pub(crate) async fn reaching(redis: R, store: &str, settings: &[&str]) -> Self {
        Self::reaching_each(redis, &vec![store.to_owned(); settings.len()], settings).await
    }

    /// Gateways that reach Redis through a relay each. They may be connected or not.
    pub(crate) async fn through(redis: R, relays: &[Relay], settings: &[&str]) -> Self {
        let store =
            |relay: &Relay| format!("[previews.store]\nkind = \"redis\"\nurl = \"redis://{}\"\n", relay.address());
        let stores: Vec<_> = relays.iter().map(store).collect();
        Self::reaching_each(redis, &stores, settings).await
    }

    async fn reaching_each(redis: R, stores: &[String], settings: &[&str]) -> Self {
        let site = Setup::plain().lenient().site().await;
        site.write("push.key", [42; 32]);
        let start = |(store, lines): (&String, &&str)| {
            // Keys of other tables come before the table of the store.
            let other =
                |line: &&str| ["previews.", "shutdown.", "upstream."].iter().any(|table| line.starts_with(table));
            let first: Vec<_> = lines.lines().take_while(other).collect();
            let rest: Vec<_> = lines.lines().skip(first.len()).collect();
            site.start_another(&format!("previews.per_agent = 128\n{}\n{store}{}", first.join("\n"), rest.join("\n")))
        };
        let gateways = stores.iter().zip(settings).map(start).collect();
        Self { gateways, redis, _site: site }
    }

    /// Waits until all gateways are connected, and Redis knows everything that they do.
    pub(crate) async fn all_well(&self) {
        eventually("all gateways to be well", || self.gateways.iter().all(Gateway::is_well)).await;
    }

    /// Waits until all gateways know that Redis is away.
    pub(crate) async fn all_lost(&self) {
        eventually("the loss to be noticed", || self.gateways.iter().all(|gateway| !gateway.is_well())).await;
    }

    /// Waits until the next event is later by the clock of every gateway. The clocks have milliseconds, and can differ by
    /// one; events that come through different gateways are ordered by them.
    pub(crate) async fn clocks_tick(&self) {
        for gateway in &self.gateways {
            for _ in 0..3 {
                gateway.clock_ticks().await;
            }
        }
    }

    /// Shows the agent a preview through this gateway.
    pub(crate) async fn shown(&self, gateway: &Gateway, number: u32, control_id: i64, numbers: &str) {
        gateway.agent_from_elsewhere(number).shown(control_id, numbers).await;
        self.clocks_tick().await;
    }

    /// Ends the agent's previews through this gateway.
    pub(crate) async fn released(&self, gateway: &Gateway, number: u32) {
        gateway.agent_from_elsewhere(number).released().await;
        self.clocks_tick().await;
    }
}

/// What these tests do with one of several gateways.
pub(crate) trait Shared {
    /// Asks to call this number of this preview: the telephone rings exactly if the gateway does not refuse.
    fn call(&self, number: u32, control_id: i64, called: &str) -> impl Future<Output = Answer>;
    fn cancel(&self, number: u32, control_id: i64) -> impl Future<Output = Answer>;
    fn sign_out(&self, number: u32) -> impl Future<Output = Answer>;
    /// Signs in for push to `url`; returns the path that pushes come to at `http://gate.example:8043`.
    fn sign_in_for_push(&self, number: u32, url: &str) -> impl Future<Output = String>;
    /// Pushes a preview to `path`, as CC-Gateway would.
    fn push(&self, path: &str, control_id: i64, numbers: &str) -> impl Future<Output = Answer>;
    /// The state of the store on the admin listener.
    fn admin_store(&self, number: u32) -> impl Future<Output = String>;
    /// Operations on the store so far.
    fn counted(&self, operation: &str, outcome: &str) -> f64;
}

impl Shared for Gateway {
    async fn call(&self, number: u32, control_id: i64, called: &str) -> Answer {
        let before = self.simulator.callouts().len();
        let answer = self.agent_from_elsewhere(number).call(control_id, called).await;
        let rung = self.simulator.callouts().len() - before;
        assert_eq!(rung, usize::from(answer.verdict() == "ok"), "{answer:?}");
        answer
    }

    async fn cancel(&self, number: u32, control_id: i64) -> Answer {
        let body = json!({"callcontrolid": control_id});
        self.send(&of(self, number, "PUT", &format!("voicecall/{number}/cancelPreviewCallout")).json(&body)).await
    }

    async fn sign_out(&self, number: u32) -> Answer {
        self.send(&of(self, number, "DELETE", &format!("onlineagent/{number}/logout"))).await
    }

    async fn sign_in_for_push(&self, number: u32, url: &str) -> String {
        let body = json!({"password": "", "phonenum": "40038", "pushUrl": url});
        let request = of(self, number, "PUT", &format!("onlineagent/{number}/forcelogin")).json(&body);
        assert_eq!(self.send(&request).await.passed().retcode(), "0");
        let Some(Delivery::PushUrl { uri }) = self.simulator.delivery(id(number)) else { panic!("no push") };
        uri.strip_prefix("http://gate.example:8043").unwrap().to_owned()
    }

    async fn push(&self, path: &str, control_id: i64, numbers: &str) -> Answer {
        let content = json!({"dialeddigits": numbers, "controlid": control_id});
        let event = json!({"eventType": "AgentEvent_Preview_CallOut", "content": content});
        self.send(&Request::post(path).body(json!({"event": event}).to_string())).await
    }

    async fn admin_store(&self, number: u32) -> String {
        let page: Value = self.admin(&format!("/previews/{number}")).await.json();
        page["store"].as_str().unwrap().to_owned()
    }

    fn counted(&self, operation: &str, outcome: &str) -> f64 {
        let labels = format!("{{operation=\"{operation}\",outcome=\"{outcome}\"}}");
        self.metric(&format!("previewgate_store_operations_total{labels}"))
    }
}

/// A request of this agent.
fn of(access: &Access, number: u32, method: &str, path: &str) -> Request {
    let agent: Agent = access.agent_from_elsewhere(number);
    Request::new(method, format!("{API}/{path}")).guid(&agent.guid)
}
