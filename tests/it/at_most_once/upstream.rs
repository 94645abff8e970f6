//! An upstream that owns its sockets, counts the requests that arrive, and injects the planned faults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::faults::{ConnectionFault, Fault, Plan};
use crate::support::{Peer, Port, Seen};

/// The requests that have arrived at any upstream.
#[derive(Default)]
pub(super) struct Evidence {
    arrivals: Mutex<BTreeMap<u32, u32>>,
    pub(super) faults: Mutex<BTreeMap<String, u32>>,
}

impl Evidence {
    pub(super) fn arrivals(&self, id: u32) -> u32 {
        self.arrivals.lock().unwrap().get(&id).copied().unwrap_or(0)
    }

    fn arrived(&self, id: u32) {
        *self.arrivals.lock().unwrap().entry(id).or_default() += 1;
    }

    fn fault(&self, fault: impl std::fmt::Debug) {
        *self.faults.lock().unwrap().entry(format!("{fault:?}")).or_default() += 1;
    }
}

#[derive(Clone)]
struct Upstream {
    number: u64,
    plan: Plan,
    evidence: Arc<Evidence>,
}

/// Starts upstream `number`, until the runtime ends.
pub(super) fn start(number: u64, plan: Plan, evidence: &Arc<Evidence>) -> SocketAddr {
    let port = Port::reserve();
    let address = port.address;
    let upstream = Upstream { number, plan, evidence: Arc::clone(evidence) };
    tokio::spawn(upstream.accept(port));
    address
}

impl Upstream {
    async fn accept(self, port: Port) {
        let mut listener = port.listen_for_a_while();
        for number in 0.. {
            let Ok((mut socket, _)) = listener.accept().await else { continue };
            let fault = self.plan.of_connection(self.number, number);
            if let Some(fault) = fault {
                self.evidence.fault(fault);
            }
            match fault {
                None => {
                    let upstream = self.clone();
                    tokio::spawn(async move { upstream.serve(Peer::new(socket, 0)).await });
                }
                Some(ConnectionFault::ResetAtOnce) => reset(&socket),
                Some(ConnectionFault::CloseAtOnce) => drop(socket),
                Some(ConnectionFault::ResetUnread) => {
                    tokio::spawn(async move {
                        let _ = socket.readable().await;
                        reset(&socket);
                    });
                }
                Some(ConnectionFault::CloseUnread) => {
                    tokio::spawn(async move {
                        let _ = socket.readable().await;
                        let _ = socket.shutdown().await;
                    });
                }
                Some(ConnectionFault::StopListening) => {
                    drop(listener);
                    // Connections in the backlog are reset, and new ones are refused for a while: that is the fault.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    listener = port.listen_for_a_while();
                }
            }
        }
    }

    async fn serve(&self, mut peer: Peer) {
        while let Some(head) = peer.head().await {
            let request = Request::from(head);
            self.evidence.arrived(request.id);
            let fault = self.plan.of_request(request.id);
            if let Some(fault) = fault {
                self.evidence.fault(fault);
            }
            if self.treat(&mut peer, &request, fault).await.is_none() {
                return;
            }
        }
    }

    /// `None` when the connection has ended.
    async fn treat(&self, peer: &mut Peer, request: &Request, fault: Option<Fault>) -> Option<()> {
        match fault {
            Some(Fault::ResetAfterHead) => {
                reset(&peer.stream);
                return None;
            }
            Some(Fault::CloseAfterHead) => return None,
            // Answers without reading the body. Closing then resets the connection.
            Some(Fault::AnswerBeforeBody) => {
                send(peer, &[&request.answer()]).await?;
                return None;
            }
            _ => request.own_body(peer).await?,
        }
        self.answer(peer, request, fault).await
    }

    async fn answer(&self, peer: &mut Peer, request: &Request, fault: Option<Fault>) -> Option<()> {
        let answer = request.answer();
        let (head, body) = answer.split_at(answer.find("\r\n\r\n").unwrap() + 4);
        let ((half_head, rest_of_head), (half_body, _)) =
            (head.split_at(head.len() / 2), body.split_at(body.len() / 2));
        match fault {
            None => return send(peer, &[&answer]).await,
            Some(Fault::AnswerAfterInterim) => {
                let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
                return send(peer, &[interim, &answer]).await;
            }
            Some(Fault::AnswerChunked) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                return send(peer, &[head, &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())]).await;
            }
            Some(Fault::AnswerInPieces) => return send(peer, &[half_head, rest_of_head, body]).await,
            Some(Fault::AnswerThenGarbage) => send(peer, &[&answer, "\0\r\ngarbage"]).await?,
            Some(Fault::AnswerThenClose | Fault::AnswerThenReset) => send(peer, &[&answer]).await?,
            Some(Fault::AnswerThenCloseLater) => {
                send(peer, &[&answer]).await?;
                tokio::time::sleep(Duration::from_micros(self.plan.microseconds(request.id))).await;
            }
            Some(Fault::AnswerSayingClose) => {
                send(peer, &[&answer.replacen("\r\n", "\r\nConnection: close\r\n", 1)]).await?;
            }
            Some(Fault::AnswerAsHttp10) => {
                send(peer, &["HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n", body]).await?;
            }
            Some(Fault::HalfHeadThenReset | Fault::HalfHeadThenClose) => send(peer, &[half_head]).await?,
            Some(Fault::HalfBodyThenReset | Fault::HalfBodyThenClose) => send(peer, &[head, half_body]).await?,
            Some(Fault::HalfBodyThenSilence) => {
                send(peer, &[head, half_body]).await?;
                peer.until_closed().await;
            }
            Some(Fault::Silence) => peer.until_closed().await,
            Some(Fault::Garbage) => send(peer, &["\x16\x03\x01 this is not HTTP\r\n\r\n"]).await?,
            Some(Fault::SwitchProtocols) => {
                send(peer, &["HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"]).await?;
            }
            Some(Fault::ResetAfterBody | Fault::CloseAfterBody) => {}
            Some(Fault::ResetAfterHead | Fault::CloseAfterHead | Fault::AnswerBeforeBody) => unreachable!(),
        }
        let resets = [
            Fault::AnswerThenReset,
            Fault::ResetAfterBody,
            Fault::HalfHeadThenReset,
            Fault::HalfBodyThenReset,
            Fault::HalfBodyThenSilence,
        ];
        if fault.is_some_and(|fault| resets.contains(&fault)) {
            reset(&peer.stream);
        }
        None
    }
}

/// The next close, at the drop of the socket, sends RST.
fn reset(socket: &TcpStream) {
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}

pub(super) async fn send(peer: &mut Peer, pieces: &[&str]) -> Option<()> {
    for piece in pieces {
        peer.write(piece).await?;
        // Usually lets the gateway read the pieces one by one.
        tokio::task::yield_now().await;
    }
    Some(())
}

/// A request whose head has arrived.
pub(super) struct Request {
    /// The agent ID: each request of the storm has its own.
    pub(super) id: u32,
    is_poll: bool,
    head: Seen,
}

impl From<Seen> for Request {
    fn from(head: Seen) -> Self {
        let line = head.request_line();
        let id = line.split('/').find_map(|segment| segment.split(' ').next()?.parse().ok()).unwrap_or(0);
        Self { id, is_poll: line.starts_with("GET"), head }
    }
}

impl Request {
    /// Reads the body, which must be that of this callout.
    async fn own_body(&self, peer: &mut Peer) -> Option<()> {
        let body = peer.body(&self.head).await?;
        if self.is_poll {
            assert!(body.is_empty(), "a poll with a body");
        } else {
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(json["callcontrolid"], self.id.to_string(), "a body of another request");
        }
        peer.assert_nothing_left();
        Some(())
    }

    /// Success; names the agent.
    pub(super) fn answer(&self) -> String {
        let id = self.id;
        let body = if self.is_poll {
            format!(r#"{{"message":"{id}","retcode":"0","event":null}}"#)
        } else {
            format!(r#"{{"message":"{id}","retcode":"0","result":"1455885056-{id}"}}"#)
        };
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }
}
