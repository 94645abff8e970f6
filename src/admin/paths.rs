//! The paths of the admin listener.

/// Every path, in the order in which the status page lists them.
pub(super) const PATHS: [(&str, &str); 10] = [
    ("GET /", "the status page"),
    ("GET /livez", "200 while the process runs"),
    ("GET /readyz", "200 when this gateway should get traffic, else 503; independent of the upstream"),
    ("GET /metrics", "for Prometheus; OpenMetrics if Accept asks for it"),
    ("GET /config", "the effective configuration, secrets redacted"),
    ("GET /store", "the shared store: which Redis, its role, and what is not written yet"),
    ("GET /upstreams", "the endpoints: whether they are in use, since when and why"),
    ("GET /decisions", "the last 1,000 callouts and why; ?agent=, ?id=, ?reason=, ?limit= choose among them"),
    ("GET /previews/{agentid}", "the previews of an agent, numbers masked, and the state of the store"),
    ("POST /reload", "read the configuration file again; the answer lists its errors, if there are any"),
];
