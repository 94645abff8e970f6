//! The stage: a simulated CC-Gateway, a real previewgate in front of it, and an application that receives pushes, with
//! new certificates.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};

use super::application::Application;
use super::capture::CapturedLog;
use super::error::DemoError;
use super::proof;
use super::scratch::Scratch;
use crate::app::{App, Running};
use crate::config::{self, Files, LogFormat, Mode};
use crate::simulator::{Authority, Simulator, SimulatorConfig};
use crate::telemetry::Logging;

/// The ports of a demo that keeps serving: those of production, and one for the simulator.
const GATEWAY_PORT: u16 = 8043;
const ADMIN_PORT: u16 = 9043;
const SIMULATOR_PORT: u16 = 18043;

/// Longer than the documented two minutes, so that a user who reads the instructions is still signed in.
const NEVER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What kind of stage.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// `validation.mode` of the gateway.
    pub(super) mode: Mode,
    /// On well-known ports where they are free, or on any.
    pub(super) ports: Ports,
    /// How long the simulator holds a poll.
    pub(super) poll_wait: Duration,
    /// `log.format` of the gateway. Steps are compared with lines of text.
    pub(super) log_format: LogFormat,
}

/// Which ports to listen on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ports {
    /// The ports above, or any other port in place of one that is taken.
    WellKnown,
    /// Any free ports.
    Any,
}

impl Ports {
    /// Where to listen, if `preferred` is free.
    pub(super) fn address(self, preferred: u16) -> SocketAddr {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, preferred));
        // The port is tried first, because the gateway's own listener would share it with another gateway of this user.
        if self == Self::WellKnown && TcpListener::bind(wanted).is_ok() { wanted } else { any }
    }
}

/// A port that is reserved until the gateway has bound it. The configuration needs it before the gateway listens, as
/// the port that the platform pushes to.
struct Reserved {
    address: SocketAddr,
    _socket: Socket,
}

impl Reserved {
    fn new(wanted: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, None)?;
        // This socket does not listen, and allows sharing. The system gives the port to no other program, and the
        // gateway can still bind it.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&wanted.into())?;
        let address = socket.local_addr()?.as_socket().unwrap_or(wanted);
        Ok(Self { address, _socket: socket })
    }
}

/// All servers of the demo, and their logs.
pub(super) struct Stage {
    /// The upstream.
    pub(super) simulator: Simulator,
    /// The application that receives pushes.
    pub(super) application: Application,
    /// The gateway.
    pub(super) gateway: Running,
    /// Its log, to flush it.
    pub(super) logging: Logging,
    /// What was logged.
    pub(super) log: CapturedLog,
    /// The trust of the gateway's clients.
    pub(super) trust: Arc<ClientConfig>,
    /// The same as a PEM file, for both servers.
    pub(super) ca: PathBuf,
    /// The files. Declared last, so that they are removed after all their readers have ended.
    pub(super) scratch: Scratch,
}

impl Stage {
    /// Makes certificates and configuration, starts both servers. Needs a runtime, on which the simulator runs.
    pub(super) async fn set(plan: Plan) -> Result<Self, DemoError> {
        let scratch = Scratch::new()?;
        let authority = Authority::new()?;
        let front = authority.issue(&["localhost", "127.0.0.1"])?;
        let back = authority.issue(&["localhost", "127.0.0.1"])?;
        let pushed_to = authority.issue(&["127.0.0.1"])?;
        let ca = scratch.write("ca.crt", authority.pem())?;
        scratch.write_identity("gateway", &front)?;
        scratch.write_secret("push.key")?;
        proof::prepare(scratch.path())?;
        let simulator = Simulator::start(SimulatorConfig {
            address: plan.ports.address(SIMULATOR_PORT),
            tls: Some(back.server_config()?),
            poll_wait: plan.poll_wait,
            idle_sign_out: NEVER,
            // A poll gets only events of the script.
            follow_ups: false,
            // Every refusal of a callout comes from the gateway.
            lenient_callouts: true,
            ..SimulatorConfig::default()
        })
        .await?;
        let application = Application::start(pushed_to.server_config()?).await?;
        let reserved = Reserved::new(plan.ports.address(GATEWAY_PORT))?;
        let text = configuration(plan, reserved.address, simulator.address(), &application);
        let file = scratch.write("previewgate.toml", text)?;
        let config = config::load(&file, Files::Check)?;
        let log = CapturedLog::default();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone()))?;
        let gateway = App::bind(config, &logging).and_then(App::start)?;
        drop(reserved);
        Ok(Self { simulator, application, gateway, logging, log, trust: front.client_config()?, ca, scratch })
    }

    /// Ends all servers in order, then removes the files.
    pub(super) async fn strike(self) -> io::Result<()> {
        self.gateway.stop();
        // The simulator runs on this thread's runtime and still responds while the gateway finishes its requests.
        tokio::task::spawn_blocking(move || self.gateway.wait()).await.map_err(io::Error::other)??;
        self.simulator.stop().await;
        self.application.stop().await;
        drop(self.logging);
        drop(self.scratch);
        Ok(())
    }
}

/// The gateway's configuration, read by the real loader.
fn configuration(plan: Plan, address: SocketAddr, upstream: SocketAddr, application: &Application) -> String {
    let Plan { mode, ports, log_format, .. } = plan;
    let (audit, signing_key, number_keys) = (proof::DIRECTORY, proof::SIGNING_KEY, proof::NUMBER_KEYS);
    let (admin, application) = (ports.address(ADMIN_PORT), application.origin());
    format!(
        r#"[listener]
address = "{address}"

[listener.tls]
certificate = "gateway.crt"
private_key = "gateway.key"

[upstream]
endpoints = ["https://{upstream}"]

[upstream.tls]
ca = "ca.crt"

[push]
public_url = "https://{address}"
key = "push.key"
allowed_targets = ["{application}"]

[push.tls]
ca = "ca.crt"

[validation]
mode = "{mode}"

[admin]
address = "{admin}"

[log]
format = "{log_format}"
access = "none"

[audit]
directory = "{audit}"
signing_key = "{signing_key}"
number_keys = "{number_keys}"
checkpoint_interval = "1s"

[runtime]
workers = 2

[shutdown]
drain = "3s"
"#
    )
}
