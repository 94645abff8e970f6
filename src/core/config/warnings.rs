//! Settings that are allowed but risky. `check` and every start print a warning for each.

use std::net::IpAddr;
use std::time::Duration;

use super::model::{Config, Mode, OnAuditFailure, OnUnknownPreview, Push, StoreKind};
use super::network::Network;
use super::redis::OnStoreFailure;
use super::targets::AllowedTarget;
use crate::endpoint_url::{EndpointUrl, Scheme};
use crate::preview::Reason;

/// Tomcat closes an idle connection after 20 s by default.
const MIN_UPSTREAM_KEEP_ALIVE: Duration = Duration::from_secs(20);

impl Config {
    /// One sentence for each setting that weakens protection or is likely to cause trouble, its key first.
    pub fn warnings(&self) -> Vec<String> {
        let upstream_plain =
            self.upstream.endpoints.iter().any(|endpoint| is_plain(&endpoint.url) && !is_local(&endpoint.url));
        let redis = match &self.previews.store {
            StoreKind::Memory => None,
            StoreKind::Redis(redis) => Some(redis),
        };
        let listener_plain = self.listener.tls.is_none() && !self.listener.address.ip().is_loopback();
        [
            (
                self.validation.mode == Mode::Monitor,
                "validation.mode: \"monitor\" refuses nothing; callouts without a preview are only logged and counted",
            ),
            (
                self.validation.on_unknown_preview == OnUnknownPreview::Forward,
                "validation.on_unknown_preview: \"forward\" lets an agent without a known preview call any number",
            ),
            (
                self.validation.allow_websocket,
                "validation.allow_websocket: callouts in a WebSocket are not validated",
            ),
            (
                !self.validation.warm_up.is_zero(),
                "validation.warm_up: for this time after a start without a restored snapshot, an agent without a known \
                 preview can call any number",
            ),
            (
                self.upstream.tls.insecure_skip_verify,
                "upstream.tls.insecure_skip_verify: an attacker on the network path can pose as the upstream",
            ),
            (upstream_plain, "upstream.endpoints: numbers and credentials cross the network unencrypted; use https"),
            (listener_plain, "listener.tls: not set; applications send numbers and credentials unencrypted"),
            (
                self.listener.trusted_proxies.iter().flatten().any(Network::is_everything),
                "listener.trusted_proxies: with /0 every client can choose the address that is logged for it",
            ),
            (
                !self.admin.address.ip().is_loopback(),
                "admin.address: not a loopback address; every host that reaches it has access without a password",
            ),
            (
                self.upstream.idle_timeout >= MIN_UPSTREAM_KEEP_ALIVE,
                "upstream.idle_timeout: Tomcat may close idle connections after 20s; with a longer timeout some requests fail",
            ),
            (
                redis.is_some_and(|redis| !redis.url.tls && !is_this_machine(&redis.url.host)),
                "previews.store.url: telephone numbers cross the network unencrypted; use rediss",
            ),
            (
                redis.is_some_and(|redis| redis.on_store_failure == OnStoreFailure::Forward),
                "previews.store.on_store_failure: \"forward\" lets every agent call any number while Redis is away",
            ),
        ]
        .into_iter()
        .chain(self.about_reasons().into_iter().chain(self.about_audit()))
        .chain(self.push.iter().flat_map(|push| self.about_push(push)))
        .filter(|(applies, _)| *applies)
        .map(|(_, warning)| warning.to_owned())
        .collect()
    }
}

impl Config {
    fn about_reasons(&self) -> [(bool, &'static str); 2] {
        let validation = &self.validation;
        let is_enforced = |reason: &Reason| validation.mode_for(*reason) == Mode::Enforce;
        let of_preview = [Reason::UnknownPreview, Reason::ControlIdMismatch, Reason::NumberNotInPreview];
        let of_request = [
            Reason::MalformedBody,
            Reason::MissingField,
            Reason::InvalidAgentId,
            Reason::InvalidContentType,
            Reason::MissingGuid,
            Reason::MethodNotAllowed,
            Reason::AmbiguousPath,
            Reason::TooLarge,
        ];
        [
            (
                validation.mode == Mode::Enforce && !of_preview.iter().all(is_enforced),
                "validation.reasons: while unknown_preview, control_id_mismatch or number_not_in_preview is \"monitor\", an \
                 agent can call numbers that it was not shown",
            ),
            (
                of_preview.iter().any(is_enforced) && !of_request.iter().all(is_enforced),
                "validation.reasons: a callout that cannot be read is forwarded without a comparison with the previews, while \
                 the mode of its reason is \"monitor\"",
            ),
        ]
    }

    fn about_audit(&self) -> [(bool, &'static str); 2] {
        let audit = self.audit.as_ref();
        [
            (
                audit.is_none() && self.validation.mode == Mode::Enforce,
                "audit: not set; nothing can be proved afterwards about the callouts of this gateway",
            ),
            (
                audit.is_some_and(|audit| audit.on_failure == OnAuditFailure::Forward),
                "audit.on_failure: \"forward\" sends callouts without a record while the audit log cannot be written",
            ),
        ]
    }

    fn about_push(&self, push: &Push) -> [(bool, &'static str); 5] {
        let any_target = |is: fn(&AllowedTarget) -> bool| push.allowed_targets.iter().any(is);
        [
            (
                is_plain(&push.public_url) && !is_local(&push.public_url),
                "push.public_url: CC-Gateway pushes numbers and credentials unencrypted; use https",
            ),
            (
                any_target(|target| target.scheme == Some(Scheme::Http)),
                "push.allowed_targets: numbers and credentials reach http applications unencrypted",
            ),
            (
                any_target(AllowedTarget::is_everything),
                "push.allowed_targets: with /0 every agent can make the gateway post to any address that it reaches",
            ),
            (
                push.tls.insecure_skip_verify,
                "push.tls.insecure_skip_verify: an attacker on the network path can pose as an application",
            ),
            (
                self.listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
                "listener.tls.client_ca: pushes use the same listener, so that CC-Gateway needs a client certificate too",
            ),
        ]
    }
}

fn is_plain(url: &EndpointUrl) -> bool {
    url.scheme == Scheme::Http
}

fn is_local(url: &EndpointUrl) -> bool {
    is_this_machine(&url.host)
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
