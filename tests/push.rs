//! Push, both forms, over real sockets and TLS: sign-in through the gateway, events from the simulated CC-Gateway, an
//! application that calls from inside its push handler.

// Helpers of tests are not `#[test]` functions, which clippy.toml exempts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::convert::Infallible;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use previewgate::app::{App, Running};
use previewgate::config::{self, Files};
use previewgate::preview::{AgentId, ControlId};
use previewgate::simulator::{Authority, Delivery, SelfSigned, Simulator, SimulatorConfig, SimulatorHandle};
use previewgate::telemetry::Logging;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NUMBER: &str = "88889039";
const TOKEN: &str = "service-token-0123456789";
/// What the application answers a push with, to the byte.
const ANSWER: &str = "{ \"message\":\"thank you\",\t\"retcode\":\"0\" }";

fn agent() -> AgentId {
    "101".parse().unwrap()
}

/// Everything but the gateways: certificates, files, the simulated CC-Gateway, the application.
struct Site {
    directory: TempDir,
    identity: SelfSigned,
    simulator: Simulator,
    application: Application,
    /// Where the gateway of this site listens.
    gateway: SocketAddr,
}

impl Site {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let identity = Authority::new().unwrap().issue(&["127.0.0.1", "localhost"]).unwrap();
        let write = |name: &str, content: &[u8]| std::fs::write(directory.path().join(name), content).unwrap();
        write("site.crt", identity.certificate.as_bytes());
        write("site.key", identity.private_key.as_bytes());
        write("ca.crt", identity.ca.as_bytes());
        write("push.key", &[42; 32]);
        let tls = Some(identity.server_config().unwrap());
        let simulator = Simulator::start(SimulatorConfig { tls, ..SimulatorConfig::default() }).await.unwrap();
        let gateway = free_address();
        let application = Application::start(&identity, gateway).await;
        Self { directory, identity, simulator, application, gateway }
    }

    fn simulated(&self) -> SimulatorHandle {
        self.simulator.handle()
    }

    /// `[push]` that allows `targets`, with CC-Gateway pushing to `public`.
    fn push(public: SocketAddr, targets: &str) -> String {
        format!(
            "[push]\npublic_url = \"https://{public}\"\nkey = \"push.key\"\nallowed_targets = [{targets}]\n\
             timeout = \"5s\"\n[push.tls]\nca = \"ca.crt\"\n"
        )
    }

    /// The usual `[push]`.
    fn loopback(&self) -> String {
        Self::push(self.gateway, "\"https://127.0.0.0/8\"")
    }

    fn start(&self, more: &str) -> Gateway {
        self.start_at(self.gateway, more)
    }

    fn start_at(&self, address: SocketAddr, more: &str) -> Gateway {
        self.start_with(address, self.simulator.address(), more)
    }

    fn start_with(&self, address: SocketAddr, upstream: SocketAddr, more: &str) -> Gateway {
        let text = format!(
            "[listener]\naddress = \"{address}\"\n\
             [listener.tls]\ncertificate = \"site.crt\"\nprivate_key = \"site.key\"\n\
             [upstream]\nendpoints = [\"https://{upstream}\"]\n[upstream.tls]\nca = \"ca.crt\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\n[runtime]\nworkers = 1\n[log]\naccess = \"all\"\nlevel = \"debug\"\n\
             [shutdown]\ndrain = \"2s\"\n{more}",
        );
        Gateway::start(&text, self.directory.path())
    }

    async fn call(&self, method: Method, path: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        call(&self.identity, self.gateway, request_to(method, path, fields, body.into())).await
    }

    /// Signs in and returns what the gateway said.
    async fn sign_in(&self, body: impl Into<Bytes>) -> Answer {
        let fields = [("content-type", "application/json;charset=UTF-8")];
        self.call(Method::PUT, "/agentgateway/resource/onlineagent/101/forcelogin", &fields, body).await
    }

    async fn call_out(&self, control_id: i64) -> String {
        let guid = self.simulated().guid(agent()).unwrap();
        call_out(&self.identity, self.gateway, agent(), &guid, control_id, NUMBER).await
    }

    /// A sign-in for the current form of push, with the members in an order of their own.
    fn call_back_sign_in(&self) -> String {
        format!(
            "{{ \"phonenum\":\"40038\",\"callBackUri\" : \"{}\",\"serviceToken\":\"{TOKEN}\"}}",
            self.application.url()
        )
    }

    /// A sign-in for the older form of push.
    fn push_url_sign_in(&self) -> String {
        format!("{{\"password\":\"\",\"pushUrl\":\"{}\",\"phonenum\":\"40038\"}}", self.application.url())
    }

    /// Where the simulated CC-Gateway was told to push to.
    fn push_url(&self) -> String {
        match self.simulated().delivery(agent()) {
            Some(Delivery::Push { uri, .. } | Delivery::PushUrl { uri }) => uri,
            other => panic!("{other:?}"),
        }
    }

    /// Posts to a push address as CC-Gateway would.
    async fn post(&self, url: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let uri: http::Uri = url.parse().unwrap();
        let address = uri.authority().unwrap().as_str().parse().unwrap();
        call(&self.identity, address, request_to(Method::POST, uri.path(), fields, body.into())).await
    }
}

/// A port that nobody listens on: the gateway's address must be known before it starts, and stay when it restarts.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

struct Gateway {
    running: Running,
    log: CapturedLog,
    logging: Logging,
}

impl Gateway {
    fn start(text: &str, base: &Path) -> Self {
        let config = config::parse(text, base, Files::Check).unwrap_or_else(|problems| panic!("{problems}"));
        let log = CapturedLog::default();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone())).unwrap();
        let running = App::bind(config, &logging).unwrap().start().unwrap();
        Self { running, log, logging }
    }

    fn metric(&self, series: &str) -> String {
        let page = self.running.gateway.metrics.encode();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series}")).to_owned()
    }

    fn pushes(&self, outcome: &str) -> String {
        self.metric(&format!("previewgate_pushes_total{{outcome=\"{outcome}\"}}"))
    }

    fn sign_ins(&self, handling: &str) -> String {
        self.metric(&format!("previewgate_push_sign_ins_total{{handling=\"{handling}\"}}"))
    }

    /// Ends it and returns its log.
    async fn stop(self) -> String {
        let Self { running, log, logging } = self;
        running.stop();
        tokio::task::spawn_blocking(move || running.wait()).await.unwrap().unwrap();
        assert!(logging.writer.flush(Duration::from_secs(20)));
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }
}

#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One push, as the application saw it.
#[derive(Clone)]
struct Seen {
    target: String,
    headers: HeaderMap,
    body: Bytes,
    /// The retcode of each callout that it made before it answered.
    callouts: Vec<String>,
}

/// An application that calls the first number of every preview it is shown, from inside its push handler.
struct Application {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Application {
    async fn start(identity: &SelfSigned, gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let acceptor = TlsAcceptor::from(identity.server_config().unwrap());
        let (identity, pushes) = (identity.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, identity, pushes) = (acceptor.clone(), identity.clone(), Arc::clone(&pushes));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let handler = |request| handle_push(request, identity.clone(), gateway, Arc::clone(&pushes));
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service_fn(handler)).await;
                });
            }
        });
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("https://{}/cti/push?tenant=7", self.address)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn handle_push(
    request: Request<Incoming>,
    identity: SelfSigned,
    gateway: SocketAddr,
    pushes: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let push: Value = serde_json::from_slice(&body).unwrap_or_default();
    let guid = head.headers.get("guid").map(|guid| guid.to_str().unwrap().to_owned()).unwrap_or_default();
    let single = std::slice::from_ref(&push["event"]);
    let mut callouts = Vec::new();
    for event in push["eventList"].as_array().map_or(single, Vec::as_slice) {
        if let Some(control_id) = event["content"]["controlid"].as_i64() {
            callouts.push(call_out(&identity, gateway, agent(), &guid, control_id, NUMBER).await);
        }
    }
    pushes.lock().unwrap().push(Seen { target: head.uri.to_string(), headers: head.headers, body, callouts });
    let answer = Response::builder().header("content-type", "application/json").header("x-application", "mine");
    Ok(answer.body(Full::from(ANSWER)).unwrap())
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn retcode(&self) -> String {
        self.json()["retcode"].as_str().unwrap().to_owned()
    }
}

fn request_to(method: Method, path: &str, fields: &[(&str, &str)], body: Bytes) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "gate.example");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Full::from(body)).unwrap()
}

async fn call<B>(identity: &SelfSigned, address: SocketAddr, request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(identity.client_config().unwrap()).connect(name, socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

async fn call_out(
    identity: &SelfSigned,
    gateway: SocketAddr,
    agent: AgentId,
    guid: &str,
    control_id: i64,
    number: &str,
) -> String {
    let path = format!("/agentgateway/resource/voicecall/{agent}/previewCallout");
    let fields = [("guid", guid), ("content-type", "application/json;charset=UTF-8")];
    let body = json!({"called": number, "callcontrolid": control_id}).to_string();
    let answer = call(identity, gateway, request_to(Method::PUT, &path, &fields, body.into())).await;
    answer
        .headers
        .get("x-previewgate-reason")
        .map_or_else(|| answer.retcode(), |reason| reason.to_str().unwrap().to_owned())
}

fn preview(control_id: i64) -> Value {
    json!({"eventType": "AgentEvent_Preview_CallOut", "workNo": "101",
           "content": {"controlid": control_id, "dialeddigits": NUMBER, "callData": ""}})
}

/// Sign-in → event → push → recorded → callout from inside the application's handler → its answer back.
async fn end_to_end(sign_in: impl Fn(&Site) -> String, form: &str, token: Option<&str>) {
    let site = Site::new().await;
    let gateway = site.start(&site.loopback());
    let simulated = site.simulated();
    let sent = sign_in(&site);
    assert_eq!(site.sign_in(sent.clone()).await.retcode(), "0");

    // Nothing but the address has changed, and it leads to the gateway.
    let address = site.push_url();
    assert!(address.starts_with(&format!("https://{}/previewgate/push/{form}/101/", site.gateway)), "{address}");
    let arrived = simulated.journal().pop().unwrap();
    assert_eq!(String::from_utf8_lossy(&arrived.body), sent.replace(&site.application.url(), &address));
    assert_eq!(arrived.header("content-length").unwrap(), arrived.body.len().to_string());

    simulated.preview(agent(), ControlId(11776), NUMBER);
    simulated.wait_for_pushes(1).await;
    let answer = simulated.pushes()[0].answer.clone().unwrap();
    assert_eq!((answer.0, String::from_utf8_lossy(&answer.1).as_ref()), (200, ANSWER));
    let seen = &site.application.seen()[0];
    assert_eq!(seen.target, "/cti/push?tenant=7");
    assert_eq!(seen.headers["guid"], simulated.guid(agent()).unwrap());
    assert_eq!(seen.headers.get("service_token").map(|token| token.to_str().unwrap()), token);
    assert_eq!(seen.headers["host"], site.application.address.to_string());
    assert_eq!(seen.callouts, ["0"], "recorded before the application saw it");

    // Release: the preview is over.
    simulated.release(agent());
    let follow_ups = 3;
    wait_until(|| {
        gateway.metric(&format!(
            "previewgate_preview_events_total{{event_type=\"AgentEvent_Release_Preview\",delivery=\"{form}\"}}"
        )) == "1"
    })
    .await;
    assert_eq!(site.call_out(11776).await, "unknown_preview");

    let event =
        format!("previewgate_preview_events_total{{event_type=\"AgentEvent_Preview_CallOut\",delivery=\"{form}\"}}");
    assert_eq!((gateway.metric(&event).as_str(), gateway.sign_ins("rewritten").as_str()), ("1", "1"));
    let others = format!("previewgate_preview_events_total{{event_type=\"other\",delivery=\"{form}\"}}");
    wait_until(|| gateway.metric(&others) == follow_ups.to_string()).await;
    let log = gateway.stop().await;
    assert!(log.contains("\"operation\":\"pushEvents\""), "{log}");
    let capability = address.rsplit('/').next().unwrap();
    for secret in [capability, "/cti/push", TOKEN, NUMBER] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

/// For what is counted when an exchange ends, a moment after its answer.
async fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_back_uri_end_to_end() {
    end_to_end(Site::call_back_sign_in, "push", Some(TOKEN)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn push_url_end_to_end() {
    end_to_end(Site::push_url_sign_in, "push_url", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_and_body_of_a_push_and_of_its_answer_are_unchanged() {
    let site = Site::new().await;
    let gateway = site.start(&site.loopback());
    site.sign_in(site.call_back_sign_in()).await;
    let fields =
        [("guid", "g.AgentGateway1"), ("Service_Token", "t"), ("content-type", "text/plain"), ("x-odd", "a,b")];
    let body = "{\"workNo\":\"101\", \"eventList\":[ ],\"x\":\"\\u4f60\"}\n";
    let answer = site.post(&site.push_url(), &fields, body).await;
    assert_eq!((answer.status, answer.body.as_ref()), (StatusCode::OK, ANSWER.as_bytes()));
    assert_eq!(
        (&answer.headers["x-application"], &answer.headers["content-type"]),
        (&"mine".parse().unwrap(), &"application/json".parse().unwrap())
    );
    let seen = site.application.seen().pop().unwrap();
    assert_eq!(seen.body, body);
    let mut rest = seen.headers;
    for (name, value) in fields {
        assert_eq!(rest.remove(name).unwrap(), value);
    }
    let mut names: Vec<_> = rest.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["connection", "content-length", "host"], "nothing was added");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_gateway_relays_without_having_seen_the_sign_in() {
    let site = Site::new().await;
    let first = site.start(&site.loopback());
    site.sign_in(site.call_back_sign_in()).await;
    first.stop().await;
    let second = site.start(&site.loopback());
    site.simulated().preview(agent(), ControlId(7), NUMBER);
    site.simulated().wait_for_pushes(1).await;
    assert_eq!(site.application.seen()[0].callouts, ["0"]);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_instance_with_the_same_key_relays_what_this_one_issued() {
    let site = Site::new().await;
    let elsewhere = free_address();
    // Pushes of both come to the site's gateway; the sign-in goes through the other one.
    let (here, there) = (site.start(&site.loopback()), site.start_at(elsewhere, &site.loopback()));
    let fields = [("content-type", "application/json")];
    let path = "/agentgateway/resource/onlineagent/101";
    let sign_in = request_to(Method::PUT, path, &fields, site.push_url_sign_in().into());
    assert_eq!(call(&site.identity, elsewhere, sign_in).await.retcode(), "0");
    site.simulated().preview(agent(), ControlId(7), NUMBER);
    site.simulated().wait_for_pushes(1).await;
    assert_eq!(site.application.seen()[0].callouts, ["0"]);
    assert_eq!((here.pushes("relayed").as_str(), there.sign_ins("rewritten").as_str()), ("1", "1"));
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tampered_address_is_refused() {
    let site = Site::new().await;
    let gateway = site.start(&site.loopback());
    site.sign_in(site.call_back_sign_in()).await;
    let good = site.push_url();
    let (before, mac) = good.rsplit_once('.').unwrap();
    let flipped = if mac.starts_with('A') { mac.replacen('A', "B", 1) } else { format!("A{}", mac.split_at(1).1) };
    let tampered = [
        format!("{before}.{flipped}"),
        format!("{before}."),
        before.to_owned(),
        good.replace("/push/101/", "/push/102/"),
        good.replace("/push/push/", "/push/push_url/"),
        format!("https://{}/previewgate/push/push/101/aHR0cHM6Ly8xMjcuMC4wLjEv.AAAA", site.gateway),
    ];
    let body = json!({"workNo": "101", "eventList": [preview(9)]}).to_string();
    for url in &tampered {
        let answer = site.post(url, &[], body.clone()).await;
        assert_eq!((answer.status, answer.retcode().as_str()), (StatusCode::FORBIDDEN, "000-002"), "{url}");
    }
    assert_eq!(gateway.pushes("refused_signature"), tampered.len().to_string());
    // What is no push address at all, or no push, finds nothing; and nothing of it reaches the upstream.
    let requests = site.simulated().requests();
    let path = good.strip_prefix(&format!("https://{}", site.gateway)).unwrap();
    for (method, path) in
        [(Method::GET, path), (Method::POST, "/previewgate/push/push/x/y"), (Method::POST, "/previewgate/")]
    {
        assert_eq!(site.call(method, path, &[], "").await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!((site.simulated().requests(), site.application.seen().len()), (requests, 0));
    assert_eq!(site.call_out(9).await, "unknown_preview");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_for_a_target_that_is_not_allowed_is_refused() {
    let site = Site::new().await;
    let gateway = site.start(&site.loopback());
    let sign_in = |url: &str| json!({"pushUrl": url}).to_string();
    let port = site.application.address.port();
    let refused = [
        sign_in(&format!("http://127.0.0.1:{port}/")),
        sign_in("https://10.0.0.1/"),
        sign_in("https://evil.example/"),
        sign_in("https://127.0.0.1@evil.example/"),
        sign_in("https://127.1/"),
        sign_in(&format!("https://{}/agentgateway/resource/onlineagent/101/logout", site.simulator.address())),
        sign_in("file:///etc/passwd"),
        sign_in(&format!("https://127.0.0.1/{}", "x".repeat(2000))),
        "{\"pushUrl\":\"https://127.0.0.1/\",\"pushUrl\":\"https://127.0.0.1/\"}".to_owned(),
        "{\"pushUrl\":[\"https://127.0.0.1/\"]}".to_owned(),
    ];
    for body in &refused {
        let answer = site.sign_in(body.clone()).await;
        assert_eq!((answer.status, answer.retcode().as_str()), (StatusCode::OK, "100-001"), "{body}");
        assert!(answer.json()["message"].as_str().unwrap().contains("pushUrl"), "{answer:?}");
        assert!(answer.json().get("result").is_none());
    }
    assert_eq!((site.simulated().requests(), gateway.sign_ins("refused")), (0, refused.len().to_string()));
    gateway.stop().await;

    // Monitor mode refuses nothing.
    let gateway = site.start(&format!("{}[validation]\nmode = \"monitor\"\n", site.loopback()));
    assert_eq!(site.sign_in(sign_in("https://10.0.0.1/")).await.retcode(), "0");
    assert_eq!((site.push_url().as_str(), gateway.sign_ins("passed").as_str()), ("https://10.0.0.1/", "1"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_must_still_be_allowed_when_it_is_pushed_to() {
    let site = Site::new().await;
    let gateway = site.start(&site.loopback());
    site.sign_in(site.call_back_sign_in()).await;
    gateway.stop().await;
    let gateway = site.start(&Site::push(site.gateway, "\"https://10.0.0.0/8\""));
    let answer = site.post(&site.push_url(), &[], "{}").await;
    assert_eq!((answer.status, gateway.pushes("refused_target").as_str()), (StatusCode::FORBIDDEN, "1"));
    assert!(site.application.seen().is_empty());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_to_this_machine_needs_its_address_allowed_too() {
    let site = Site::new().await;
    let url = format!("https://localhost:{}/", site.application.address.port());
    let sign_in = json!({"pushUrl": url}).to_string();
    let gateway = site.start(&Site::push(site.gateway, "\"localhost\""));
    assert_eq!(site.sign_in(sign_in).await.retcode(), "0");
    let answer = site.post(&site.push_url(), &[], "{}").await;
    assert_eq!((answer.status, gateway.pushes("refused_target").as_str()), (StatusCode::FORBIDDEN, "1"));
    gateway.stop().await;

    let gateway = site.start(&Site::push(site.gateway, "\"localhost\", \"https://127.0.0.1\""));
    let answer = site.post(&site.push_url(), &[], "{}").await;
    assert_eq!((answer.status, site.application.seen().len()), (StatusCode::OK, 1));
    gateway.stop().await;
}

/// A network that is allowed may hold CC-Gateway too. A push to its interface would be a request that nobody has
/// judged: with the method and the number in the query, a callout to forgiving frameworks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstream_is_no_application_under_whatever_name() {
    let site = Site::new().await;
    let callout = "agentgateway/resource/voicecall/101/previewCallout?_method=PUT&called=1&callcontrolid=1";
    let gateway = site.start(&Site::push(site.gateway, "\"localhost\", \"https://127.0.0.0/8\""));
    for (host, pushed) in [("localhost", "1"), ("127.8.8.8", "2")] {
        let url = format!("https://{host}:{}/{callout}", site.simulator.address().port());
        assert_eq!(site.sign_in(json!({"pushUrl": url}).to_string()).await.retcode(), "0");
        let requests = site.simulated().requests();
        let answer = site.post(&site.push_url(), &[], "{}").await;
        assert_eq!(
            (answer.status, gateway.pushes("refused_target").as_str()),
            (StatusCode::FORBIDDEN, pushed),
            "{host}"
        );
        assert_eq!(site.simulated().requests(), requests, "{host}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_push_a_sign_in_that_asks_for_it_passes_and_is_told_once() {
    let site = Site::new().await;
    let gateway = site.start("");
    for body in [site.call_back_sign_in(), site.push_url_sign_in(), "{\"pushUrl\":1,\"pushUrl\":2}".to_owned()] {
        assert_eq!(site.sign_in(body.clone()).await.retcode(), "0");
        assert_eq!(site.simulated().journal().pop().unwrap().body, body);
    }
    // These do not ask for push, or cannot be understood.
    for body in ["{\"callBackUri\":\"https://a\"}".to_owned(), format!("{{\"a\":\"{}\"}}", "x".repeat(100_000))] {
        assert_eq!(site.sign_in(body.clone()).await.retcode(), "0");
        assert_eq!(site.simulated().journal().pop().unwrap().body, body);
    }
    assert_eq!((gateway.sign_ins("passed").as_str(), gateway.sign_ins("unread").as_str()), ("3", "1"));
    let push = site.call(Method::POST, "/previewgate/push/push/101/x.y", &[], "").await;
    assert_eq!(push.status, StatusCode::NOT_FOUND);
    let log = gateway.stop().await;
    assert_eq!(log.matches("sign-in asks for push").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_count_in_their_order_and_for_their_agent_only() {
    let site = Site::new().await;
    let gateway = site.start(&site.loopback());
    site.sign_in(site.call_back_sign_in()).await;
    let simulated = site.simulated();
    for control_id in [1, 2, 3, 4] {
        simulated.shown(agent(), ControlId(control_id), &[NUMBER]);
    }
    let release = json!({"eventType": "AgentEvent_Release_Preview", "workNo": "101", "content": null});
    let mut foreign = preview(3);
    foreign["workNo"] = json!("102");
    let mut unnamed = preview(4);
    unnamed.as_object_mut().unwrap().remove("workNo");
    let push = json!({"workNo": "101", "eventList": [preview(1), release, preview(2), foreign, unnamed]}).to_string();
    let guid = simulated.guid(agent()).unwrap();
    let answer = site.post(&site.push_url(), &[("guid", guid.as_str())], push).await;
    assert_eq!(answer.status, StatusCode::OK);
    let reasons = ["control_id_mismatch", "0", "control_id_mismatch", "0"];
    // The application called each of them from inside its handler: 1, 2, 3, 4. (What happened to those calls was pushed
    // to it meanwhile.)
    let seen = site.application.seen();
    let ours: Vec<_> = seen.iter().filter(|seen| !seen.callouts.is_empty()).collect();
    assert_eq!((ours.len(), &ours[0].callouts[..]), (1, &reasons.map(str::to_owned)[..]));
    assert_eq!(gateway.metric("previewgate_event_parse_failures_total"), "1");
    assert!(gateway.running.gateway.store.local().previews("102".parse().unwrap()).is_none());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_cannot_be_reached_is_the_platforms_to_know() {
    let site = Site::new().await;
    let gateway = site.start(&site.loopback());
    let nobody = free_address();
    site.sign_in(json!({"pushUrl": format!("https://{nobody}/")}).to_string()).await;
    site.simulated().preview(agent(), ControlId(5), NUMBER);
    site.simulated().wait_for_pushes(1).await;
    let (status, body) = site.simulated().pushes()[0].answer.clone().unwrap();
    let envelope: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &envelope["retcode"]), (502, &json!("100-007")));
    assert!(!String::from_utf8_lossy(&body).contains(&nobody.to_string()));
    wait_until(|| gateway.pushes("failed") == "1").await;
    // The platform gave the agent this contact, whether the application heard of it or not.
    assert_eq!(site.call_out(5).await, "0");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_does_not_answer_is_waited_for_so_long_and_asked_once() {
    let site = Site::new().await;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let push = Site::push(site.gateway, "\"127.0.0.1\"").replace("\"5s\"", "\"200ms\"");
    let gateway = site.start(&push);
    site.sign_in(json!({"pushUrl": format!("http://{}/", silent.local_addr().unwrap())}).to_string()).await;
    let answer = site.post(&site.push_url(), &[], "{}").await;
    assert_eq!((answer.status, answer.retcode().as_str()), (StatusCode::GATEWAY_TIMEOUT, "100-007"));
    silent.accept().await.unwrap();
    let again = tokio::time::timeout(Duration::from_millis(300), silent.accept()).await;
    assert!(again.is_err(), "a push that may have been sent was sent again");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_push_is_delivered_even_if_the_platform_does_not_wait() {
    let site = Site::new().await;
    let slow = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let gateway = site.start(&Site::push(site.gateway, "\"127.0.0.1\""));
    site.sign_in(json!({"pushUrl": format!("http://{}/", slow.local_addr().unwrap())}).to_string()).await;
    let (url, identity) = (site.push_url(), site.identity.clone());
    site.simulated().shown(agent(), ControlId(6), &[NUMBER]);
    let push = json!({"retcode": "0", "event": preview(6)}).to_string();
    let path = url.parse::<http::Uri>().unwrap().path().to_owned();
    let post = call_until_dropped(&identity, site.gateway, request_to(Method::POST, &path, &[], push.into())).await;
    let (mut socket, _) = slow.accept().await.unwrap();
    let mut head = [0; 64];
    socket.read_exact(&mut head).await.unwrap();
    drop(post);
    wait_until(|| gateway.metric("previewgate_connections_open{side=\"downstream\"}") == "0").await;
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    wait_until(|| gateway.pushes("relayed") == "1").await;
    // What becomes of the call is pushed too: it should fail at once instead of waiting for an answer.
    drop((slow, socket));
    assert_eq!(site.call_out(6).await, "0");
    gateway.stop().await;
}

/// Sends a request; the connection ends when the result is dropped.
async fn call_until_dropped(
    identity: &SelfSigned,
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> tokio::task::JoinSet<()> {
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(identity.client_config().unwrap()).connect(name, socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    tasks.spawn(async move { drop(sender.send_request(request).await) });
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_without_a_length_gets_one_when_it_is_rewritten() {
    let site = Site::new().await;
    let gateway = site.start(&site.loopback());
    let sign_in = site.push_url_sign_in();
    let (first, rest) = sign_in.split_at(30);
    let frame = |text: &str| Ok::<_, Infallible>(http_body::Frame::data(Bytes::copy_from_slice(text.as_bytes())));
    let chunks = http_body_util::StreamBody::new(futures_util::stream::iter([frame(first), frame(rest)]));
    let request = Request::put("/agentgateway/resource/onlineagent/101/loginex").header("host", "gate.example");
    let answer = call(&site.identity, site.gateway, request.body(chunks).unwrap()).await;
    assert_eq!(answer.retcode(), "0");
    let arrived = site.simulated().journal().pop().unwrap();
    assert_eq!(arrived.body, sign_in.replace(&site.application.url(), &site.push_url()));
    assert_eq!(arrived.header("content-length").unwrap(), arrived.body.len().to_string());
    assert_eq!(arrived.header("transfer-encoding"), None);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_to_look_into_is_relayed_unseen() {
    let site = Site::new().await;
    let gateway = site.start(&format!("{}[limits]\nevent_body = \"4KiB\"\n", site.loopback()));
    site.sign_in(site.call_back_sign_in()).await;
    let body = format!("{{\"eventList\":[],\"x\":\"{}\"}}", "x".repeat(300_000));
    let answer = site.post(&site.push_url(), &[], body.clone()).await;
    assert_eq!((answer.status, site.application.seen()[0].body == body), (StatusCode::OK, true));
    assert_eq!(gateway.metric("previewgate_event_bodies_unread_total"), "1");
    gateway.stop().await;
}

/// A CC-Gateway that pushes one preview into every new session before it answers the sign-in.
async fn hasty_platform(identity: &SelfSigned) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (identity, sessions) = (identity.clone(), Arc::new(AtomicI64::new(0)));
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(identity.server_config().unwrap());
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, identity, sessions) = (acceptor.clone(), identity.clone(), Arc::clone(&sessions));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let answer = |request| answer_hastily(request, identity.clone(), Arc::clone(&sessions));
                let builder = hyper::server::conn::http1::Builder::new();
                let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
    address
}

async fn answer_hastily(
    request: Request<Incoming>,
    identity: SelfSigned,
    sessions: Arc<AtomicI64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    if let Some(url) = body["pushUrl"].as_str() {
        let event = preview(sessions.fetch_add(1, Ordering::Relaxed) + 1);
        let push = json!({"message": "", "retcode": "0", "event": event}).to_string();
        let url: http::Uri = url.parse().unwrap();
        let gateway = url.authority().unwrap().as_str().parse().unwrap();
        let push = request_to(Method::POST, url.path(), &[("guid", "g")], push.into());
        assert_eq!(call(&identity, gateway, push).await.status, StatusCode::OK);
    }
    Ok(Response::new(Full::from("{\"message\":\"\",\"retcode\":\"0\"}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_push_may_be_faster_than_the_answer_to_its_sign_in() {
    let site = Site::new().await;
    let platform = hasty_platform(&site.identity).await;
    let gateway = site.start_with(site.gateway, platform, &site.loopback());
    let call_out = |control_id| call_out(&site.identity, site.gateway, agent(), "g", control_id, NUMBER);
    assert_eq!(site.sign_in(site.push_url_sign_in()).await.retcode(), "0");
    assert_eq!(call_out(1).await, "0");
    // The gateway tells what came before a sign-in from what came after by its clock, which has milliseconds.
    let clock = &gateway.running.gateway.clock;
    let signed_in = clock.now();
    wait_until(|| clock.now() > signed_in).await;
    assert_eq!(site.sign_in(site.push_url_sign_in()).await.retcode(), "0");
    assert_eq!((call_out(1).await.as_str(), call_out(2).await.as_str()), ("control_id_mismatch", "0"));
    gateway.stop().await;
}
