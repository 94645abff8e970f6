//! The connection to Redis. One task makes it, watches it and replaces it; all workers use it.
//!
//! Without a connection, an operation fails at once, so a Redis that is known to be away delays no request. A heartbeat
//! finds out that a connection hangs, and the task then gives it up.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{MultiplexedConnection, PubSub};
use ::redis::{
    AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind, Value, cmd, from_redis_value,
};
use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::config::{Discovery, RedisStore, Sentinels, password};
use crate::stream::Stream;
use crate::tls::{TlsError, provider, roots};

/// Name resolution, TCP, TLS and authentication together.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// For one sentinel, or one node of a cluster that is asked for another: the next one may answer.
const NODE_LIMIT: Duration = Duration::from_millis(500);
/// From node to node of a cluster. One leads to the owner, unless that changes meanwhile.
const MAX_REDIRECTIONS: usize = 4;
/// Commands that may be under way at once before further ones wait.
const COMMANDS_AT_ONCE: usize = 1024;

/// The present connection, if there is one.
#[derive(Default)]
pub(super) struct Link {
    present: ArcSwapOption<MultiplexedConnection>,
    node: ArcSwapOption<Node>,
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

    pub(super) fn set(&self, connection: MultiplexedConnection, node: Node) {
        self.node.store(Some(Arc::new(node)));
        self.present.store(Some(Arc::new(connection)));
    }

    pub(super) fn clear(&self) {
        self.present.store(None);
        self.node.store(None);
    }

    /// What the connection leads to.
    pub(super) fn node(&self) -> Option<Arc<Node>> {
        self.node.load_full()
    }
}

/// The server that a connection leads to, as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Host and port.
    pub address: String,
    /// "redis", or the name of another server that speaks its protocol.
    pub server: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// "master" for one that can be used.
    pub role: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("not connected within {CONNECT_LIMIT:?}")]
    Timeout,
    #[error("it is a node of a Redis Cluster: write redis+cluster:// in previews.store.url")]
    Cluster,
    #[error("no node of the cluster names the one that has the keys: {0}")]
    NoOwner(String),
    #[error("no sentinel names a master: {0}")]
    NoMaster(String),
    #[error("its user may not use {commands}: {source}")]
    Rights { commands: String, source: RedisError },
    #[error("the subscription to changes has ended")]
    Subscription,
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

/// Opens streams to Redis. TLS and its protocol come on top.
pub trait DialStore: Send + Sync {
    /// Opens a stream to `port` of `host`.
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Stream>>;
}

/// Connects and authenticates, within [`CONNECT_LIMIT`]. Reads the password and the CA certificates each time, so that
/// replaced files are in force for the next connection. Without `dial` it connects over TCP.
pub(super) async fn connect(
    settings: &RedisStore,
    dial: Option<&dyn DialStore>,
) -> Result<(MultiplexedConnection, Driver, Node), LinkError> {
    let connected = async {
        let (host, port) = address(settings, dial).await?;
        let socket = open_to(settings, &host, port, dial).await?;
        let (mut connection, driver) = multiplexed(&identity(settings)?, socket).await?;
        let node = describe(settings, &mut connection, format!("{host}:{port}")).await?;
        Ok((connection, driver, node))
    };
    tokio::time::timeout(CONNECT_LIMIT, connected).await.unwrap_or(Err(LinkError::Timeout))
}

/// Connects, authenticates and subscribes, in bounded time.
pub(super) async fn subscribe(
    settings: &RedisStore,
    channel: &str,
    dial: Option<&dyn DialStore>,
) -> Result<PubSub, LinkError> {
    let subscribed = async {
        let (host, port) = address(settings, dial).await?;
        let socket = open_to(settings, &host, port, dial).await?;
        let mut subscription = PubSub::new(&identity(settings)?, socket).await?;
        subscription.subscribe(channel).await?;
        Ok(subscription)
    };
    tokio::time::timeout(CONNECT_LIMIT, subscribed).await.unwrap_or(Err(LinkError::Timeout))
}

async fn multiplexed(
    identity: &RedisConnectionInfo,
    socket: Socket,
) -> Result<(MultiplexedConnection, Driver), LinkError> {
    // Each caller sets its own time limit.
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(COMMANDS_AT_ONCE);
    let (connection, work) = MultiplexedConnection::new_with_config(identity, socket, config).await?;
    Ok((connection, Driver(tokio::spawn(work))))
}

/// What both kinds of connections are on top of.
type Socket = Pin<Box<dyn Bytes>>;

trait Bytes: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Bytes for S {}

/// Host and port of the Redis to use at present.
async fn address(settings: &RedisStore, dial: Option<&dyn DialStore>) -> Result<(String, u16), LinkError> {
    let url = &settings.url;
    match &url.discovery {
        Discovery::None => Ok((url.host.clone(), url.port)),
        Discovery::Sentinels(sentinels) => master(settings, sentinels, dial).await,
        Discovery::Cluster(nodes) => owner(settings, nodes, dial).await,
    }
}

/// A stream to this host, with TLS if the settings say so.
async fn open_to(
    settings: &RedisStore,
    host: &str,
    port: u16,
    dial: Option<&dyn DialStore>,
) -> Result<Socket, LinkError> {
    let stream = match dial {
        Some(dial) => dial.dial(host, port).await?,
        None => Stream::tcp(TcpStream::connect((host, port)).await?),
    };
    if !settings.url.tls {
        return Ok(Box::pin(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::ServerName(host.to_owned()))?;
    Ok(Box::pin(connector(settings)?.connect(name, stream).await?))
}

/// What a node answers in time to the question that is `asked`. Without an answer, what is to be said of it.
async fn answer_of<T>(host: &str, port: u16, asked: impl Future<Output = Result<T, LinkError>>) -> Result<T, String> {
    match tokio::time::timeout(NODE_LIMIT, asked).await {
        Ok(answer) => answer.map_err(|error| format!("{host}:{port}: {error}")),
        Err(_) => Err(format!("{host}:{port} does not answer")),
    }
}

/// The address of the master, from the first sentinel that knows it.
///
/// # Errors
/// [`LinkError::NoMaster`], with what the last sentinel said.
async fn master(
    settings: &RedisStore,
    sentinels: &Sentinels,
    dial: Option<&dyn DialStore>,
) -> Result<(String, u16), LinkError> {
    let mut last = "none is configured".to_owned();
    for (host, port) in &sentinels.addresses {
        let asked = ask(settings, host, *port, &sentinels.master, dial);
        last = match answer_of(host, *port, asked).await {
            Ok(Some(master)) => return Ok(master),
            Ok(None) => format!("{host}:{port} does not know {}", sentinels.master),
            Err(said) => said,
        };
    }
    Err(LinkError::NoMaster(last))
}

async fn ask(
    settings: &RedisStore,
    host: &str,
    port: u16,
    master: &str,
    dial: Option<&dyn DialStore>,
) -> Result<Option<(String, u16)>, LinkError> {
    // Most sentinels ask for no password. The others have the one of Redis.
    let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
    match get_master(&nobody, settings, (host, port), master, dial).await {
        Err(LinkError::Redis(error)) if error.code() == Some("NOAUTH") => {
            get_master(&credentials(settings)?, settings, (host, port), master, dial).await
        }
        answer => answer,
    }
}

async fn get_master(
    identity: &RedisConnectionInfo,
    settings: &RedisStore,
    (host, port): (&str, u16),
    master: &str,
    dial: Option<&dyn DialStore>,
) -> Result<Option<(String, u16)>, LinkError> {
    let socket = open_to(settings, host, port, dial).await?;
    let (mut connection, _driver) = multiplexed(identity, socket).await?;
    let mut question = cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(master);
    Ok(question.query_async(&mut connection).await?)
}

/// The address of the node of a cluster that has the keys. They have one hash tag, so one node has all of them.
///
/// # Errors
/// [`LinkError::NoOwner`], with what the last node said.
async fn owner(
    settings: &RedisStore,
    nodes: &[(String, u16)],
    dial: Option<&dyn DialStore>,
) -> Result<(String, u16), LinkError> {
    let mut last = "none is configured".to_owned();
    for node in nodes {
        match redirected(settings, node.clone(), dial).await {
            Ok(owner) => return Ok(owner),
            Err(said) => last = said,
        }
    }
    Err(LinkError::NoOwner(last))
}

/// The node that has the keys, by way of this one. Otherwise, what the last node said.
async fn redirected(
    settings: &RedisStore,
    mut node: (String, u16),
    dial: Option<&dyn DialStore>,
) -> Result<(String, u16), String> {
    let mut said = String::new();
    for _ in 0..MAX_REDIRECTIONS {
        let (host, port) = (&node.0, node.1);
        let Some(other) = answer_of(host, port, moved_to(settings, (host, port), dial)).await? else {
            return Ok(node);
        };
        said = format!("{host}:{port} names {}:{}", other.0, other.1);
        node = other;
    }
    Err(said)
}

/// The node that has the keys, in the view of this one. `None` if it has them itself.
async fn moved_to(
    settings: &RedisStore,
    (host, port): (&str, u16),
    dial: Option<&dyn DialStore>,
) -> Result<Option<(String, u16)>, LinkError> {
    let socket = open_to(settings, host, port, dial).await?;
    let (mut connection, _driver) = multiplexed(&identity(settings)?, socket).await?;
    let mut question = cmd("HGET");
    question.arg(format!("{}agent:0", settings.prefix)).arg("tag");
    match question.query_async::<Value>(&mut connection).await {
        Ok(_) => Ok(None),
        // Without a host, it is another port of the same one.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) => {
            let named = error.redirect_node().and_then(|(address, _)| address.rsplit_once(':'));
            let other =
                named.and_then(|(other, port)| Some((if other.is_empty() { host } else { other }, port.parse().ok()?)));
            match other {
                Some((other, port)) => Ok(Some((other.to_owned(), port))),
                None => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// What the server says that it is. The gateway shares nothing through a node of a cluster that is named as if it were alone: most
/// agents would be kept by other nodes. A version that does not say what it is, is none.
async fn describe(
    settings: &RedisStore,
    connection: &mut MultiplexedConnection,
    address: String,
) -> Result<Node, LinkError> {
    let hello: Result<HashMap<String, Value>, _> = cmd("HELLO").arg(2).query_async(connection).await;
    let mut hello = hello.unwrap_or_default();
    let mut word = |name: &str| hello.remove(name).and_then(|word| from_redis_value::<String>(word).ok());
    let is_expected = matches!(settings.url.discovery, Discovery::Cluster(_));
    if !is_expected && word("mode").is_some_and(|mode| mode == "cluster") {
        return Err(LinkError::Cluster);
    }
    Ok(Node { address, server: word("server"), version: word("version"), role: word("role") })
}

fn identity(settings: &RedisStore) -> Result<RedisConnectionInfo, LinkError> {
    credentials(settings).map(|identity| identity.set_db(i64::from(settings.url.database)))
}

fn credentials(settings: &RedisStore) -> Result<RedisConnectionInfo, LinkError> {
    let mut identity = RedisConnectionInfo::default().set_skip_set_lib_name();
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
