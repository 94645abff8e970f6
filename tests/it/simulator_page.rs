//! The page of the simulator, in a real browser.

use previewgate::config::{CallOutcome, CallPlan};
use previewgate::preview::ControlId;
use previewgate::simulator::{Simulator, SimulatorConfig};
use serde_json::json;

use crate::support::{API, Browser, Request, Wire, check_accessibility, id};

/// The choice is that of the simulator, whether the command line, another client or the page has set it.
#[tokio::test]
async fn the_page_shows_the_course_of_the_next_calls_that_is_in_force() {
    let Some(mut browser) = Browser::start().await else { return };
    let call = CallPlan { outcome: CallOutcome::Fails, ..CallPlan::AT_ONCE };
    let config = SimulatorConfig { strict: true, call, ..Default::default() };
    let simulator = Simulator::start(config).await.unwrap();
    simulator.handle().sign_in_directly(id(1001));
    browser.open(&format!("http://{}/simulator/", simulator.address())).await;
    let shows =
        |text: &str| format!("document.querySelector('#agents select')?.selectedOptions[0].textContent === '{text}'");
    browser.until(&shows("are not answered")).await;
    let mut wire = Wire::plain(simulator.address()).await.unwrap();
    let set = Request::post("/simulator/agents/1001/calls".to_owned());
    wire.send(&set.clone().json(&json!({"outcome": "hangs_up", "talk": "30s"}))).await;
    browser.until(&shows("end after 30s")).await;
    wire.send(&set.json(&json!({"outcome": "talks"}))).await;
    browser.until(&shows("are answered")).await;
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[tokio::test]
async fn a_developer_shows_a_preview_and_sees_the_callout_arrive() {
    let Some(mut browser) = Browser::start().await else { return };
    let simulator = Simulator::start(SimulatorConfig { strict: true, ..Default::default() }).await.unwrap();
    let handle = simulator.handle();
    browser.appear(1280, false).await;
    browser.open(&format!("http://{}/simulator/", simulator.address())).await;
    browser.until("document.querySelector('#agents').innerText.includes('No agent is signed in')").await;

    browser.evaluate("document.querySelector('#enter button').click()").await;
    browser.until("document.querySelector('#agents').innerText.includes('Agent 1001 polls')").await;
    browser.evaluate("document.querySelector('#show button').click()").await;
    browser.until("document.querySelector('#said').innerText.includes('Preview 11776 waits for agent 1001')").await;

    // The application polls, and calls what it was shown: by the words that the page prints.
    let guid = handle.guid(id(1001)).unwrap();
    let mut wire = Wire::plain(simulator.address()).await.unwrap();
    wire.send(&Request::get(format!("{API}/agentevent/1001")).guid(&guid)).await;
    browser.until("document.querySelector('#agents').innerText.includes('was shown 11776: 5550101, 5550102')").await;
    let command = browser.evaluate("document.querySelector('#agents pre').innerText").await;
    let command = command.as_str().unwrap();
    for words in [format!("Guid: {guid}"), r#"{"called":"5550101","callcontrolid":"11776"}"#.to_owned()] {
        assert!(command.contains(&words), "{words}: {command}");
    }
    let callout = Request::put(format!("{API}/voicecall/1001/previewCallout")).guid(&guid);
    wire.send(&callout.clone().json(&json!({"called": "5550101", "callcontrolid": "11776"}))).await;
    browser.until("document.querySelector('#journal').innerText.includes('/voicecall/1001/previewCallout')").await;

    // The call and its state; the customer ends it by a click, and the next one is not answered.
    browser.until("document.querySelector('#agents').innerText.includes('In a call with 5550101')").await;
    browser.until("document.querySelector('#agents .state').innerText === 'in a call'").await;
    for (name, dark) in [("simulator-call", false), ("simulator-call-dark", true)] {
        browser.appear(1280, dark).await;
        check_accessibility(&mut browser, name).await;
        browser.screenshot(name).await;
    }
    let button =
        |text: &str| format!("[...document.querySelectorAll('#agents button')].find(b => b.innerText === '{text}')");
    browser.evaluate(&format!("{}.click()", button("The customer hangs up"))).await;
    browser.until("document.querySelector('#agents .state').innerText === 'ready'").await;
    let choose = "(select => { select.value = 'fails'; select.onchange() })(document.querySelector('#agents select'))";
    browser.evaluate(choose).await;
    browser.until("document.querySelector('#said').innerText.includes('are not answered')").await;
    wire.send(&callout.json(&json!({"called": "5550102", "callcontrolid": "11776"}))).await;
    let mut events = Vec::new();
    while events.last().map(String::as_str) != Some("AgentEvent_Call_Out_Fail") {
        let polled = wire.send(&Request::get(format!("{API}/agentevent/1001")).guid(&guid)).await.json();
        events.push(polled["event"]["eventType"].as_str().unwrap().to_owned());
    }
    assert_eq!(events[..3], ["AgentOther_PhoneAlerting", "AgentOther_PhoneOffhook", "AgentEvent_Talking"]);

    // What a client chose is shown as text.
    let hostile = "<img src=x onerror=document.title='broken'>";
    handle.shown(id(1001), ControlId(9), &[hostile]);
    browser.until(&format!("document.querySelector('#agents').innerText.includes({})", json!(hostile))).await;

    browser.evaluate("[...document.querySelectorAll('#faults button')][2].click()").await;
    browser.until("document.querySelector('#said').innerText.includes('prepared')").await;
    let poll = Request::get(format!("{API}/agentevent/1001")).guid(&guid);
    assert_eq!(wire.send(&poll).await.status, 503);
    for (name, width, dark) in [("simulator", 1280, false), ("simulator-telephone", 360, true)] {
        browser.appear(width, dark).await;
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.evaluate(overflow).await, json!(0), "{name}");
        check_accessibility(&mut browser, name).await;
        browser.screenshot(name).await;
    }
    assert_eq!(browser.evaluate("document.title").await, json!("Simulated CC-Gateway"));
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
