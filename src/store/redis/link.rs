//! The connection to Redis. One task makes it, watches it and replaces it; all workers use it.
//!
//! Without a connection, an operation fails at once, so a Redis that is known to be away delays no request. A heartbeat
//! finds out that a connection hangs, and the task then gives it up.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use arc_swap::ArcSwapOption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::config::{RedisStore, password};
use crate::tls::{TlsError, provider, roots};

/// Name resolution, TCP, TLS and authentication together.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Commands that may be under way at once before further ones wait.
const COMMANDS_AT_ONCE: usize = 1024;

/// The present connection, if there is one.
#[derive(Default)]
pub(super) struct Link {
    present: ArcSwapOption<MultiplexedConnection>,
    /// Wakes the task before its next heartbeat: changes wait to be written, or an operation has failed.
    pub(super) call: Notify,
}

impl Link {
    pub(super) fn connection(&self) -> Option<MultiplexedConnection> {
        self.present.load().as_deref().cloned()
    }

    pub(super) fn is_up(&self) -> bool {
        self.present.load().is_some()
    }

    pub(super) fn set(&self, connection: Option<MultiplexedConnection>) {
        self.present.store(connection.map(Arc::new));
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("not connected within {CONNECT_LIMIT:?}")]
    Timeout,
    #[error("{}: {source}", path.display())]
    Password { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Network(#[from] io::Error),
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// The task that moves a connection's bytes. Dropping this ends the task.
pub(super) struct Driver(JoinHandle<()>);

impl Driver {
    /// Waits for the end of the connection.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects and authenticates, within [`CONNECT_LIMIT`]. Reads the password and the CA certificates each time, so that
/// replaced files are in force for the next connection.
pub(super) async fn connect(settings: &RedisStore) -> Result<(MultiplexedConnection, Driver), LinkError> {
    tokio::time::timeout(CONNECT_LIMIT, establish(settings)).await.unwrap_or(Err(LinkError::Timeout))
}

async fn establish(settings: &RedisStore) -> Result<(MultiplexedConnection, Driver), LinkError> {
    let url = &settings.url;
    let identity = identity(settings)?;
    let socket = TcpStream::connect((url.host.as_str(), url.port)).await?;
    socket.set_nodelay(true)?;
    // Each caller sets its own time limit.
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(COMMANDS_AT_ONCE);
    if url.tls {
        let name = ServerName::try_from(url.host.clone()).map_err(|_| TlsError::ServerName(url.host.clone()))?;
        let stream = connector(settings)?.connect(name, socket).await?;
        let (connection, work) = MultiplexedConnection::new_with_config(&identity, stream, config).await?;
        Ok((connection, Driver(tokio::spawn(work))))
    } else {
        let (connection, work) = MultiplexedConnection::new_with_config(&identity, socket, config).await?;
        Ok((connection, Driver(tokio::spawn(work))))
    }
}

fn identity(settings: &RedisStore) -> Result<RedisConnectionInfo, LinkError> {
    let mut identity = RedisConnectionInfo::default().set_db(i64::from(settings.url.database)).set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        identity = identity.set_username(username);
    }
    if let Some(path) = &settings.password_file {
        let wrong = |source| LinkError::Password { path: path.clone(), source };
        let content = std::fs::read(path).map_err(wrong)?;
        let line = password(&content)
            .ok_or_else(|| wrong(io::Error::other("the file has to hold the password as its only line")))?;
        identity = identity.set_password(line);
    }
    Ok(identity)
}

fn connector(settings: &RedisStore) -> Result<TlsConnector, TlsError> {
    let trusted = match &settings.ca {
        Some(path) => roots(path)?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
