//! A site with TLS, an application that is pushed to, and the settings of `[push]`.

use std::net::SocketAddr;
use std::ops::Deref;

use previewgate::simulator::Delivery;

use super::NUMBER;
use crate::support::{API, Answer, Application, Gateway, Request, Setup, Site, id};

pub(crate) const TOKEN: &str = "service-token-0123456789";

/// Everything but the gateways.
pub(crate) struct PushSite {
    site: Site,
    pub(crate) application: Application,
}

impl Deref for PushSite {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl PushSite {
    pub(crate) async fn new() -> Self {
        let site = Setup::encrypted().site().await;
        site.write("push.key", [42; 32]);
        let application = Application::start(&site.pki.server, site.access());
        Self { site, application }
    }

    /// `[push]` that allows `targets`, with CC-Gateway pushing to this site's gateway.
    pub(crate) fn push(targets: &str) -> String {
        format!(
            "[push]\npublic_url = \"https://{{gateway}}\"\nkey = \"push.key\"\nallowed_targets = [{targets}]\n\
             timeout = \"5s\"\n[push.tls]\nca = \"ca.crt\"\n"
        )
    }

    /// The usual `[push]`.
    pub(crate) fn loopback() -> String {
        Self::push("\"https://127.0.0.0/8\"")
    }

    /// Starts the gateway with the usual `[push]`.
    pub(crate) fn start(&self) -> Gateway {
        self.start_with(&Self::loopback())
    }

    /// Starts the gateway with these settings.
    pub(crate) fn start_with(&self, settings: &str) -> Gateway {
        self.site.start(&format!("log.level = \"debug\"\nshutdown.drain = \"2s\"\n{settings}"))
    }

    /// Sends a request to the gateway.
    pub(crate) async fn send(&self, request: Request) -> Answer {
        self.access().send(&request).await
    }

    /// Signs agent 101 in and returns the answer.
    pub(crate) async fn sign_in(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.send(sign_in(body)).await
    }

    /// Agent 101 calls the number of this preview: `ok` or the gateway's reason.
    pub(crate) async fn call_out(&self, control_id: i64) -> String {
        self.access().agent_from_elsewhere(101).call(control_id, NUMBER).await.verdict()
    }

    /// A sign-in for the current form of push, with the members in an order of their own.
    pub(crate) fn call_back_sign_in(&self) -> String {
        let url = self.application.url();
        format!("{{ \"phonenum\":\"40038\",\"callBackUri\" : \"{url}\",\"serviceToken\":\"{TOKEN}\"}}")
    }

    /// A sign-in for the older form of push.
    pub(crate) fn push_url_sign_in(&self) -> String {
        format!("{{\"password\":\"\",\"pushUrl\":\"{}\",\"phonenum\":\"40038\"}}", self.application.url())
    }

    /// The address that the simulated CC-Gateway was given to push to.
    pub(crate) fn push_url(&self) -> String {
        match self.handle.delivery(id(101)) {
            Some(Delivery::Push { uri, .. } | Delivery::PushUrl { uri }) => uri,
            other => panic!("{other:?}"),
        }
    }

    /// The path of that address; its authority is that of this site's gateway.
    pub(crate) fn push_path(&self) -> String {
        path_of(&self.push_url(), self.gateway_address())
    }

    /// Posts to the push address of agent 101, as CC-Gateway would.
    pub(crate) async fn post(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.send(Request::post(self.push_path()).body(body)).await
    }
}

pub(crate) fn sign_in(body: impl Into<Vec<u8>>) -> Request {
    let request = Request::put(format!("{API}/onlineagent/101/forcelogin"));
    request.header("Content-Type", "application/json;charset=UTF-8").body(body)
}

/// The path of a push address.
pub(crate) fn path_of(url: &str, gateway: SocketAddr) -> String {
    url.strip_prefix(&format!("https://{gateway}")).unwrap_or_else(|| panic!("{url}")).to_owned()
}

/// The series that counts pushes with this outcome.
pub(crate) fn pushes(outcome: &str) -> String {
    format!("previewgate_pushes_total{{outcome=\"{outcome}\"}}")
}

/// The series that counts sign-ins that ask for push.
pub(crate) fn sign_ins(handling: &str) -> String {
    format!("previewgate_push_sign_ins_total{{handling=\"{handling}\"}}")
}
