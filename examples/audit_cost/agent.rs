//! Agents with a connection each: they poll and are shown previews, and call.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use previewgate::preview::{AgentId, ControlId};
use previewgate::simulator::{SelfSigned, SimulatorHandle};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::gateway::Gateway;

const API: &str = "/agentgateway/resource";
const CONTROL_ID: i64 = 11_776;

/// The agents of one gateway.
pub(crate) struct Agents(Vec<Agent>);

struct Agent {
    id: AgentId,
    guid: String,
    /// Previews so far.
    previews: u32,
    connection: SendRequest<Full<Bytes>>,
    platform: SimulatorHandle,
}

/// How long callouts took.
pub(crate) struct Latencies {
    sorted: Vec<Duration>,
    took: Duration,
    pub(crate) failed: usize,
}

impl Agents {
    /// Signs in `count` agents at the platform, connects each to the gateway, and shows it a preview.
    pub(crate) async fn connect(
        gateway: &Gateway,
        identity: &SelfSigned,
        platform: &SimulatorHandle,
        first: u32,
        count: u32,
    ) -> Self {
        let tls = TlsConnector::from(identity.client_config().unwrap());
        let mut agents = Vec::new();
        for number in first..first + count {
            let (id, platform) = (AgentId::try_from(number).unwrap(), platform.clone());
            let socket = TcpStream::connect(gateway.address).await.unwrap();
            socket.set_nodelay(true).unwrap();
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let stream = tls.connect(name, socket).await.unwrap();
            let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let guid = platform.sign_in_directly(id);
            agents.push(Agent { id, guid, previews: 0, connection: sender, platform });
        }
        let mut agents = Self(agents);
        agents.each(agents.0.len(), async |agent| agent.shown().await).await;
        agents
    }

    /// All agents together poll this often. Each other poll shows a preview, and the one before ends the last one.
    pub(crate) async fn poll(&mut self, times: usize) {
        self.each(times.div_ceil(2), async |agent| {
            agent.released().await;
            agent.shown().await;
        })
        .await;
    }

    /// All agents together call this often.
    pub(crate) async fn call(&mut self, times: usize) {
        self.each(times, async |agent| assert!(agent.call().await, "a callout was refused")).await;
    }

    async fn each(&mut self, times: usize, request: impl AsyncFn(&mut Agent)) {
        let share = times.div_ceil(self.0.len());
        let work = self.0.iter_mut().map(async |agent| {
            for _ in 0..share {
                request(agent).await;
            }
        });
        futures_util::future::join_all(work).await;
    }

    /// Calls at this rate, whether or not the answers keep up.
    pub(crate) async fn call_at(&mut self, rate: u32, time: Duration) -> Latencies {
        let count = u32::try_from(self.0.len()).unwrap();
        let (begun, pause) = (Instant::now(), Duration::from_secs(1) * count / rate);
        let work = self.0.iter_mut().zip(0..count).map(async |(agent, number)| {
            let (mut due, mut found) = (begun + pause * number / count, Vec::new());
            while due < begun + time {
                tokio::time::sleep_until(due.into()).await;
                let forwarded = agent.call().await;
                found.push((due.elapsed(), forwarded));
                due += pause;
            }
            found
        });
        let found = futures_util::future::join_all(work).await.concat();
        let failed = found.iter().filter(|(_, forwarded)| !forwarded).count();
        let mut sorted: Vec<_> = found.into_iter().map(|(latency, _)| latency).collect();
        sorted.sort();
        Latencies { sorted, took: begun.elapsed(), failed }
    }
}

impl Latencies {
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        self.sorted[((self.sorted.len() - 1) as f64 * share).round() as usize]
    }

    /// Callouts a second.
    pub(crate) fn rate(&self) -> f64 {
        self.sorted.len() as f64 / self.took.as_secs_f64()
    }
}

impl Agent {
    /// Each preview shows two numbers, as a campaign does for a contact, and no two previews the same.
    async fn shown(&mut self) {
        self.previews += 1;
        let [first, second] = [1, 2].map(|which| self.number(which));
        self.platform.preview(self.id, ControlId(CONTROL_ID), &format!("{first},{second}"));
        let answer = self.poll().await;
        assert!(answer.body().windows(9).any(|part| part == b"controlid"), "{answer:?}");
    }

    async fn released(&mut self) {
        self.platform.release(self.id);
        let answer = self.poll().await;
        assert!(answer.body().windows(7).any(|part| part == b"Release"), "{answer:?}");
    }

    async fn poll(&mut self) -> Response<Bytes> {
        self.exchange(Method::GET, format!("{API}/agentevent/{}", self.id), Bytes::new()).await
    }

    fn number(&self, which: u32) -> String {
        format!("0{which}{:04}{:05}", self.id.as_u32() % 10_000, self.previews % 100_000)
    }

    /// Whether the callout reached the platform.
    async fn call(&mut self) -> bool {
        let body = format!(r#"{{"called":"{}","callcontrolid":"{CONTROL_ID}"}}"#, self.number(2));
        let path = format!("{API}/voicecall/{}/previewCallout", self.id);
        let answer = self.exchange(Method::PUT, path, Bytes::from(body)).await;
        answer.status() == 200 && answer.body().windows(13).any(|part| part == br#""retcode":"0""#)
    }

    async fn exchange(&mut self, method: Method, path: String, body: Bytes) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(path).header("host", "gateway").header("guid", &self.guid);
        let request = request.header("content-type", "application/json; charset=UTF-8").body(Full::new(body)).unwrap();
        self.connection.ready().await.unwrap();
        let (head, body) = self.connection.send_request(request).await.unwrap().into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }
}
