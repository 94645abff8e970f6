//! Calls with their states and events, campaigns, and pushes that are repeated.

use super::*;
use crate::config::{CallOutcome, CallPlan, Campaign, Contact};

/// A simulator that listens nowhere: on paused time, nothing but its own timers moves the clock.
fn in_memory(config: SimulatorConfig) -> (Simulator, SimulatorHandle, Client) {
    let simulator = Simulator::in_memory(config);
    let (handle, client) = (simulator.handle(), Client(Box::new(simulator.connect(([127, 0, 0, 1], 1).into()))));
    (simulator, handle, client)
}

/// A strict simulator whose calls go like this, and an agent who was shown 100 and 101 under 7.
async fn shown(call: CallPlan) -> (Simulator, SimulatorHandle, Client, String) {
    let (simulator, handle, client) = in_memory(SimulatorConfig { strict: true, call, ..Default::default() });
    let guid = handle.sign_in_directly(agent());
    handle.shown(agent(), ControlId(7), &["100", "101"]);
    (simulator, handle, client, guid)
}

impl Client {
    async fn control(&mut self, method: &str, path: &str, guid: &str) -> String {
        self.ask(method, &format!("{BASE}/{path}"), guid, "").await["retcode"].as_str().unwrap().to_owned()
    }

    async fn call(&mut self, guid: &str, number: &str) -> String {
        let target = format!("{BASE}/voicecall/101/previewCallout");
        let answer = self.ask("PUT", &target, guid, &callout(number, "7")).await;
        answer["retcode"].as_str().unwrap().to_owned()
    }

    /// The types of the next events of agent 101. Empty polls are repeated.
    async fn events(&mut self, guid: &str, count: usize) -> Vec<String> {
        let mut types = Vec::new();
        for _ in 0..20 + count {
            let polled = self.ask("GET", &format!("{BASE}/agentevent/101"), guid, "").await;
            types.extend(polled["event"]["eventType"].as_str().map(str::to_owned));
            if types.len() == count {
                return types;
            }
        }
        panic!("{types:?} and no more");
    }
}

const CONNECTED: [&str; 3] = ["AgentOther_PhoneAlerting", "AgentOther_PhoneOffhook", "AgentEvent_Talking"];

#[tokio::test]
async fn an_agent_controls_a_call_from_the_first_ring_to_the_end() {
    let (_simulator, _, mut client, guid) = shown(CallPlan::AT_ONCE).await;
    for (method, path, retcode) in [
        ("PUT", "voicecall/101/answer", "200-002"),
        ("POST", "voicecall/101/hold", "200-013"),
        ("POST", "voicecall/101/gethold", "200-015"),
        ("DELETE", "voicecall/101/release", "200-017"),
    ] {
        assert_eq!(client.control(method, path, &guid).await, retcode, "{path}");
        assert_eq!(client.control(method, path, "").await, "000-003", "{path} without a session");
        let unknown = path.replace("101", "102");
        assert_eq!(client.control(method, &unknown, &guid).await, "100-006", "{path} of another agent");
    }
    assert_eq!(client.call(&guid, "100").await, "0");
    assert_eq!(client.events(&guid, 3).await, CONNECTED);
    assert_eq!(client.call(&guid, "101").await, "200-036", "one call at a time");
    assert_eq!(client.control("POST", "voicecall/101/hold", &guid).await, "0");
    assert_eq!(client.control("POST", "voicecall/101/gethold?callid=1-1", &guid).await, "200-015");
    assert_eq!(client.control("POST", "voicecall/101/gethold", &guid).await, "0");
    assert_eq!(client.control("DELETE", "voicecall/101", &guid).await, "0");
    assert_eq!(
        client.events(&guid, 5).await,
        [
            "AgentEvent_Hold",
            "AgentEvent_Talking",
            "AgentEvent_Call_Release",
            "AgentOther_PhoneRelease",
            "AgentState_Ready"
        ]
    );
    assert_eq!(client.call(&guid, "101").await, "0", "the call is over");
}

#[tokio::test]
async fn an_agent_becomes_busy_and_ready_and_its_status_follows() {
    let (_simulator, _, mut client, guid) = shown(CallPlan::AT_ONCE).await;
    let status = format!("{BASE}/onlineagent/101/agentstatus");
    assert_eq!(client.ask("GET", &status, &guid, "").await["result"]["agentState"], 4);
    assert_eq!(client.control("POST", "onlineagent/101/saybusy?reason=201", &guid).await, "0");
    let polled = client.ask("GET", &format!("{BASE}/agentevent/101"), &guid, "").await;
    assert_eq!(polled["event"]["eventType"], "AgentState_SetNotReady_Success");
    assert_eq!(polled["event"]["content"]["reason"], "201");
    assert_eq!(client.ask("GET", &status, &guid, "").await["result"]["agentState"], 3);
    assert_eq!(client.control("POST", "onlineagent/101/sayfree", &guid).await, "0");
    assert_eq!(client.events(&guid, 2).await, ["AgentState_CancelNotReady_Success", "AgentState_Ready"]);
    client.call(&guid, "100").await;
    assert_eq!(client.ask("GET", &status, &guid, "").await["result"]["agentState"], 7);
}

#[tokio::test(start_paused = true)]
async fn a_call_rings_and_is_answered_by_hand_by_itself_or_not_at_all() {
    let ring = Duration::from_secs(3);
    let (_simulator, handle, mut client, guid) = shown(CallPlan { ring, ..CallPlan::AT_ONCE }).await;
    let begin = tokio::time::Instant::now();
    assert_eq!(client.call(&guid, "100").await, "0");
    assert_eq!(client.events(&guid, 3).await, CONNECTED);
    assert_eq!(begin.elapsed(), ring);
    assert_eq!(client.ask("POST", "/simulator/agents/101/hang-up", "", "").await["ok"], true);
    assert_eq!(
        client.events(&guid, 4).await,
        ["AgentEvent_Customer_Release", "AgentEvent_Call_Release", "AgentOther_PhoneRelease", "AgentState_Ready"]
    );
    assert_eq!(client.ask("POST", "/simulator/agents/101/hang-up", "", "").await["ok"], false);

    assert_eq!(client.call(&guid, "100").await, "0");
    let begin = tokio::time::Instant::now();
    assert_eq!(client.control("PUT", "voicecall/101/answer", &guid).await, "0");
    assert_eq!(client.events(&guid, 3).await, CONNECTED);
    assert!(begin.elapsed() < ring);
    client.control("DELETE", "voicecall/101/release", &guid).await;
    client.events(&guid, 3).await;

    let fails = r#"{"outcome": "fails", "ring": "1s"}"#;
    assert_eq!(client.ask("POST", "/simulator/agents/101/calls", "", fails).await["ok"], true);
    for bad in [r#"{"outcome": "sings"}"#, r#"{"ring": "soon"}"#, r#"{"rings": "1s"}"#, "[]"] {
        assert_eq!(client.ask("POST", "/simulator/agents/101/calls", "", bad).await["ok"], false, "{bad}");
    }
    assert_eq!(client.call(&guid, "100").await, "0");
    assert_eq!(
        client.events(&guid, 4).await,
        ["AgentOther_PhoneAlerting", "AgentEvent_Call_Out_Fail", "AgentOther_PhoneRelease", "AgentState_Ready"]
    );
    // Another number of the same preview may be tried.
    assert_eq!(client.call(&guid, "101").await, "0");
    handle.sign_out_directly(agent());
    assert_eq!(client.call(&guid, "101").await, "100-006");
}

/// The course of an agent's next calls is the simulator's, then the one that was set, then that of each contact.
#[tokio::test(start_paused = true)]
async fn the_list_of_agents_has_the_course_of_their_next_calls() {
    let with_talk = CallPlan { outcome: CallOutcome::HangsUp, talk: Duration::from_secs(30), ..CallPlan::AT_ONCE };
    let contacts = vec![Contact { plan: with_talk, ..contact("100", None, CallOutcome::HangsUp) }];
    let campaign = Campaign { pace: Duration::from_secs(5), contacts, ..a_campaign() };
    let call = CallPlan { outcome: CallOutcome::Fails, ring: Duration::from_secs(3), ..CallPlan::AT_ONCE };
    let config = SimulatorConfig { strict: true, call, campaign: Some(campaign), ..Default::default() };
    let (_simulator, handle, mut client) = in_memory(config);
    let guid = handle.sign_in_directly(agent());
    let next = async |client: &mut Client| {
        client.ask("GET", "/simulator/agents", "", "").await["result"][0]["next_calls"].clone()
    };
    assert_eq!(next(&mut client).await, json!({"outcome": "fails", "ring": "3s", "talk": "20s"}));
    for (change, expected) in [
        (r#"{"outcome": "hangs_up"}"#, json!({"outcome": "hangs_up", "ring": "3s", "talk": "20s"})),
        (r#"{"talk": "1m"}"#, json!({"outcome": "hangs_up", "ring": "3s", "talk": "1m"})),
    ] {
        assert_eq!(client.ask("POST", "/simulator/agents/101/calls", "", change).await["ok"], true);
        assert_eq!(next(&mut client).await, expected);
    }
    client.events(&guid, 1).await;
    assert_eq!(next(&mut client).await, json!({"outcome": "hangs_up", "ring": "0s", "talk": "30s"}));
}

#[tokio::test]
async fn a_transferred_call_rings_at_the_other_agent() {
    let (_simulator, handle, mut client, guid) = shown(CallPlan::AT_ONCE).await;
    let other = handle.sign_in_directly("102".parse().unwrap());
    let target = format!("{BASE}/voicecall/101/transfer");
    let body = r#"{"devicetype": 2, "address": "102", "mode": 2}"#;
    assert_eq!(retcode(&client.ask("POST", &target, &guid, body).await), "200-012");
    client.call(&guid, "100").await;
    client.events(&guid, 3).await;
    for bad in ["", r#"{"devicetype": 2, "mode": 2}"#, r#"{"devicetype": "2", "address": "102", "mode": 2}"#] {
        assert_eq!(retcode(&client.ask("POST", &target, &guid, bad).await), "000-002", "{bad}");
    }
    assert_eq!(retcode(&client.ask("POST", &target, &guid, body).await), "0");
    assert_eq!(client.events(&guid, 2).await, ["AgentEvent_SuccTransResult", "AgentEvent_Call_Release"]);
    let polled = client.ask("GET", &format!("{BASE}/agentevent/102"), &other, "").await;
    assert_eq!(
        (&polled["event"]["eventType"], &polled["event"]["content"]["otherPhone"]),
        (&json!("AgentEvent_Ringing"), &json!("100"))
    );
    assert_eq!(client.control("PUT", "voicecall/102/answer", &other).await, "0");
    assert_eq!(client.control("DELETE", "voicecall/102/release", &other).await, "0");
}

#[tokio::test]
async fn a_preview_is_shown_as_the_requested_event() {
    let (_simulator, _, mut client, guid) = shown(CallPlan::AT_ONCE).await;
    for event in ["AgentEvent_Preview", "AgentEvent_Preview_CallOut", "AgentEvent_Preview_CallOut_Ex"] {
        let body = json!({"controlid": 9, "dialeddigits": "100", "eventType": event, "callData": "d"}).to_string();
        assert_eq!(client.ask("POST", "/simulator/agents/101/preview", "", &body).await["ok"], true);
        assert_eq!(client.events(&guid, 1).await, [event]);
    }
    let body = r#"{"controlid": 9, "dialeddigits": "100", "eventType": "AgentEvent_Talking"}"#;
    assert_eq!(client.ask("POST", "/simulator/agents/101/preview", "", body).await["ok"], false);
}

fn contact(numbers: &str, agent: Option<&str>, outcome: CallOutcome) -> Contact {
    Contact {
        numbers: numbers.to_owned(),
        agent: agent.map(|agent| agent.parse().unwrap()),
        plan: CallPlan { outcome, ..CallPlan::AT_ONCE },
        event: None,
        call_data: String::new(),
    }
}

fn a_campaign() -> Campaign {
    Campaign {
        agents: vec![agent(), "102".parse().unwrap()],
        pace: Duration::from_secs(5),
        preview_time: Duration::from_secs(60),
        first_control_id: 7,
        event: None,
        repeat: false,
        contacts: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_campaign_shows_its_contacts_one_after_the_other() {
    let contacts = vec![
        contact("200", Some("102"), CallOutcome::Talks),
        contact("100,101", None, CallOutcome::Fails),
        contact("102", None, CallOutcome::HangsUp),
        contact("103", None, CallOutcome::Talks),
    ];
    let campaign = Campaign { contacts, ..a_campaign() };
    let config = SimulatorConfig { strict: true, campaign: Some(campaign), ..Default::default() };
    let (_simulator, handle, mut client) = in_memory(config);
    let guid = handle.sign_in_directly(agent());
    let call = async |client: &mut Client, number: &str, control_id: &str| {
        let target = format!("{BASE}/voicecall/101/previewCallout");
        retcode(&client.ask("PUT", &target, &guid, &callout(number, control_id)).await).to_owned()
    };
    // The first contact is another agent's. Both numbers of the second are tried.
    assert_eq!(client.events(&guid, 1).await, ["AgentEvent_Preview_CallOut_Ex"]);
    for number in ["100", "101"] {
        assert_eq!(call(&mut client, number, "7").await, "0");
        assert_eq!(client.events(&guid, 4).await[1], "AgentEvent_Call_Out_Fail");
    }
    assert_eq!(client.events(&guid, 2).await, ["AgentEvent_Release_Preview", "AgentEvent_Preview_CallOut"]);
    assert_eq!(call(&mut client, "102", "8").await, "0");
    let events = client.events(&guid, 8).await;
    assert_eq!((events[3].as_str(), events[7].as_str()), ("AgentEvent_Customer_Release", "AgentEvent_Release_Preview"));
    // The last one is not called: the platform takes it back.
    assert_eq!(client.events(&guid, 1).await, ["AgentEvent_Preview_CallOut"]);
    assert_eq!(client.events(&guid, 1).await, ["AgentEvent_Release_Preview"]);
    let progress = client.ask("GET", "/simulator/campaign", "", "").await;
    assert_eq!(progress["result"], json!({"contacts": 4, "shown": 3, "over": 3}));
    assert_eq!(handle.campaign().map(|campaign| campaign.shown), Some(3));
}

/// docs/protocol.md 6.3: repeated after a pause; in the end the agent is signed out.
#[tokio::test]
async fn a_push_that_fails_is_repeated_until_the_platform_gives_up() {
    let (application, received) = with(SimulatorConfig::default()).await;
    let retry = PushRetry { interval: Duration::from_millis(1), give_up: Duration::from_millis(20) };
    let config = SimulatorConfig { push_retry: Some(retry), ..Default::default() };
    let (simulator, handle) = with(config).await;
    let mut client = Client::connect(&simulator).await;
    let uri = format!("http://{}/agentgateway/push", application.address());
    let body = json!({"callBackUri": uri, "serviceToken": "t"}).to_string();
    client.ask("PUT", &format!("{BASE}/onlineagent/101"), "", &body).await;
    received.misbehave(Misbehaviour::new(Fault::ServerError { status: 503 }).times(1));
    received.misbehave(Misbehaviour::new(Fault::GarbageBody).times(1));
    handle.preview(agent(), ControlId(5), "100");
    handle.wait_for_pushes(3).await;
    let statuses: Vec<_> = handle.pushes().iter().map(|push| push.answer.as_ref().unwrap().0).collect();
    assert_eq!(statuses, [503, 200, 200]);
    let bodies: Vec<_> = received.journal().iter().map(|entry| entry.body.clone()).collect();
    assert!(bodies.len() == 3 && bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert!(handle.guid(agent()).is_some());

    received.misbehave(Misbehaviour::new(Fault::ServerError { status: 503 }).always());
    handle.release(agent());
    while handle.guid(agent()).is_some() {
        tokio::task::yield_now().await;
    }
    assert!(handle.pushes().len() > 4, "{:?}", handle.pushes());
}
