//! Behaviour over real sockets, plain and TLS.

mod calls;
mod faults;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::preview::{AgentId, ControlId};

const BASE: &str = "/agentgateway/resource";

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A client that sees every byte.
struct Client(Box<dyn Stream>);

impl Client {
    async fn connect(simulator: &Simulator) -> Self {
        Self(Box::new(TcpStream::connect(simulator.address()).await.unwrap()))
    }

    async fn connect_tls(simulator: &Simulator, trust: &SelfSigned) -> Self {
        let socket = TcpStream::connect(simulator.address()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(trust.client_config().unwrap());
        Self(Box::new(connector.connect("localhost".try_into().unwrap(), socket).await.unwrap()))
    }

    async fn write(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn send(&mut self, method: &str, target: &str, guid: &str, body: &str) {
        let length = body.len();
        let guid = if guid.is_empty() { String::new() } else { format!("guid: {guid}\r\n") };
        self.write(&format!("{method} {target} HTTP/1.1\r\nHost: cc\r\n{guid}Content-Length: {length}\r\n\r\n{body}"))
            .await;
    }

    async fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    async fn read(&mut self) -> (String, Vec<u8>) {
        let head = self.read_head().await;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        (head, body)
    }

    async fn ask(&mut self, method: &str, target: &str, guid: &str, body: &str) -> Value {
        self.send(method, target, guid, body).await;
        serde_json::from_slice(&self.read().await.1).unwrap()
    }

    async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await.map(|_| bytes)
    }
}

async fn simulator() -> (Simulator, SimulatorHandle) {
    with(SimulatorConfig::default()).await
}

async fn with(config: SimulatorConfig) -> (Simulator, SimulatorHandle) {
    let simulator = Simulator::start(config).await.unwrap();
    let handle = simulator.handle();
    (simulator, handle)
}

fn agent() -> AgentId {
    "101".parse().unwrap()
}

fn callout(called: &str, control_id: &str) -> String {
    json!({"called": called, "callcontrolid": control_id}).to_string()
}

fn retcode(answer: &Value) -> &str {
    answer["retcode"].as_str().unwrap()
}

fn guid_in(head: &str) -> String {
    head.lines().find_map(|line| line.strip_prefix("Set-GUID: JSESSIONID=")).unwrap().to_owned()
}

#[tokio::test]
async fn an_agent_signs_in_sees_a_preview_and_calls_it() {
    let (simulator, handle) = simulator().await;
    let mut client = Client::connect(&simulator).await;
    client.send("PUT", &format!("{BASE}/onlineagent/101"), "", "{}").await;
    let (head, _) = client.read().await;
    assert!(head.contains("Set-Cookie: JSESSIONID="), "{head}");
    let guid = guid_in(&head);
    assert!(guid.ends_with(".AgentGateway1"));
    assert_eq!(retcode(&client.ask("PUT", &format!("{BASE}/onlineagent/101"), "", "{}").await), "100-002");

    let target = format!("{BASE}/voicecall/101/previewCallout");
    assert_eq!(retcode(&client.ask("PUT", &target, &guid, &callout("100", "7")).await), "200-001");

    client.send("GET", &format!("{BASE}/agentevent/101?calldata=x"), &guid, "").await;
    handle.wait_for_held_polls(1).await;
    handle.preview(agent(), ControlId(7), "100,101");
    let polled: Value = serde_json::from_slice(&client.read().await.1).unwrap();
    assert_eq!(polled["event"]["eventType"], "AgentEvent_Preview_CallOut_Ex");
    assert_eq!(handle.held_polls(), 0);

    for (method, guid, body, expected) in [
        ("POST", guid.as_str(), callout("101", "7"), "000-002"),
        ("PUT", guid.as_str(), "{".to_owned(), "000-002"),
        ("PUT", guid.as_str(), callout("", "7"), "000-002"),
        ("PUT", guid.as_str(), callout("102", "7"), "200-001"),
        ("PUT", guid.as_str(), callout("101", "8"), "200-001"),
        ("PUT", "stranger", callout("101", "7"), "000-003"),
        ("PUT", "", callout("101", "7"), "000-003"),
    ] {
        assert_eq!(retcode(&client.ask(method, &target, guid, &body).await), expected, "{method} {body}");
    }
    let called = client.ask("PUT", &target.to_lowercase(), &guid, &callout("101", "7")).await;
    assert_eq!(retcode(&called), "0");
    assert!(called["result"].as_str().unwrap().contains('-'));
    for expected in ["AgentOther_PhoneAlerting", "AgentOther_PhoneOffhook", "AgentEvent_Talking"] {
        let polled = client.ask("GET", &format!("{BASE}/agentevent/101"), &guid, "").await;
        assert_eq!(polled["event"]["eventType"], expected);
    }

    let cancel = format!("{BASE}/voicecall/101/cancelPreviewCallout");
    assert_eq!(retcode(&client.ask("PUT", &cancel, &guid, r#"{"callcontrolid":7}"#).await), "0");
    assert_eq!(retcode(&client.ask("PUT", &target, &guid, &callout("101", "7")).await), "200-001");
    assert_eq!(retcode(&client.ask("DELETE", &format!("{BASE}/onlineagent/101/logout"), &guid, "").await), "0");
    assert_eq!(retcode(&client.ask("GET", &format!("{BASE}/agentevent/101"), &guid, "").await), "100-006");
    assert_eq!(handle.callouts().len(), 10);
    assert_eq!(handle.events_delivered(agent()), 4);
    assert_eq!(handle.connections_accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_poll_takes_the_documented_time_and_silence_signs_out() {
    let (simulator, handle) = simulator().await;
    let guid = handle.sign_in_directly(agent());
    let mut client = Client::connect(&simulator).await;
    let start = tokio::time::Instant::now();
    let polled = client.ask("GET", &format!("{BASE}/agentevent/101"), &guid, "").await;
    assert_eq!(polled, json!({"message": "", "retcode": "0"}));
    assert_eq!(start.elapsed().as_secs(), 10);
    tokio::time::advance(Duration::from_secs(121)).await;
    assert_eq!(retcode(&client.ask("GET", &format!("{BASE}/agentevent/101"), &guid, "").await), "100-006");
}

#[tokio::test]
async fn all_agents_are_polled_at_once_and_supervisors_sign_others_out() {
    let (simulator, handle) = simulator().await;
    let other: AgentId = "102".parse().unwrap();
    let guid = handle.sign_in_directly(agent());
    handle.sign_in_directly(other);
    handle.preview(agent(), ControlId(1), "1");
    handle.release(other);
    let mut client = Client::connect(&simulator).await;
    let polled = client.ask("GET", &format!("{BASE}/agentevent/allagentevent"), &guid, "").await;
    assert_eq!(polled["event"].as_array().unwrap().len(), 2);
    client.send("GET", &format!("{BASE}/agentevent/allagentevent"), &guid, "").await;
    handle.wait_for_held_polls(1).await;
    handle.release(other);
    assert!(String::from_utf8(client.read().await.1).unwrap().contains("Release"));
    let target = format!("{BASE}/qualitycontrol/101/forcelogout/102");
    assert_eq!(retcode(&client.ask("POST", &target, &guid, "").await), "0");
    assert_eq!(handle.guid(other), None);
}

#[tokio::test]
async fn dynamic_authentication_renews_the_guid_and_the_old_one_lasts_a_while() {
    let (simulator, handle) =
        with(SimulatorConfig { auth: AuthMode::Dynamic { every: 2 }, ..Default::default() }).await;
    let guid = handle.sign_in_directly(agent());
    let mut client = Client::connect(&simulator).await;
    let target = format!("{BASE}/onlineagent/101/handshake");
    client.send("POST", &target, &guid, "").await;
    assert!(!client.read().await.0.contains("Set-GUID"));
    client.send("POST", &target, &guid, "").await;
    let renewed = guid_in(&client.read().await.0);
    assert_ne!(renewed, guid);
    assert_eq!(retcode(&client.ask("POST", &target, &guid, "").await), "0");
    assert_eq!(retcode(&client.ask("POST", &target, &renewed, "").await), "0");
}

#[tokio::test]
async fn raw_answers_go_out_as_they_are_and_an_abandoned_poll_takes_nothing() {
    let (simulator, handle) = simulator().await;
    let guid = handle.sign_in_directly(agent());
    let mut gone = Client::connect(&simulator).await;
    gone.send("GET", &format!("{BASE}/agentevent/101"), &guid, "").await;
    handle.wait_for_held_polls(1).await;
    drop(gone);
    handle.wait_for_no_held_poll().await;
    handle.inject_raw(agent(), b"\xff\x00".to_vec(), &[("content-type", "application/json;charset=GBK")]);
    let mut client = Client::connect(&simulator).await;
    client.send("GET", &format!("{BASE}/agentevent/101"), &guid, "").await;
    let (head, body) = client.read().await;
    assert!(head.contains("content-type: application/json;charset=GBK\r\n"), "{head}");
    assert_eq!(body, b"\xff\x00");
}

#[tokio::test]
async fn bodies_of_any_framing_are_counted_and_downloads_generated_over_tls() {
    let certificates = self_signed(&["localhost", "127.0.0.1"]).unwrap();
    let tls = Some(certificates.server_config().unwrap());
    let (simulator, handle) = with(SimulatorConfig { tls, ..Default::default() }).await;
    let mut client = Client::connect_tls(&simulator, &certificates).await;
    client
        .write(&format!(
            "POST {BASE}/chat/1/upload HTTP/1.1\r\nHost: cc\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n"
        ))
        .await;
    handle.wait_for_body_bytes(5).await; // before the body is over: it is not collected first
    client.write("1\r\n!\r\n0\r\nTrailer: x\r\n\r\n").await;
    let answer: Value = serde_json::from_slice(&client.read().await.1).unwrap();
    assert_eq!(answer["result"]["bytes"], 6);

    client
        .write(&format!("POST {BASE}/x/echo HTTP/1.1\r\nX-Odd: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"))
        .await;
    assert_eq!(client.read_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write("hi").await;
    let answer: Value = serde_json::from_slice(&client.read().await.1).unwrap();
    assert_eq!(answer["result"]["body"], "hi");
    assert_eq!(answer["result"]["headers"]["X-Odd"], json!(["a"]));

    client.send("GET", &format!("{BASE}/x/download?bytes=200000"), "", "").await;
    let (_, body) = client.read().await;
    assert!(body.len() == 200_000 && body.iter().enumerate().all(|(at, &byte)| usize::from(byte) == at % 251));
    client.send("HEAD", &format!("{BASE}/x/download?bytes=200000"), "", "").await;
    assert!(client.read_head().await.contains("Content-Length: 200000"));
    client.write(&format!("GET {BASE}/x/download?bytes=70000&chunked=1 HTTP/1.1\r\nConnection: close\r\n\r\n")).await;
    let all = client.read_to_end().await.unwrap();
    let all = String::from_utf8_lossy(&all);
    assert!(
        all.contains("Transfer-Encoding: chunked") && all.contains("\r\n\r\nfb00\r\n") && all.ends_with("0\r\n\r\n")
    );
    drop(client);
    handle.wait_for_connections_open(0).await;
    assert_eq!(handle.journal()[0].body, "hello!");
}

#[tokio::test]
async fn the_journal_recognises_a_disguised_callout_and_debug_shows_no_secrets() {
    let (simulator, handle) = with(SimulatorConfig { lenient_callouts: true, ..Default::default() }).await;
    let mut client = Client::connect(&simulator).await;
    let target = "/agentgateway/resource//voicecall;a=b/101/previewCallou%74?x";
    assert_eq!(retcode(&client.ask("PUT", target, "s3cret", "secret-body").await), "0");
    let callouts = handle.callouts();
    assert_eq!(callouts[0].target, target);
    assert_eq!(callouts[0].header("GUID"), Some("s3cret"));
    assert_eq!(callouts[0].body, "secret-body");
    let shown = format!("{:?} {:?}", callouts[0], handle);
    assert!(!shown.contains("s3cret") && !shown.contains("secret-body"), "{shown}");
    handle.clear_journal();
    assert!(handle.journal().is_empty());
}

#[tokio::test]
async fn the_control_interface_does_what_the_handle_does() {
    let (simulator, handle) = simulator().await;
    let guid = handle.sign_in_directly(agent());
    let mut client = Client::connect(&simulator).await;
    let preview = r#"{"controlid": 11776, "dialeddigits": "88889039"}"#;
    assert_eq!(client.ask("POST", "/simulator/agents/101/preview", "", preview).await["ok"], true);
    assert_eq!(client.ask("POST", "/simulator/agents/101/events", "", "[]").await["ok"], false);
    assert_eq!(client.ask("POST", "/simulator/agents/101/release", "", "").await["ok"], true);
    let agents = client.ask("GET", "/simulator/agents", "", "").await;
    let expected = json!([{
        "agent": "101", "guid": guid, "delivery": "polls", "state": "ready", "calls": [],
        "next_calls": {"outcome": "talks", "ring": "0s", "talk": "20s"}, "shown": [], "waiting": 2
    }]);
    assert_eq!(agents["result"], expected);
    let rule = r#"{"fault": "break", "at": "after_request", "how": "close", "path": "agentevent", "agent": 101}"#;
    assert_eq!(client.ask("POST", "/simulator/misbehave", "", rule).await["ok"], true);
    assert_eq!(client.ask("POST", "/simulator/misbehave", "", r#"{"fault": "magic"}"#).await["ok"], false);
    let typo = r#"{"fault": "garbage_body", "time": 3}"#;
    assert_eq!(client.ask("POST", "/simulator/misbehave", "", typo).await["ok"], false);
    client.send("GET", &format!("{BASE}/agentevent/101"), &guid, "").await;
    assert!(client.read_to_end().await.unwrap().is_empty());
    let mut client = Client::connect(&simulator).await;
    let journal = client.ask("GET", "/simulator/journal", "", "").await;
    assert_eq!(journal["result"].as_array().unwrap().len(), 1);
    assert!(!journal.to_string().contains(&guid));
}

#[tokio::test]
async fn sessions_can_be_opened_and_ended_by_the_control_interface() {
    let (simulator, handle) = simulator().await;
    let mut client = Client::connect(&simulator).await;
    let opened = client.ask("POST", "/simulator/agents/101/sign-in", "", "").await;
    let guid = opened["result"]["guid"].as_str().unwrap().to_owned();
    assert_eq!(handle.guid(agent()), Some(guid.clone()));
    handle.preview(agent(), ControlId(7), "100,101");
    client.ask("GET", &format!("{BASE}/agentevent/101"), &guid, "").await;
    let agents = client.ask("GET", "/simulator/agents", "", "").await;
    assert_eq!(agents["result"][0]["shown"], json!([{"controlid": "7", "numbers": ["100", "101"]}]));
    let newest = client.ask("GET", "/simulator/journal?newest=0", "", "").await;
    assert_eq!(newest["result"], json!([]));
    assert_eq!(client.ask("POST", "/simulator/agents/101/sign-out", "", "").await["ok"], true);
    assert_eq!(handle.guid(agent()), None);
    assert_eq!(client.ask("POST", "/simulator/agents/1/sign-out", "", "").await["ok"], false);
}

#[tokio::test]
async fn the_page_is_served_and_loads_nothing_from_elsewhere() {
    let (simulator, _) = simulator().await;
    let mut client = Client::connect(&simulator).await;
    client.send("GET", "/simulator/", "", "").await;
    let (head, page) = client.read().await;
    let page = String::from_utf8(page).unwrap();
    assert!(head.contains("Content-Security-Policy: default-src 'none';"), "{head}");
    assert!(page.contains("<title>Simulated CC-Gateway</title>"));
    for forbidden in [" src=", "url(", "@import", "innerHTML", "http://", "https://"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

/// An application must not get success for an interface that does not exist, or without a session.
#[tokio::test]
async fn a_strict_simulator_knows_its_interfaces_only() {
    let (simulator, handle) = with(SimulatorConfig { strict: true, ..Default::default() }).await;
    let guid = handle.sign_in_directly(agent());
    let mut client = Client::connect(&simulator).await;
    for (method, path, guid, expected) in [
        ("POST", "nothing/101/here", guid.as_str(), "000-002"),
        ("GET", "x/download?bytes=5", guid.as_str(), "000-002"),
        ("GET", "onlineagent/101", guid.as_str(), "000-002"),
        ("PUT", "onlineagent/101/heartbeat", guid.as_str(), "0"),
        ("POST", "onlineagent/101/handshake", guid.as_str(), "0"),
        ("PUT", "onlineagent/101/heartbeat", "", "000-003"),
        ("POST", "onlineagent/102/handshake", guid.as_str(), "100-006"),
    ] {
        let answer = client.ask(method, &format!("{BASE}/{path}"), guid, "").await;
        assert_eq!(retcode(&answer), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn a_forced_sign_in_drops_the_events_of_the_session_that_it_replaces() {
    let (simulator, handle) = simulator().await;
    let mut client = Client::connect(&simulator).await;
    handle.preview(agent(), ControlId(6), "100");
    assert_eq!(retcode(&client.ask("PUT", &format!("{BASE}/onlineagent/101"), "", "{}").await), "0");
    // What was queued before any session waits for it.
    assert_eq!(handle.events_waiting(agent()), 1);
    assert_eq!(retcode(&client.ask("PUT", &format!("{BASE}/onlineagent/101/forcelogin"), "", "{}").await), "0");
    assert_eq!(handle.events_waiting(agent()), 0);
}

#[tokio::test]
async fn events_are_pushed_in_order_to_sessions_that_asked_for_it() {
    let certificates = self_signed(&["localhost"]).unwrap();
    let tls = Some(certificates.server_config().unwrap());
    let (application, received) = with(SimulatorConfig { tls, ..Default::default() }).await;
    let (simulator, handle) = with(SimulatorConfig { follow_ups: false, ..Default::default() }).await;
    let mut client = Client::connect(&simulator).await;
    let uri = format!("https://localhost:{}/agentgateway/push?a=b", application.address().port());
    let body = json!({"callBackUri": uri, "serviceToken": "token"}).to_string();
    client.send("PUT", &format!("{BASE}/onlineagent/101"), "", &body).await;
    let guid = guid_in(&client.read().await.0);
    handle.preview(agent(), ControlId(5), "100");
    handle.wait_for_pushes(1).await;
    // This assertion is first: if the name cannot be resolved, it says so.
    let answer = handle.pushes()[0].answer.clone().unwrap();
    assert_eq!(answer.0, 200);
    let pushed = &received.journal()[0];
    assert_eq!((pushed.method.as_str(), pushed.target.as_str()), ("POST", "/agentgateway/push?a=b"));
    assert_eq!((pushed.header("guid"), pushed.header("service_token")), (Some(guid.as_str()), Some("token")));
    assert_eq!(pushed.json()["eventList"][0]["content"]["controlid"], 5);
    let target = format!("{BASE}/voicecall/101/previewCallout");
    assert_eq!(retcode(&client.ask("PUT", &target, &guid, &callout("100", "5")).await), "0");

    let uri = format!("https://localhost:{}/agentgateway/old", application.address().port());
    let body = json!({"pushUrl": uri}).to_string();
    client.send("PUT", &format!("{BASE}/onlineagent/102/forcelogin"), "", &body).await;
    client.read().await;
    received.clear_journal();
    let other = "102".parse().unwrap();
    handle.preview(other, ControlId(6), "100");
    handle.release(other);
    handle.wait_for_pushes(3).await;
    let types: Vec<_> = received.journal().iter().map(|post| post.json()["event"]["eventType"].clone()).collect();
    assert_eq!(types, ["AgentEvent_Preview_CallOut", "AgentEvent_Release_Preview"]);
}

#[tokio::test]
async fn it_stops_at_once_and_starts_again_on_the_same_port() {
    let (simulator, handle) = simulator().await;
    let guid = handle.sign_in_directly(agent());
    let address = simulator.address();
    let mut client = Client::connect(&simulator).await;
    client.send("GET", &format!("{BASE}/agentevent/101"), &guid, "").await;
    handle.wait_for_held_polls(1).await;
    simulator.stop().await;
    assert!(client.read_to_end().await.map_or(true, |bytes| bytes.is_empty()));
    assert_eq!((handle.connections_open(), handle.requests()), (0, 1));
    with(SimulatorConfig { address, ..Default::default() }).await;
}

#[tokio::test]
async fn polls_are_held_at_the_same_time_and_end_with_their_connections() {
    let (simulator, handle) = simulator().await;
    let guid = handle.sign_in_directly(agent());
    let mut clients = Vec::new();
    for _ in 0..400 {
        let mut client = Client::connect(&simulator).await;
        client.send("GET", &format!("{BASE}/agentevent/101"), &guid, "").await;
        clients.push(client);
    }
    handle.wait_for_held_polls(400).await;
    assert_eq!(handle.connections_open(), 400);
    drop(clients);
    handle.wait_for_connections_open(0).await;
    assert_eq!(handle.held_polls(), 0);
}

#[tokio::test]
async fn a_sign_in_by_account_names_its_agent_in_the_answer() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let mut client = Client::connect(&simulator).await;
    let path = format!("{BASE}/onlineagent/loginbyaccount");
    let answer = client.ask("PUT", &path, "", r#"{"account":"lee101","password":"p"}"#).await;
    assert_eq!((&answer["retcode"], &answer["result"]["workno"]), (&json!("0"), &json!("101")));
    let guid = simulator.handle().guid(AgentId::try_from(101).unwrap()).unwrap();
    let answer = client.ask("POST", &format!("{BASE}/onlineagent/101/handshake"), &guid, "").await;
    assert_eq!(answer["retcode"], "0");
    for (body, retcode) in [
        (r#"{"account":"lee101"}"#, "100-002"),
        (r#"{"account":"lee"}"#, "100-001"),
        (r#"{"account":"lee7"}"#, "100-001"),
        ("{}", "100-001"),
        ("", "100-001"),
    ] {
        assert_eq!(client.ask("PUT", &path, "", body).await["retcode"], retcode, "{body}");
    }
}
