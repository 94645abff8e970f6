//! What a configuration may do, but nobody should do unknowingly: said at every check and every start.

use std::net::IpAddr;
use std::time::Duration;

use super::{Config, Endpoint, Mode, OnUnknownPreview, Scheme};

/// Tomcat closes an idle connection after 20 s unless told otherwise.
const SHORTEST_UPSTREAM_KEEP_ALIVE: Duration = Duration::from_secs(20);

impl Config {
    /// One sentence for each setting that weakens protection or is likely to cause trouble, its key first.
    pub fn warnings(&self) -> Vec<String> {
        let upstream_plain = self.upstream.endpoints.iter().any(|endpoint| is_plain(endpoint) && !is_local(endpoint));
        let listener_plain = self.listener.tls.is_none() && !self.listener.address.ip().is_loopback();
        [
            (
                self.validation.mode == Mode::Monitor,
                "validation.mode: \"monitor\" refuses nothing; callouts without a preview are only logged and counted",
            ),
            (
                self.validation.on_unknown_preview == OnUnknownPreview::Forward,
                "validation.on_unknown_preview: \"forward\" lets an agent of whom no preview is known call any number",
            ),
            (
                !self.validation.warm_up.is_zero(),
                "validation.warm_up: for that long after a start without a restored snapshot, an agent of whom no preview \
                 is known can call any number",
            ),
            (
                self.upstream.tls.insecure_skip_verify,
                "upstream.tls.insecure_skip_verify: anybody on the path can pose as the upstream",
            ),
            (upstream_plain, "upstream.endpoints: numbers and credentials cross the network unencrypted; use https"),
            (listener_plain, "listener.tls: not set; applications send numbers and credentials unencrypted"),
            (
                !self.admin.address.ip().is_loopback(),
                "admin.address: not a loopback address; whoever reaches it needs no password",
            ),
            (
                self.upstream.idle_timeout >= SHORTEST_UPSTREAM_KEEP_ALIVE,
                "upstream.idle_timeout: Tomcat may close idle connections after 20s: stay below, or some requests fail",
            ),
        ]
        .into_iter()
        .filter(|(applies, _)| *applies)
        .map(|(_, warning)| warning.to_owned())
        .collect()
    }
}

fn is_plain(endpoint: &Endpoint) -> bool {
    endpoint.scheme == Scheme::Http
}

fn is_local(endpoint: &Endpoint) -> bool {
    endpoint.host == "localhost" || endpoint.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
