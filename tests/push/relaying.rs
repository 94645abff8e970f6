//! What is relayed: heads and bodies as they are, recorded before the application sees them.

use http::{Method, StatusCode};
use previewgate::preview::ControlId;
use serde_json::json;

use crate::application::ANSWER;
use crate::client::{call, request_to};
use crate::site::{Site, TOKEN, free_address};
use crate::{NUMBER, agent, preview};

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
    let follow_ups = "3";
    let released =
        format!("previewgate_preview_events_total{{event_type=\"AgentEvent_Release_Preview\",delivery=\"{form}\"}}");
    gateway.counts(&released, "1").await;
    assert_eq!(site.call_out(11776).await, "unknown_preview");

    let event =
        format!("previewgate_preview_events_total{{event_type=\"AgentEvent_Preview_CallOut\",delivery=\"{form}\"}}");
    assert_eq!((gateway.metric(&event).as_str(), gateway.sign_ins("rewritten").as_str()), ("1", "1"));
    let others = format!("previewgate_preview_events_total{{event_type=\"other\",delivery=\"{form}\"}}");
    gateway.counts(&others, follow_ups).await;
    let log = gateway.stop().await;
    assert!(log.contains("\"operation\":\"pushEvents\""), "{log}");
    let capability = address.rsplit('/').next().unwrap();
    for secret in [capability, "/cti/push", TOKEN, NUMBER] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
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
    assert!(gateway.running.services.ledger.local().previews("102".parse().unwrap()).is_none());
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
