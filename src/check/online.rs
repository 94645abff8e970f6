//! `check --online`: connects to every endpoint and to Redis, as the gateway would.

use std::io;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::config::{Config, StoreKind};
use crate::store;
use crate::telemetry::Metrics;
use crate::upstream::{Endpoint, TcpDial, Upstream};

/// One connection that was tried.
pub(super) struct Attempt {
    /// The endpoint, or Redis.
    pub(super) target: String,
    /// A remark about a connection that was made; empty, or begins with a comma.
    pub(super) detail: String,
    /// Why there is no connection; `None` if there is one.
    pub(super) failure: Option<String>,
}

/// Tries all connections at the same time, each within the time limits of the configuration.
pub(super) fn attempts(config: &Config) -> io::Result<Vec<Attempt>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let attempts = runtime.block_on(async { tokio::join!(endpoints(config), redis(config)) });
    // A name server that does not answer must not keep the process alive.
    runtime.shutdown_background();
    let (mut endpoints, redis) = attempts;
    endpoints.extend(redis);
    Ok(endpoints)
}

async fn endpoints(config: &Config) -> Vec<Attempt> {
    match Upstream::new(config, Arc::new(Metrics::new()), Arc::new(TcpDial), None) {
        Ok(upstream) => join_all(upstream.endpoints().iter().map(|endpoint| one(&upstream, endpoint))).await,
        Err(error) => {
            let (target, failure) = ("upstream.tls".to_owned(), Some(error.to_string()));
            vec![Attempt { target, detail: String::new(), failure }]
        }
    }
}

async fn one(upstream: &Upstream, endpoint: &Endpoint) -> Attempt {
    let failure = upstream.try_endpoint(endpoint).await.err().map(|cause| cause.to_string());
    let valid_until = |period: crate::tls::Period| {
        format!(", certificate valid until {}", humantime::format_rfc3339_seconds(period.end))
    };
    let detail = endpoint.certificate_period().map(valid_until).unwrap_or_default();
    Attempt { target: endpoint.name.to_string(), detail, failure }
}

async fn redis(config: &Config) -> Option<Attempt> {
    let StoreKind::Redis(settings) = &config.previews.store else { return None };
    let failure = store::try_redis(settings).await.err();
    Some(Attempt {
        target: format!("redis {}:{}", settings.url.host, settings.url.port),
        detail: String::new(),
        failure,
    })
}
