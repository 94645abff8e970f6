//! Relayed pushes: heads and bodies pass unchanged, and are recorded before the application sees them.

use previewgate::preview::ControlId;
use serde_json::json;

use super::site::{PushSite, TOKEN, pushes, sign_in as sign_in_request, sign_ins};
use super::{NUMBER, preview};
use crate::support::{Application, Request, id, within};

/// From the sign-in over event, push and record to the callout from inside the application's handler, and its answer.
async fn end_to_end(sign_in: impl Fn(&PushSite) -> String, form: &str, token: &str) {
    let site = PushSite::new().await;
    let gateway = site.start();
    let simulated = &site.handle;
    let sent = sign_in(&site);
    assert_eq!(site.sign_in(sent.clone()).await.retcode(), "0");

    // Nothing but the address has changed, and it leads to the gateway.
    let address = site.push_url();
    assert!(
        address.starts_with(&format!("https://{}/previewgate/push/{form}/101/", site.gateway_address())),
        "{address}"
    );
    let arrived = simulated.journal().pop().unwrap();
    assert_eq!(String::from_utf8_lossy(&arrived.body), sent.replace(&site.application.url(), &address));
    assert_eq!(arrived.header("content-length").unwrap(), arrived.body.len().to_string());

    simulated.preview(id(101), ControlId(11776), NUMBER);
    within("a push", simulated.wait_for_pushes(1)).await;
    let answer = simulated.pushes()[0].answer.clone().unwrap();
    assert_eq!((answer.0, String::from_utf8_lossy(&answer.1).as_ref()), (200, Application::ANSWER));
    let seen = &site.application.seen()[0];
    assert_eq!(seen.request.request_line(), "POST /cti/push?tenant=7 HTTP/1.1");
    assert_eq!(seen.request.header("guid"), simulated.guid(id(101)).unwrap());
    assert_eq!((seen.request.header("service_token"), seen.request.has("service_token")), (token, !token.is_empty()));
    assert_eq!(seen.request.header("host"), site.application.address.to_string());
    assert_eq!(seen.callouts, ["ok"], "recorded before the application saw it");

    // A release ends the preview.
    simulated.release(id(101));
    let follow_ups = 3.0;
    let released =
        format!("previewgate_preview_events_total{{event_type=\"AgentEvent_Release_Preview\",delivery=\"{form}\"}}");
    gateway.metric_becomes(&released, 1.0).await;
    assert_eq!(site.call_out(11776).await, "unknown_preview");

    let event =
        format!("previewgate_preview_events_total{{event_type=\"AgentEvent_Preview_CallOut\",delivery=\"{form}\"}}");
    assert_eq!((gateway.metric(&event), gateway.metric(&sign_ins("rewritten"))), (1.0, 1.0));
    let others = format!("previewgate_preview_events_total{{event_type=\"other\",delivery=\"{form}\"}}");
    gateway.metric_becomes(&others, follow_ups).await;
    let log = gateway.close().await.text();
    assert!(log.contains("\"operation\":\"pushEvents\""), "{log}");
    let capability = address.rsplit('/').next().unwrap();
    for secret in [capability, "/cti/push", TOKEN, NUMBER] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[tokio::test]
async fn call_back_uri_end_to_end() {
    end_to_end(PushSite::call_back_sign_in, "push", TOKEN).await;
}

#[tokio::test]
async fn push_url_end_to_end() {
    end_to_end(PushSite::push_url_sign_in, "push_url", "").await;
}

#[tokio::test]
async fn head_and_body_of_a_push_and_of_its_answer_are_unchanged() {
    let site = PushSite::new().await;
    let gateway = site.start();
    site.sign_in(site.call_back_sign_in()).await;
    let fields =
        [("guid", "g.AgentGateway1"), ("Service_Token", "t"), ("content-type", "text/plain"), ("x-odd", "a,b")];
    let body = "{\"workNo\":\"101\", \"eventList\":[ ],\"x\":\"\\u4f60\"}\n";
    let push = fields.iter().fold(Request::post(site.push_path()), |push, (name, value)| push.header(name, *value));
    let answer = site.send(push.body(body)).await.passed();
    assert_eq!((answer.status, answer.body.as_slice()), (200, Application::ANSWER.as_bytes()));
    assert_eq!((answer.header("x-application"), answer.header("content-type")), ("mine", "application/json"));
    let seen = site.application.seen().pop().unwrap().request;
    assert_eq!(seen.body, body.as_bytes());
    for (name, value) in fields {
        assert_eq!(seen.header(name), value);
    }
    let ours = |name: &str| fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
    let names = seen.headers().into_iter().map(|line| line.split(':').next().unwrap().to_ascii_lowercase());
    let mut rest: Vec<_> = names.filter(|name| !ours(name)).collect();
    rest.sort_unstable();
    assert_eq!(rest, ["connection", "content-length", "host"], "nothing was added");
    gateway.close().await;
}

#[tokio::test]
async fn a_restarted_gateway_relays_without_having_seen_the_sign_in() {
    let site = PushSite::new().await;
    let first = site.start();
    site.sign_in(site.call_back_sign_in()).await;
    first.close().await;
    let second = site.start();
    site.handle.preview(id(101), ControlId(7), NUMBER);
    within("a push", site.handle.wait_for_pushes(1)).await;
    assert_eq!(site.application.seen()[0].callouts, ["ok"]);
    second.close().await;
}

#[tokio::test]
async fn another_instance_with_the_same_key_relays_what_this_one_issued() {
    let site = PushSite::new().await;
    // Pushes of both come to the site's gateway; the sign-in goes through the other one.
    let (here, there) = (site.start(), site.start_another(&PushSite::loopback()));
    let answer = there.send(&sign_in_request(site.push_url_sign_in())).await;
    assert_eq!(answer.passed().retcode(), "0");
    site.handle.preview(id(101), ControlId(7), NUMBER);
    within("a push", site.handle.wait_for_pushes(1)).await;
    assert_eq!(site.application.seen()[0].callouts, ["ok"]);
    assert_eq!((here.metric(&pushes("relayed")), there.metric(&sign_ins("rewritten"))), (1.0, 1.0));
    here.close().await;
    there.close().await;
}

#[tokio::test]
async fn events_count_in_their_order_and_for_their_agent_only() {
    let site = PushSite::new().await;
    let gateway = site.start();
    site.sign_in(site.call_back_sign_in()).await;
    let simulated = &site.handle;
    for control_id in [1, 2, 3, 4] {
        simulated.shown(id(101), ControlId(control_id), &[NUMBER]);
    }
    let release = json!({"eventType": "AgentEvent_Release_Preview", "workNo": "101", "content": null});
    let mut foreign = preview(3);
    foreign["workNo"] = json!("102");
    let mut unnamed = preview(4);
    unnamed.as_object_mut().unwrap().remove("workNo");
    let push = json!({"workNo": "101", "eventList": [preview(1), release, preview(2), foreign, unnamed]}).to_string();
    let guid = simulated.guid(id(101)).unwrap();
    let answer = site.send(Request::post(site.push_path()).guid(&guid).body(push)).await;
    assert_eq!(answer.status, 200);
    let reasons = ["control_id_mismatch", "ok", "control_id_mismatch", "ok"];
    // The application called each of them from inside its handler: 1, 2, 3, 4. (What happened to those calls was pushed
    // to it meanwhile.)
    let seen = site.application.seen();
    let ours: Vec<_> = seen.iter().filter(|seen| !seen.callouts.is_empty()).collect();
    assert_eq!((ours.len(), &ours[0].callouts[..]), (1, &reasons.map(str::to_owned)[..]));
    assert_eq!(gateway.metric("previewgate_event_parse_failures_total"), 1.0);
    assert!(gateway.store().local().previews(id(102)).is_none());
    gateway.close().await;
}

#[tokio::test]
async fn a_push_too_large_to_read_is_relayed_unread() {
    let site = PushSite::new().await;
    let gateway = site.start_with(&format!("limits.event_body = \"4KiB\"\n{}", PushSite::loopback()));
    site.sign_in(site.call_back_sign_in()).await;
    let body = format!("{{\"eventList\":[],\"x\":\"{}\"}}", "x".repeat(300_000));
    let answer = site.post(body.clone()).await;
    assert_eq!((answer.status, site.application.seen()[0].request.body == body.as_bytes()), (200, true));
    assert_eq!(gateway.metric("previewgate_event_bodies_unread_total"), 1.0);
    gateway.close().await;
}

/// A push says whose its `Guid` is (docs/protocol.md 6.3): afterwards a stranger's GUID is one, and ends nothing.
#[tokio::test]
async fn the_guid_of_a_push_is_learnt() {
    let site = PushSite::new().await;
    let gateway = site.start_with(&format!("validation.session = \"enforce\"\n{}", PushSite::loopback()));
    site.sign_in(site.call_back_sign_in()).await;
    gateway.close().await;
    // This one has not seen the sign-in.
    let gateway = site.start_with(&format!("validation.session = \"enforce\"\n{}", PushSite::loopback()));
    site.handle.preview(id(101), ControlId(7), NUMBER);
    within("a push", site.handle.wait_for_pushes(1)).await;
    assert_eq!(site.application.seen()[0].callouts, ["ok"]);
    let stranger = gateway.agent_from_elsewhere(101).callout(7, NUMBER).without("Guid").guid("invented.node");
    assert_eq!(gateway.send(&stranger).await.verdict(), "foreign_session");
    assert_eq!(site.call_out(7).await, "ok");
    gateway.close().await;
}
