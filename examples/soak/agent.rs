//! What an agent does all day, and whether the answers are what they must be.
//!
//! The model is what the agent was shown: since it asks for one thing after the other, the gateway must know exactly
//! that, unless it was restarted in between.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use previewgate::preview::{AgentId, ControlId};
use previewgate::simulator::SimulatorHandle;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::ledger::Ledger;

const PATIENCE: Duration = Duration::from_secs(60);
/// Fewer than the gateway keeps for an agent.
const REMEMBERED: usize = 8;
const API: &str = "/agentgateway/resource";

/// Numbers all callouts, so that one that arrives twice is known.
static CALLOUTS: AtomicU64 = AtomicU64::new(1);

#[derive(Clone)]
struct Shown {
    control_id: i64,
    number: String,
    epoch: u64,
}

/// One agent with its application.
pub(crate) struct Agent {
    number: u32,
    address: SocketAddr,
    platform: SimulatorHandle,
    ledger: Arc<Ledger>,
    guid: String,
    kept: Option<SendRequest<Full<Bytes>>>,
    shown: VecDeque<Shown>,
    next_control_id: i64,
    random: u64,
}

impl Agent {
    pub(crate) fn new(number: u32, address: SocketAddr, platform: SimulatorHandle, ledger: Arc<Ledger>) -> Self {
        let random = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ledger.at_work.fetch_add(1, Ordering::SeqCst);
        let (guid, kept, shown) = (String::new(), None, VecDeque::new());
        Self { number, address, platform, ledger, guid, kept, shown, next_control_id: 1, random }
    }

    /// Until the end is announced.
    pub(crate) async fn work(mut self) {
        while !self.ledger.finished.load(Ordering::SeqCst) {
            if self.guid.is_empty() {
                self.sign_in().await;
                continue;
            }
            match self.any(100) {
                0..30 => self.poll(true).await,
                30..35 => self.poll(false).await,
                35..65 => self.call_honestly().await,
                65..85 => self.call_dishonestly().await,
                85..92 => self.upload().await,
                92..98 => self.download().await,
                _ => self.sign_out().await,
            }
            let pause = self.any(60);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.ledger.at_work.fetch_sub(1, Ordering::SeqCst);
    }

    async fn sign_in(&mut self) {
        let path = format!("{API}/onlineagent/{}/forcelogin", self.number);
        self.shown.clear();
        let Some(answer) = self.over_kept(Method::PUT, &path, Bytes::from_static(b"{}")).await else { return };
        let guid = answer.headers().get("set-guid").and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.guid = guid.trim_start_matches("JSESSIONID=").to_owned();
    }

    async fn sign_out(&mut self) {
        let path = format!("{API}/onlineagent/{}/logout", self.number);
        self.over_kept(Method::DELETE, &path, Bytes::new()).await;
        self.shown.clear();
        self.guid.clear();
    }

    /// With an event that comes at once or while the poll is held, or without one.
    async fn poll(&mut self, eventful: bool) {
        let epoch = self.ledger.epoch();
        if eventful {
            let (id, control_id) = (self.id(), ControlId(self.next_control_id));
            let (platform, number) = (self.platform.clone(), format!("555{:07}", self.next_control_id));
            self.next_control_id += 1;
            let delay = Duration::from_millis(self.any(4) * 300);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                platform.preview(id, control_id, &number);
            });
        }
        let path = format!("{API}/agentevent/{}", self.number);
        let Some(answer) = self.over_kept(Method::GET, &path, Bytes::new()).await else { return };
        let envelope: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let content = &envelope["event"]["content"];
        if let (Some(control_id), Some(number)) = (content["controlid"].as_i64(), content["dialeddigits"].as_str()) {
            self.shown.push_back(Shown { control_id, number: number.to_owned(), epoch });
            if self.shown.len() > REMEMBERED {
                self.shown.pop_front();
            }
        }
        // The session may have ended with a sign-out whose answer was lost to a fault.
        if envelope["retcode"].as_str().is_some_and(|code| code != "0") {
            self.guid.clear();
        }
    }

    async fn call_honestly(&mut self) {
        let Some(shown) = self.some_preview() else { return };
        let (number, epoch) = (shown.number.clone(), shown.epoch);
        let reason = self.call(shown.control_id, &number, true).await;
        self.judge(epoch, reason, "");
    }

    async fn call_dishonestly(&mut self) {
        let Some(shown) = self.some_preview() else { return };
        let (reason, due) = if self.any(2) == 0 {
            (self.call(shown.control_id, "5559999999", false).await, "number_not_in_preview")
        } else {
            (self.call(-shown.control_id, &shown.number, false).await, "control_id_mismatch")
        };
        self.judge(shown.epoch, reason, due);
    }

    /// The reason for which the gateway refused it, empty if it did not; nothing if there was no whole answer.
    async fn call(&mut self, control_id: i64, number: &str, honest: bool) -> Option<String> {
        self.ledger.callouts.fetch_add(1, Ordering::Relaxed);
        let serial = CALLOUTS.fetch_add(1, Ordering::Relaxed);
        let body = json!({"called": number, "callcontrolid": control_id, "soak": serial, "honest": honest});
        let path = format!("{API}/voicecall/{}/previewCallout", self.number);
        let mut request = self.request(Method::PUT, &path, body.to_string().into());
        let id = format!("soak-{serial}").parse().unwrap();
        request.headers_mut().insert("x-request-id", id);
        // A new connection each time, as the C# client does: there is no excuse for losing one.
        let answer = async { exchange(&mut connect(self.address).await?, request).await };
        match tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(answer) => {
                self.count(&answer);
                let reason = answer.headers().get("x-previewgate-reason").and_then(|value| value.to_str().ok());
                Some(reason.unwrap_or_default().to_owned())
            }
            Err(error) => {
                self.ledger.lost(&format!("callout {serial} of {}: {error}", self.number));
                None
            }
        }
    }

    fn judge(&self, epoch: u64, reason: Option<String>, due: &str) {
        let Some(reason) = reason else { return };
        // Forgotten with the process that knew it, in part or entirely.
        let forgotten = epoch % 2 == 1 || epoch != self.ledger.epoch();
        let right = match reason.as_str() {
            "upstream_failure" => due.is_empty(),
            "unknown_preview" | "control_id_mismatch" if forgotten => true,
            reason => reason == due,
        };
        if !right {
            self.ledger.wrong(&format!("agent {}: {reason:?} instead of {due:?}", self.number));
        }
        if !matches!(reason.as_str(), "" | "upstream_failure") {
            self.ledger.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn upload(&mut self) {
        let size = usize::try_from(self.any(200_000)).unwrap_or(0);
        let path = format!("{API}/textchat/{}/upload", self.number);
        if let Some(answer) = self.over_kept(Method::POST, &path, vec![b'x'; size].into()).await {
            let envelope: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            if answer.status() == 200 && envelope["result"]["bytes"] != size {
                self.ledger.wrong(&format!("{size} bytes were sent: {envelope}"));
            }
        }
    }

    async fn download(&mut self) {
        let (size, chunked) = (self.any(500_000), self.any(2));
        let path = format!("{API}/record/download?bytes={size}&chunked={chunked}");
        if let Some(answer) = self.over_kept(Method::GET, &path, Bytes::new()).await
            && answer.status() == 200
            && answer.body().len() as u64 != size
        {
            self.ledger.wrong(&format!("{size} bytes were asked for, {} came", answer.body().len()));
        }
    }

    /// Over the connection that is kept. It may have been closed by a restart, or a moment ago: then over a new one.
    async fn over_kept(&mut self, method: Method, path: &str, body: Bytes) -> Option<Response<Bytes>> {
        let epoch = self.ledger.epoch();
        loop {
            let reused = self.kept.take_if(|sender| !sender.is_closed());
            let was_reused = reused.is_some();
            let request = self.request(method.clone(), path, body.clone());
            let answer = async {
                let mut sender = match reused {
                    Some(sender) => sender,
                    None => connect(self.address).await?,
                };
                let answer = exchange(&mut sender, request).await?;
                Ok::<_, io::Error>((answer, sender))
            };
            match tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok((answer, sender)) => {
                    self.kept = (!answer.headers().contains_key("connection")).then_some(sender);
                    self.count(&answer);
                    return Some(answer);
                }
                Err(_) if was_reused && (epoch % 2 == 1 || epoch != self.ledger.epoch()) => {
                    self.ledger.reconnected.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.ledger.lost(&format!("{method} {path} (reused: {was_reused}): {error}"));
                    return None;
                }
            }
        }
    }

    fn count(&self, answer: &Response<Bytes>) {
        self.ledger.requests.fetch_add(1, Ordering::Relaxed);
        if answer.status() != 200 {
            self.ledger.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let builder = Request::builder().method(method).uri(path).header("host", "gateway").header("guid", &self.guid);
        builder.header("content-type", "application/json; charset=UTF-8").body(Full::new(body)).unwrap()
    }

    fn id(&self) -> AgentId {
        self.number.to_string().parse().unwrap()
    }

    fn some_preview(&mut self) -> Option<Shown> {
        let most = self.shown.len() as u64;
        let position = usize::try_from(self.any(most.max(1))).unwrap_or(0);
        self.shown.get(position).cloned()
    }

    /// A number below `most`: xorshift, so that a run can be repeated.
    fn any(&mut self, most: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % most
    }
}

async fn connect(address: SocketAddr) -> io::Result<SendRequest<Full<Bytes>>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> io::Result<Response<Bytes>> {
    sender.ready().await.map_err(io::Error::other)?;
    let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
    Ok(Response::from_parts(head, body.collect().await.map_err(io::Error::other)?.to_bytes()))
}
