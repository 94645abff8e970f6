//! A simulated platform, the gateway as this process or another, and a client that blocks: what the operational tests
//! are made of. Nothing here is asynchronous but the simulator, which has a thread of its own.

#![allow(dead_code, reason = "each test target uses its part of this")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use previewgate::app::{App, Running};
use previewgate::config::{self, Files};
use previewgate::preview::{AgentId, ControlId};
use previewgate::simulator::{Simulator, SimulatorConfig, SimulatorHandle};
use previewgate::telemetry::Logging;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Longer than anything takes, on any machine: says only when a test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that gives no signal.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until `done`, for as long as patience lasts.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

pub(crate) fn id(agent: u32) -> AgentId {
    agent.to_string().parse().unwrap()
}

/// A simulator with a thread of its own. Its callouts always succeed: whoever refuses one is the gateway.
pub(crate) struct Platform {
    pub(crate) handle: SimulatorHandle,
    pub(crate) address: SocketAddr,
    simulator: Option<Simulator>,
    runtime: Runtime,
}

impl Platform {
    pub(crate) fn start() -> Self {
        Self::with(SimulatorConfig::default())
    }

    pub(crate) fn with(config: SimulatorConfig) -> Self {
        let config = SimulatorConfig { lenient_callouts: true, follow_ups: false, ..config };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let simulator = runtime.block_on(Simulator::start(config)).unwrap();
        Self { handle: simulator.handle(), address: simulator.address(), simulator: Some(simulator), runtime }
    }

    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, event: impl Future<Output = T>) -> T {
        let outcome = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, event).await });
        outcome.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    /// Shows the agent a preview by a poll through `client`.
    pub(crate) fn show(&self, client: &mut Client, agent: &Agent, control_id: i64, number: &str) {
        self.handle.preview(id(agent.number), ControlId(control_id), number);
        let answer = client.poll(agent);
        assert_eq!(answer.json()["event"]["content"]["controlid"], control_id, "{answer:?}");
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Some(simulator) = self.simulator.take() {
            self.runtime.block_on(simulator.stop());
        }
    }
}

/// A directory with a configuration file.
pub(crate) struct Site {
    pub(crate) directory: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("previewgate.toml")
    }

    /// Writes a configuration: the least there must be, and `more`.
    pub(crate) fn configure(&self, endpoints: &[String], more: &str) {
        let text = format!(
            "listener.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\nupstream.endpoints = {endpoints:?}\n\
             shutdown.drain = \"10s\"\n{more}\n"
        );
        self.write("previewgate.toml", &text);
    }
}

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A gateway in this process.
pub(crate) struct Inside {
    pub(crate) running: Option<Running>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) log: Log,
    logging: Logging,
}

/// A gateway that is bound and does not serve yet: who connects has to wait.
pub(crate) struct Bound {
    app: App,
    log: Log,
    logging: Logging,
}

impl Bound {
    pub(crate) fn address(&self) -> SocketAddr {
        self.app.address()
    }

    pub(crate) fn start(self) -> Inside {
        let Self { app, log, logging } = self;
        let running = app.start().unwrap();
        Inside { address: running.address, admin: running.admin_address, running: Some(running), log, logging }
    }
}

impl Inside {
    pub(crate) fn bind(site: &Site) -> Bound {
        let config = config::load(&site.config(), Files::Check).unwrap_or_else(|problems| panic!("{problems}"));
        let log = Log::default();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone())).unwrap();
        let app = App::bind(config, &logging).unwrap().reloading(site.config());
        Bound { app, log, logging }
    }

    pub(crate) fn start(site: &Site) -> Self {
        Self::bind(site).start()
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// What was logged up to now.
    pub(crate) fn logged(&self) -> String {
        assert!(self.logging.writer.flush(PATIENCE));
        self.log.text()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            running.wait().unwrap();
        }
    }
}

/// A gateway that is a process of its own; killed when dropped.
pub(crate) struct Outside {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// What comes after the line that says that it is ready.
    pub(crate) stdout: BufReader<ChildStdout>,
}

/// The command that runs the gateway; extended by tests.
pub(crate) const RUN: &str = "exec \"$PREVIEWGATE\" run --config \"$CONFIG\"";

/// A shell that will carry out `script`, with `$PREVIEWGATE` and `$CONFIG` set.
pub(crate) fn shell(script: &str, files: &Site) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("PREVIEWGATE", env!("CARGO_BIN_EXE_previewgate")).env("CONFIG", files.config());
    command
}

impl Outside {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        // From here on it is killed whatever happens.
        let mut gateway = Self { child, address: nowhere, admin: nowhere, stdout };
        let mut line = String::new();
        while gateway.address == nowhere {
            line.clear();
            assert!(gateway.stdout.read_line(&mut line).unwrap() > 0, "ended before it was ready");
            let Ok(said) = serde_json::from_str::<Value>(&line) else { continue };
            if said["message"] == "ready" {
                let address = |name: &str| said[name].as_str().unwrap().parse().unwrap();
                (gateway.address, gateway.admin) = (address("address"), address("admin"));
            }
        }
        gateway
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A connection to a server, kept alive.
pub(crate) struct Client {
    stream: BufReader<Box<dyn Stream>>,
}

/// A signed-in agent.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) number: u32,
    pub(crate) guid: String,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn retcode(&self) -> String {
        self.json()["retcode"].as_str().unwrap().to_owned()
    }

    /// The gateway's reason for a refusal; empty if it refused nothing.
    pub(crate) fn reason(&self) -> &str {
        self.header("x-previewgate-reason").unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.trim()))
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(Box::new(socket(address)?)) })
    }

    /// Over TLS; also what the server's own certificate is.
    pub(crate) fn secure(address: SocketAddr, tls: Arc<ClientConfig>) -> io::Result<(Self, Vec<u8>)> {
        let mut session = ClientConnection::new(tls, ServerName::from(address.ip())).map_err(io::Error::other)?;
        let mut socket = socket(address)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        let certificate = session.peer_certificates().unwrap()[0].to_vec();
        let stream: Box<dyn Stream> = Box::new(StreamOwned::new(session, socket));
        Ok((Self { stream: BufReader::new(stream) }, certificate))
    }

    #[track_caller]
    pub(crate) fn send(&mut self, method: &str, path: &str, guid: &str, body: &str) -> Answer {
        self.try_send(method, path, guid, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) fn try_send(&mut self, method: &str, path: &str, guid: &str, body: &str) -> io::Result<Answer> {
        let guid = if guid.is_empty() { String::new() } else { format!("Guid: {guid}\r\n") };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: gateway\r\n{guid}Content-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.stream.get_mut().flush()?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("no answer but {head:?}")));
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        answer.body = String::from_utf8(body).map_err(io::Error::other)?;
        Ok(answer)
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "", "")
    }

    pub(crate) fn sign_in(&mut self, number: u32) -> Agent {
        let answer = self.send("PUT", &format!("/agentgateway/resource/onlineagent/{number}"), "", "{}");
        assert_eq!(answer.retcode(), "0", "{answer:?}");
        let guid = answer.header("set-guid").unwrap().trim_start_matches("JSESSIONID=").to_owned();
        Agent { number, guid }
    }

    #[track_caller]
    pub(crate) fn poll(&mut self, agent: &Agent) -> Answer {
        self.send("GET", &format!("/agentgateway/resource/agentevent/{}", agent.number), &agent.guid, "")
    }

    #[track_caller]
    pub(crate) fn call(&mut self, agent: &Agent, control_id: i64, number: &str) -> Answer {
        self.try_call(agent, control_id, number).unwrap()
    }

    pub(crate) fn try_call(&mut self, agent: &Agent, control_id: i64, number: &str) -> io::Result<Answer> {
        let path = format!("/agentgateway/resource/voicecall/{}/previewCallout", agent.number);
        let body = json!({"called": number, "callcontrolid": control_id}).to_string();
        self.try_send("PUT", &path, &agent.guid, &body)
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// A poll that is being held, and its answer later.
pub(crate) fn hold(platform: &Platform, mut client: Client, agent: &Agent) -> JoinHandle<(Client, Answer)> {
    let before = platform.handle.held_polls();
    let agent = agent.clone();
    let poll = std::thread::spawn(move || {
        let answer = client.poll(&agent);
        (client, answer)
    });
    platform.wait("the poll to be held", platform.handle.wait_for_held_polls(before + 1));
    poll
}

/// The value of a series of the gateway's metrics.
pub(crate) fn metric(admin: SocketAddr, series: &str) -> f64 {
    let text = Client::connect(admin).get("/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).trim().parse().unwrap()
}
