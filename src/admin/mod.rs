//! The operators' listener: health, metrics, the effective configuration, and the previews of an agent.
//!
//! It shows no secret and no whole telephone number. The only request that changes something is `POST /reload`, and that
//! one reads only the configuration file. `admin.token` protects this request alone: everybody who reaches the listener can
//! read. So it listens on loopback by default.

mod connections;
mod decisions;
mod metrics_format;
mod page;
mod paths;
mod site;
mod socket;
mod stack;
mod status;
mod token;

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use self::connections::Connections;
use self::decisions::Filter;
use self::metrics_format::wants_open_metrics;
use self::page::{JSON, TEXT, answer};
use self::paths::PATHS;
use self::site::{Refusal, Site};
pub use self::socket::{AdminSocket, SocketFile, SocketLeaver};
use self::stack::stack;
use self::status::{Surroundings, status};
use self::token::Unauthorized;

use crate::config::{OnAuditFailure, OnStoreFailure};
use crate::gateway::Generation;
use crate::preview::{AgentId, Preview, Rule, millis};
use crate::reload::{Reloader, Trigger};
use crate::server::{ActiveGeneration, Phase, PhaseWatch};
use crate::store::{Ledger, StoreCondition};
use crate::telemetry::Metrics;
use crate::upstream::{Condition, Endpoint, Upstream};

/// Enough for operators and their scrapers. One more connection closes the one that was idle longest.
const MAX_CONNECTIONS: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept. Without descriptors, the next one would fail at once.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The service of the admin listener. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    active: ActiveGeneration,
    reloader: Arc<Reloader>,
    phase: PhaseWatch,
    /// The host name of the machine.
    machine: Option<Arc<str>>,
}

/// Who is connected.
#[derive(Clone, Copy)]
enum Operator {
    /// Over TCP: the addresses of both ends of the connection.
    Network { local: IpAddr, peer: SocketAddr },
    /// On the Unix socket: the ID of the operator's user, if the system tells it.
    Local { user: Option<u32> },
}

impl Admin {
    /// Shows the generation in force, and reloads with `reloader`.
    pub fn new(active: ActiveGeneration, reloader: Arc<Reloader>, phase: PhaseWatch) -> Self {
        Self { active, reloader, phase, machine: host_name() }
    }

    /// Serves until the runtime ends.
    pub async fn run(self, listener: TcpListener) {
        let connections = Connections::default();
        loop {
            let accepted = listener.accept().await;
            let accepted = accepted.and_then(|(socket, peer)| Ok((socket.local_addr()?, peer, socket)));
            match accepted {
                Ok((local, peer, socket)) => {
                    self.serve(&connections, socket, Operator::Network { local: local.ip(), peer });
                }
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Serves the same on a Unix socket, until the runtime ends.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub async fn run_on_socket(self, socket: AdminSocket) -> io::Result<()> {
        let (listener, connections) = (socket.listener()?, Connections::default());
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
                    self.serve(&connections, stream, Operator::Local { user });
                }
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    fn serve<S>(&self, connections: &Connections, stream: S, operator: Operator)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let admin = self.clone();
        connections.spawn(MAX_CONNECTIONS, stream, move |stream| async move {
            let metrics = Arc::clone(&admin.active.current().services.metrics);
            let pages = stack(metrics, move |request: &Request<Incoming>| admin.answer(request, operator));
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages))
                .await;
        });
    }

    fn answer(&self, request: &Request<Incoming>, operator: Operator) -> Response<Full<Bytes>> {
        let generation = self.active.current();
        let config = &generation.config.admin;
        let hosts = config.hosts.as_deref().unwrap_or_default();
        // No web page can reach a Unix socket.
        if let Operator::Network { local, .. } = operator
            && let Err(refusal) = (Site { local, machine: self.machine.as_deref(), hosts }).check(request)
        {
            return refuse(refusal);
        }
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::POST, "/reload") => match token::check(config.token.as_deref(), request.headers()) {
                Ok(()) => self.reload(operator),
                Err(unauthorized) => demand_token(unauthorized),
            },
            (&Method::GET | &Method::HEAD, path) if path != "/reload" => self.show(request, path),
            _ => answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, index()),
        }
    }

    /// Reloads. This reads files: the admin listener waits for them, and the data path does not.
    fn reload(&self, operator: Operator) -> Response<Full<Bytes>> {
        let trigger = match operator {
            Operator::Network { peer, .. } => Trigger::Admin(peer),
            Operator::Local { user } => Trigger::AdminSocket(user),
        };
        match self.reloader.reload(trigger) {
            Ok(()) => answer(StatusCode::OK, TEXT, "reloaded\n".to_owned()),
            Err(error) => answer(StatusCode::CONFLICT, TEXT, format!("nothing has changed\n{error}\n")),
        }
    }

    fn show<B>(&self, request: &Request<B>, path: &str) -> Response<Full<Bytes>> {
        let generation = self.active.current();
        match path {
            "/" => self.status(&generation, request.uri().query()),
            "/livez" => answer(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => self.readiness(),
            "/metrics" => metrics(&generation.services.metrics, request.headers()),
            "/config" => answer(StatusCode::OK, "application/toml", generation.config.to_toml()),
            "/store" => store(&generation.services.ledger),
            "/upstreams" => upstreams(&generation.upstream),
            "/decisions" => decisions(&generation, request.uri().query()),
            path => match path.strip_prefix("/previews/") {
                Some(agent) => previews(&generation, agent),
                None => answer(StatusCode::NOT_FOUND, TEXT, index()),
            },
        }
    }

    fn status(&self, generation: &Generation, query: Option<&str>) -> Response<Full<Bytes>> {
        let (host, phase) = (self.machine.as_deref(), self.phase.now());
        status(generation, Surroundings { host, phase, reload: self.reloader.last_reload(), query })
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        match self.phase.now() {
            Phase::Serving if self.active.current().services.ledger.is_joining() => {
                answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the shared store was not reached yet\n".to_owned())
            }
            Phase::Serving => answer(StatusCode::OK, TEXT, ready(&self.active.current()).to_owned()),
            Phase::NotReady | Phase::Lingering | Phase::Draining | Phase::Cut | Phase::Ended => {
                answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "shutting down\n".to_owned())
            }
        }
    }
}

/// The text of `/readyz`. A gateway that cannot record callouts stays ready: it still serves everything else, and its agents
/// stay signed in.
fn ready(generation: &Generation) -> &'static str {
    let refuses = generation.config.audit.as_ref().is_some_and(|audit| audit.on_failure == OnAuditFailure::Refuse);
    match (generation.services.audit.is_failing(), refuses) {
        (false, _) => "ready\n",
        (true, true) => "ready; the audit log cannot be written: callouts are refused as audit_unavailable\n",
        (true, false) => "ready; the audit log cannot be written: callouts are forwarded without a record\n",
    }
}

fn demand_token(unauthorized: Unauthorized) -> Response<Full<Bytes>> {
    match unauthorized {
        Unauthorized::Token => {
            let text = "this needs the token of admin.token: Authorization: Bearer ...\n";
            let mut response = answer(StatusCode::UNAUTHORIZED, TEXT, text.to_owned());
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        Unauthorized::File => {
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the file of admin.token cannot be read\n".to_owned())
        }
    }
}

fn metrics(metrics: &Metrics, headers: &HeaderMap) -> Response<Full<Bytes>> {
    if wants_open_metrics(headers) {
        answer(StatusCode::OK, Metrics::CONTENT_TYPE, metrics.encode())
    } else {
        answer(StatusCode::OK, Metrics::TEXT_TYPE, metrics.encode_text())
    }
}

fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    let (status, text) = match refusal {
        Refusal::BadHost => (StatusCode::BAD_REQUEST, "a request has exactly one Host\n"),
        Refusal::Misdirected => (
            StatusCode::MISDIRECTED_REQUEST,
            "this Host is not a name of the admin listener; if it should be, add it to admin.hosts\n",
        ),
        Refusal::OtherSite => (StatusCode::FORBIDDEN, "a page of another site may not do this\n"),
    };
    answer(status, TEXT, text.to_owned())
}

/// The host name of this machine, if the system has one.
fn host_name() -> Option<Arc<str>> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim()).filter(|name| !name.is_empty()).map(Into::into)
}

fn upstreams(upstream: &Upstream) -> Response<Full<Bytes>> {
    let seen: Vec<_> = upstream.endpoints().iter().map(|endpoint| (endpoint, endpoint.condition())).collect();
    let none_in_use = seen.iter().all(|(_, condition)| condition.ejected);
    let shown = |(endpoint, condition): &(&Endpoint, Condition)| {
        let state = match condition.ejected {
            false if !condition.proven => "unproven",
            false => "in_use",
            // No other endpoint is left, so each request still tries it.
            true if none_in_use => "last_resort",
            true => "passed_over",
        };
        json!({
            "endpoint": &*endpoint.name,
            "node": endpoint.node,
            "state": state,
            "passed_over": condition.ejected,
            "proven": condition.proven,
            "since": humantime::format_rfc3339_seconds(condition.since).to_string(),
            "why": condition.why,
            "failures_in_a_row": condition.failures_in_a_row,
            "next_try_ms": condition.next_try_in.map(millis),
        })
    };
    let endpoints: Vec<_> = seen.iter().map(shown).collect();
    answer(StatusCode::OK, JSON, format!("{}\n", json!({ "upstreams": endpoints })))
}

fn store(ledger: &Ledger) -> Response<Full<Bytes>> {
    let body = match ledger.store_condition() {
        None => json!({ "kind": "memory" }),
        Some(StoreCondition { on_failure, node, last_answer, agents_pending, agents_known }) => json!({
            "kind": "redis",
            "guarantee": match on_failure {
                OnStoreFailure::Local => Some("available"),
                OnStoreFailure::Reject => Some("strict"),
                OnStoreFailure::Forward => None,
            },
            "state": ledger.state().as_str(),
            "node": node.as_ref().map(|node| node.address.as_str()),
            "server": node.as_ref().and_then(|node| node.server.as_deref()),
            "version": node.as_ref().and_then(|node| node.version.as_deref()),
            "role": node.as_ref().and_then(|node| node.role.as_deref()),
            "last_answer_ms": millis(last_answer),
            "agents_pending": agents_pending,
            "agents_known": agents_known,
        }),
    };
    answer(StatusCode::OK, JSON, format!("{body}\n"))
}

fn decisions(generation: &Generation, query: Option<&str>) -> Response<Full<Bytes>> {
    match Filter::parse(query) {
        Ok(filter) => {
            answer(StatusCode::OK, JSON, decisions::page(&filter.apply(&generation.services.flight_recorder)))
        }
        Err(error) => answer(StatusCode::BAD_REQUEST, JSON, format!("{}\n", json!({ "error": error.to_string() }))),
    }
}

fn previews(generation: &Generation, agent: &str) -> Response<Full<Bytes>> {
    let Ok(agent) = agent.parse::<AgentId>() else {
        let explanation = json!({ "error": "an agent ID is a plain decimal number from 101 to 999999" });
        return answer(StatusCode::BAD_REQUEST, JSON, format!("{explanation}\n"));
    };
    let services = &generation.services;
    let now = services.clock.now();
    let Rule { ttl, calls_per_number } = generation.config.previews.rule();
    let shown = |preview: &Preview| {
        let age = now.since(preview.announced_at);
        let numbers: Vec<_> = preview.numbers().map(|number| number.masked().to_string()).collect();
        let mut shown = json!({
            "control_id": preview.control_id.0,
            "numbers": numbers,
            "age_ms": millis(age),
            "expired": age > ttl,
        });
        if let (1.., Some(members)) = (calls_per_number, shown.as_object_mut()) {
            // One for each number.
            let calls: Vec<_> = preview.numbers().map(|number| preview.calls.of(number).count()).collect();
            members.insert("calls".to_owned(), calls.into());
        }
        shown
    };
    // What this gateway has seen itself; and what it knows of the previews that all gateways share.
    let known = services.ledger.local().previews(agent);
    let previews: Vec<_> = known.iter().flat_map(|previews| previews.iter()).map(shown).collect();
    let mut body =
        json!({ "agent_id": agent.as_u32(), "previews": previews, "store": services.ledger.state().as_str() });
    if let (Some(all), Some(members)) = (services.ledger.shared_previews(agent), body.as_object_mut()) {
        members.insert("shared".to_owned(), all.iter().map(shown).collect());
    }
    answer(StatusCode::OK, JSON, format!("{body}\n"))
}

fn index() -> String {
    PATHS.iter().fold("previewgate\n\n".to_owned(), |mut text, (path, meaning)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{path:25} {meaning}");
        text
    })
}
