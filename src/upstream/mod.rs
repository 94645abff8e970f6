//! Towards CC-Gateway or NSLB: which endpoint ([`route`]), how they are doing ([`health`], [`probe`]), kept connections
//! ([`pool`]), and the one promise that matters: nothing is ever sent twice ([`client`]).
//!
//! [`Upstream`] is what all workers share (configuration, TLS, health); each worker has a [`Client`] of its own with
//! its own connections, so that no request ever changes threads.

mod answers_first;
mod body;
mod client;
mod connect;
mod endpoint;
mod health;
mod pool;
mod probe;
mod route;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Response;

pub use body::{AnswerBody, RequestBody, StreamedBody};
pub use client::Client;
pub use endpoint::{Condition, Endpoint};
use probe::Probe;
pub use route::{Route, RoutingKey};
pub(crate) use tls::client_tls;

use crate::config::{self, Balance};
use crate::failure::FailureKind;
use crate::telemetry::Metrics;
use crate::tls::TlsError;

/// The upstream as all workers see it.
pub struct Upstream {
    endpoints: Vec<Endpoint>,
    tls: Option<tokio_rustls::TlsConnector>,
    probe: Probe,
    settings: Settings,
    metrics: Arc<Metrics>,
}

/// What a client needs of `[upstream]` and `[limits]`.
#[derive(Clone, Debug)]
struct Settings {
    connect_timeout: Duration,
    response_timeout: Duration,
    idle_timeout: Duration,
    body_idle_timeout: Duration,
    max_idle_per_endpoint: usize,
    preserve_host: bool,
    balance: Balance,
}

impl Upstream {
    /// Prepares the upstream; connects to nothing yet. Endpoints that `earlier` had too keep their health.
    ///
    /// # Errors
    /// When the certificates or keys of `[upstream.tls]` cannot be used.
    pub fn new(config: &config::Config, metrics: Arc<Metrics>, earlier: Option<&Self>) -> Result<Self, TlsError> {
        let upstream = &config.upstream;
        let tls = tls::connector(upstream)?;
        let known = |name: &str| earlier?.endpoints.iter().find(|endpoint| *endpoint.name == *name);
        let endpoint = |configured: &config::UpstreamEndpoint| {
            Endpoint::new(configured, upstream, &metrics.upstream, known(&configured.url.to_string()))
        };
        let endpoints = upstream.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?;
        let settings = Settings {
            connect_timeout: upstream.connect_timeout,
            response_timeout: upstream.response_timeout,
            idle_timeout: upstream.idle_timeout,
            body_idle_timeout: config.limits.body_idle_timeout,
            max_idle_per_endpoint: upstream.max_idle_per_endpoint,
            preserve_host: upstream.preserve_host,
            balance: upstream.balance,
        };
        Ok(Self { endpoints, tls, probe: Probe::new(upstream), settings, metrics })
    }

    /// The endpoints, in order of preference.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoints for a request, in the order in which to try them.
    pub fn route(&self, key: RoutingKey<'_>) -> Route {
        let candidates: Vec<_> = self.endpoints.iter().map(Endpoint::candidate).collect();
        route::order(&candidates, self.settings.balance, key)
    }
}

/// An answer of the upstream: its head has arrived.
#[derive(Debug)]
pub struct Answer {
    /// The head, and the body on its way.
    pub response: Response<AnswerBody>,
    /// Position of the endpoint that answered.
    pub endpoint: usize,
}

/// Why there is no answer, and what is known about the request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The upstream has not seen a byte of the request: it may be sent again.
    #[error("not sent: {0}")]
    NotSent(Cause),
    /// The upstream may have acted on it. It must never be sent again.
    #[error("outcome unknown: {0}")]
    MaybeSent(Cause),
}

impl Failure {
    /// What went wrong.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::NotSent(cause) | Self::MaybeSent(cause) => cause,
        }
    }
}

/// What went wrong on the way to an endpoint. For the log, not for the client.
#[derive(Debug, thiserror::Error)]
#[error("{kind} at {endpoint}{}", Source(.source))]
pub struct Cause {
    /// The word for the metrics.
    pub kind: FailureKind,
    /// `scheme://host:port`, from the configuration.
    pub endpoint: Arc<str>,
    /// The library's own words.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Writes an error with everything that caused it.
struct Source<'a>(&'a Option<Box<dyn std::error::Error + Send + Sync>>);

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = self.0.as_deref().map(|error| error as &(dyn std::error::Error + 'static));
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::health::Trouble;
    use super::*;

    fn upstream(endpoints: &str, earlier: Option<&Upstream>) -> Upstream {
        let text = format!("[upstream]\nendpoints = [{endpoints}]");
        let config = config::parse(&text, std::path::Path::new("/"), config::Files::Check).unwrap();
        Upstream::new(&config, Arc::new(Metrics::new()), earlier).unwrap()
    }

    #[tokio::test]
    async fn a_reload_does_not_mend_an_endpoint() {
        let before = upstream("\"http://a\", \"http://b\"", None);
        let cause = Cause { kind: FailureKind::Connect, endpoint: "a".into(), source: None };
        before.endpoints[0].failed(Trouble::Unreachable, &cause);
        let after = upstream("\"http://b\", \"http://a\", \"http://c\"", Some(&before));
        let passed_over: Vec<_> = after.endpoints().iter().map(|endpoint| endpoint.condition().passed_over).collect();
        assert_eq!(passed_over, [false, true, false]);
        assert_eq!(after.route(RoutingKey::default()), Route(vec![0, 2, 1]));
    }

    /// Answers one request after the other on each connection.
    async fn serve(listener: TcpListener) {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                while matches!(socket.read(&mut [0; 4096]).await, Ok(1..)) {
                    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            });
        }
    }

    async fn ask(client: &Client) -> Answer {
        let request = Request::get("/").body(RequestBody::Whole(Bytes::new())).unwrap();
        client.send(request, client.upstream().route(RoutingKey::default())).await.unwrap()
    }

    #[tokio::test]
    async fn a_client_that_is_let_go_keeps_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Arc::new(upstream(&format!("\"http://{}\"", listener.local_addr().unwrap()), None));
        tokio::spawn(serve(listener));
        let client = Client::new(Arc::clone(&upstream));
        let open = || upstream.metrics.connections.upstream.open();
        let (idle, in_use) = (ask(&client).await, ask(&client).await);
        idle.response.into_body().collect().await.unwrap();
        assert_eq!(open(), 2);
        client.retire();
        while open() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(in_use.response.into_body().collect().await.unwrap().to_bytes(), "ok");
        while open() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_attempt_that_is_given_up_leaves_nothing_behind() {
        // Accepts nothing: the connection stands in the backlog, and no answer comes.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Arc::new(upstream(&format!("\"http://{}\"", listener.local_addr().unwrap()), None));
        let client = Client::new(Arc::clone(&upstream));
        let open = || upstream.metrics.connections.upstream.open();
        {
            let mut asking = std::pin::pin!(ask(&client));
            while open() == 0 {
                let now =
                    std::future::poll_fn(|cx| std::task::Poll::Ready(asking.as_mut().poll(cx).is_pending())).await;
                assert!(now);
                tokio::task::yield_now().await;
            }
        }
        while open() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(!upstream.endpoints[0].condition().passed_over);
    }
}
