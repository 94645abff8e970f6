//! A push address dies with its session, however the session ends.

use previewgate::preview::ControlId;
use previewgate::simulator::Delivery;
use serde_json::{Value, json};

use super::site::{PushSite, path_of, pushes, sign_in};
use super::{NUMBER, preview};
use crate::support::{API, Gateway, Request, id};

const SUPERVISOR: u32 = 102;

/// How a session of agent 101 can end.
#[derive(Clone, Copy, Debug)]
enum End {
    SignOut,
    SignOutBySupervisor,
    SignIn,
    ForcedSignIn,
    ForcedSignInWithPush,
    SignInEx,
    SignInByAccount,
    SignInByAccountWithPush,
    /// The platform has ended the session for its own reasons, and says so in its next answer.
    Expiry,
    /// The platform announces the end in an event.
    ShutdownEvent,
}

const ENDS: [End; 10] = [
    End::SignOut,
    End::SignOutBySupervisor,
    End::SignIn,
    End::ForcedSignIn,
    End::ForcedSignInWithPush,
    End::SignInEx,
    End::SignInByAccount,
    End::SignInByAccountWithPush,
    End::Expiry,
    End::ShutdownEvent,
];

/// A sign-in by account, at the account of agent 101.
fn by_account(site: &PushSite, push: bool) -> Request {
    let url = site.application.url();
    let body =
        if push { json!({"account": "lee101", "password": "p", "pushUrl": url}) } else { json!({"account": "lee101"}) };
    Request::put(format!("{API}/onlineagent/loginbyaccount")).json(&body)
}

async fn succeeds(site: &PushSite, request: Request) {
    let answer = site.send(request).await.passed();
    assert_eq!(answer.retcode(), "0", "{answer:?}");
}

async fn end(site: &PushSite, how: End) {
    let guid = site.handle.guid(id(101)).unwrap();
    let session = |path: &str, method: &str| Request::new(method, format!("{API}/{path}")).guid(&guid);
    let polling = || json!({"password": "", "phonenum": "40038"});
    // The platform refuses a second session unless it is forced.
    let signed_out = || site.handle.sign_out_directly(id(101));
    match how {
        End::SignOut => succeeds(site, session("onlineagent/101/logout", "DELETE")).await,
        End::SignOutBySupervisor => {
            let guid = site.handle.sign_in_directly(id(SUPERVISOR));
            let path = format!("{API}/qualitycontrol/{SUPERVISOR}/forcelogout/101");
            succeeds(site, Request::post(path).guid(&guid)).await;
        }
        End::SignIn => {
            signed_out();
            succeeds(site, session("onlineagent/101", "PUT").json(&polling())).await;
        }
        End::ForcedSignIn => succeeds(site, session("onlineagent/101/forcelogin", "PUT").json(&polling())).await,
        End::ForcedSignInWithPush => succeeds(site, sign_in(site.call_back_sign_in())).await,
        End::SignInEx => {
            signed_out();
            succeeds(site, session("onlineagent/101/loginex", "PUT").json(&polling())).await;
        }
        End::SignInByAccount | End::SignInByAccountWithPush => {
            signed_out();
            succeeds(site, by_account(site, matches!(how, End::SignInByAccountWithPush))).await;
        }
        End::Expiry => {
            signed_out();
            let answer = site.send(session("onlineagent/101/handshake", "POST")).await.passed();
            assert_eq!(answer.retcode(), "100-006");
        }
        End::ShutdownEvent => {
            let event = json!({"eventType": "AgentOther_ShutdownService", "workNo": "101", "content": null});
            assert_eq!(post(site, &site.push_path(), &event).await, 200);
        }
    }
}

/// Posts an event to a push address as the platform would; returns the status.
async fn post(site: &PushSite, path: &str, event: &Value) -> u16 {
    let body = json!({"message": "", "retcode": "0", "event": event}).to_string();
    // A push carries the GUID of its session.
    let guid = site.handle.guid(id(101)).unwrap_or_else(|| "over.node".to_owned());
    site.send(Request::post(path).guid(&guid).body(body)).await.status
}

/// Whether the agent's previews hold this control ID.
fn knows(gateway: &Gateway, control_id: i64) -> bool {
    let previews = gateway.store().local().previews(id(101));
    previews.is_some_and(|previews| previews.iter().any(|preview| preview.control_id.0 == control_id))
}

/// Where the present session is pushed to, if it is.
fn present(site: &PushSite) -> Option<String> {
    match site.handle.delivery(id(101))? {
        Delivery::Push { uri, .. } | Delivery::PushUrl { uri } => Some(path_of(&uri, site.gateway_address())),
        Delivery::Poll => None,
    }
}

#[tokio::test]
async fn an_address_dies_with_its_session_and_the_next_session_has_its_own() {
    for by_account_first in [false, true] {
        let site = PushSite::new().await;
        let gateway = site.start();
        let mut refused = 0.0;
        for how in ENDS {
            if let Some(guid) = site.handle.guid(id(101)) {
                succeeds(&site, Request::new("DELETE", format!("{API}/onlineagent/101/logout")).guid(&guid)).await;
            }
            let first = if by_account_first { by_account(&site, true) } else { sign_in(site.push_url_sign_in()) };
            succeeds(&site, first).await;
            let dead = site.push_path();
            let form = if by_account_first { "/push_url/account/" } else { "/push_url/101/" };
            assert!(dead.contains(form), "{dead}");
            assert_eq!(post(&site, &dead, &preview(1)).await, 200, "{how:?}");
            assert!(knows(&gateway, 1), "{how:?}");
            end(&site, how).await;
            assert!(!knows(&gateway, 1), "{how:?}");
            let applied = site.application.seen().len();
            assert_eq!(post(&site, &dead, &preview(2)).await, 403, "{how:?}");
            refused += 1.0;
            assert_eq!(gateway.metric(&pushes("refused_session")), refused, "{how:?}");
            assert!(!knows(&gateway, 2) && site.application.seen().len() == applied, "{how:?}");
            if let Some(next) = present(&site).filter(|next| *next != dead) {
                assert_eq!(post(&site, &next, &preview(3)).await, 200, "{how:?}");
                assert!(knows(&gateway, 3), "{how:?}");
                assert_eq!(post(&site, &dead, &preview(4)).await, 403, "{how:?}");
                refused += 1.0;
            }
        }
        gateway.close().await;
    }
}

/// What does not end a session does not end its push address either.
#[tokio::test]
async fn a_push_address_survives_requests_that_end_no_session() {
    let site = PushSite::new().await;
    let gateway = site.start();
    succeeds(&site, sign_in(site.push_url_sign_in())).await;
    let guid = site.handle.guid(id(101)).unwrap();
    let path = site.push_path();
    let release = json!({"eventType": "AgentEvent_Release_Preview", "workNo": "101", "content": null});
    assert_eq!(post(&site, &path, &release).await, 200);
    assert_eq!(post(&site, &path, &preview(5)).await, 200);
    site.handle.shown(id(101), ControlId(5), &[NUMBER]);
    succeeds(
        &site,
        Request::put(format!("{API}/voicecall/101/cancelPreviewCallout"))
            .guid(&guid)
            .json(&json!({"callcontrolid": 5})),
    )
    .await;
    // A stranger's request proves nothing, and a failed sign-in begins nothing.
    let stranger = Request::post(format!("{API}/onlineagent/101/handshake")).guid("stranger");
    assert_ne!(site.send(stranger).await.passed().retcode(), "0");
    let refused = Request::put(format!("{API}/onlineagent/101")).json(&json!({"phonenum": "1"}));
    assert_eq!(site.send(refused).await.passed().retcode(), "100-002");
    let answer = site.send(Request::new("DELETE", format!("{API}/onlineagent/101/logout")).guid("stranger")).await;
    assert_ne!(answer.passed().retcode(), "0");
    assert_eq!(post(&site, &path, &preview(6)).await, 200);
    assert!(knows(&gateway, 6));
    gateway.close().await;
}

/// Sign-in by account over the simulator: the agent is learnt from the answer, and pushes are recorded for that agent.
#[tokio::test]
async fn a_sign_in_by_account_is_pushed_to_like_any_other() {
    let site = PushSite::new().await;
    let gateway = site.start();
    let answer = site.send(by_account(&site, true)).await.passed();
    assert_eq!((answer.retcode().as_str(), &answer.json()["result"]["workno"]), ("0", &json!("101")));
    let arrived = site.handle.journal().pop().unwrap();
    let body = String::from_utf8(arrived.body.to_vec()).unwrap();
    assert!(body.contains("/previewgate/push/push_url/account/") && body.contains("\"account\":\"lee101\""), "{body}");
    site.handle.preview(id(101), ControlId(7), NUMBER);
    crate::support::within("a push", site.handle.wait_for_pushes(1)).await;
    assert_eq!(site.application.seen()[0].callouts, ["ok"]);
    // An account without an agent, and one whose agent has a session already.
    for (account, retcode) in [("nobody", "100-001"), ("lee101", "100-002")] {
        let request = Request::put(format!("{API}/onlineagent/loginByAccount")).json(&json!({"account": account}));
        assert_eq!(site.send(request).await.passed().retcode(), retcode);
    }
    gateway.close().await;
}

/// After a restart the gateway has forgotten which agent signed in by account: the events name the agent.
#[tokio::test]
async fn an_address_of_a_sign_in_by_account_dies_after_a_restart_too() {
    let site = PushSite::new().await;
    let first = site.start();
    succeeds(&site, by_account(&site, true)).await;
    let path = site.push_path();
    first.close().await;
    let gateway = site.start();
    assert_eq!(post(&site, &path, &preview(1)).await, 200);
    assert!(knows(&gateway, 1));
    end(&site, End::SignOut).await;
    assert_eq!(post(&site, &path, &preview(2)).await, 403);
    assert!(!knows(&gateway, 2));
    gateway.close().await;
}
