//! An upstream that owns its sockets, counts what arrives on them, and breaks them as planned.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::client::length_of;
use crate::faults::{ConnectionFault, Fault, Plan};

/// What has arrived anywhere.
#[derive(Default)]
pub(crate) struct Evidence {
    arrivals: Mutex<BTreeMap<u32, u32>>,
    pub(crate) faults: Mutex<BTreeMap<String, u32>>,
}

impl Evidence {
    pub(crate) fn arrivals(&self, id: u32) -> u32 {
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

pub(crate) fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(1024).unwrap()
}

/// Starts upstream `number`, until the runtime ends.
pub(crate) fn start(number: u64, plan: Plan, evidence: &Arc<Evidence>) -> SocketAddr {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into());
    let address = listener.local_addr().unwrap();
    let upstream = Upstream { number, plan, evidence: Arc::clone(evidence) };
    tokio::spawn(upstream.accept(listener, address));
    address
}

impl Upstream {
    async fn accept(self, mut listener: TcpListener, address: SocketAddr) {
        for number in 0.. {
            let Ok((mut socket, _)) = listener.accept().await else { continue };
            let fault = self.plan.of_connection(self.number, number);
            if let Some(fault) = fault {
                self.evidence.fault(fault);
            }
            match fault {
                None => {
                    let upstream = self.clone();
                    tokio::spawn(async move { upstream.serve(&mut socket).await });
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
                    // What waited in the backlog is reset, and for a while connecting is refused.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    listener = listen(address);
                }
            }
        }
    }

    async fn serve(&self, socket: &mut TcpStream) {
        while let Some(request) = Request::head(socket).await {
            self.evidence.arrived(request.id);
            let fault = self.plan.of_request(request.id);
            if let Some(fault) = fault {
                self.evidence.fault(fault);
            }
            if self.treat(socket, &request, fault).await.is_none() {
                return;
            }
        }
    }

    /// Nothing when the connection is over.
    async fn treat(&self, socket: &mut TcpStream, request: &Request, fault: Option<Fault>) -> Option<()> {
        match fault {
            Some(Fault::ResetAfterHead) => {
                reset(socket);
                return None;
            }
            Some(Fault::CloseAfterHead) => return None,
            // An answer in spite of a body that nobody reads; closing then resets the connection.
            Some(Fault::AnswerBeforeBody) => {
                send(socket, &[&request.answer()]).await?;
                return None;
            }
            _ => request.own_body(socket).await?,
        }
        self.answer(socket, request, fault).await
    }

    async fn answer(&self, socket: &mut TcpStream, request: &Request, fault: Option<Fault>) -> Option<()> {
        let answer = request.answer();
        let (head, body) = answer.split_at(answer.find("\r\n\r\n").unwrap() + 4);
        let ((half_head, rest_of_head), (half_body, _)) =
            (head.split_at(head.len() / 2), body.split_at(body.len() / 2));
        match fault {
            None => return send(socket, &[&answer]).await,
            Some(Fault::AnswerAfterInterim) => {
                let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
                return send(socket, &[interim, &answer]).await;
            }
            Some(Fault::AnswerChunked) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                return send(socket, &[head, &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())]).await;
            }
            Some(Fault::AnswerInPieces) => return send(socket, &[half_head, rest_of_head, body]).await,
            Some(Fault::AnswerThenGarbage) => send(socket, &[&answer, "\0\r\ngarbage"]).await?,
            Some(Fault::AnswerThenClose | Fault::AnswerThenReset) => send(socket, &[&answer]).await?,
            Some(Fault::AnswerThenCloseLater) => {
                send(socket, &[&answer]).await?;
                tokio::time::sleep(Duration::from_micros(self.plan.microseconds(request.id))).await;
            }
            Some(Fault::AnswerSayingClose) => {
                send(socket, &[&answer.replacen("\r\n", "\r\nConnection: close\r\n", 1)]).await?;
            }
            Some(Fault::AnswerAsHttp10) => {
                send(socket, &["HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n", body]).await?;
            }
            Some(Fault::HalfHeadThenReset | Fault::HalfHeadThenClose) => send(socket, &[half_head]).await?,
            Some(Fault::HalfBodyThenReset | Fault::HalfBodyThenClose) => send(socket, &[head, half_body]).await?,
            Some(Fault::HalfBodyThenSilence) => {
                send(socket, &[head, half_body]).await?;
                until_closed(socket).await;
            }
            Some(Fault::Silence) => until_closed(socket).await,
            Some(Fault::Garbage) => send(socket, &["\x16\x03\x01 this is not HTTP\r\n\r\n"]).await?,
            Some(Fault::SwitchProtocols) => {
                send(socket, &["HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"])
                    .await?;
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
            reset(socket);
        }
        None
    }
}

/// The next close, at the drop of the socket, sends RST.
fn reset(socket: &TcpStream) {
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}

async fn until_closed(socket: &mut TcpStream) {
    let mut rest = [0; 1024];
    while matches!(socket.read(&mut rest).await, Ok(1..)) {}
}

pub(crate) async fn send(socket: &mut TcpStream, pieces: &[&str]) -> Option<()> {
    for piece in pieces {
        socket.write_all(piece.as_bytes()).await.ok()?;
        // Lets the gateway see the pieces one by one, more often than not.
        tokio::task::yield_now().await;
    }
    Some(())
}

/// A request whose head has arrived.
pub(crate) struct Request {
    /// The agent ID: each request of the storm has its own.
    pub(crate) id: u32,
    is_poll: bool,
    pub(crate) head: String,
    /// Of the body: what came with the head.
    beginning: Vec<u8>,
}

impl Request {
    /// Nothing if the connection ends first.
    pub(crate) async fn head(socket: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if socket.read_buf(&mut bytes).await.ok()? == 0 {
                assert!(bytes.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&bytes));
                return None;
            }
        };
        let beginning = bytes.split_off(end);
        let head = String::from_utf8(bytes).unwrap();
        let id = head.split('/').find_map(|segment| segment.split(' ').next()?.parse().ok()).unwrap_or(0);
        Some(Self { id, is_poll: head.starts_with("GET"), head, beginning })
    }

    /// The whole body; nothing if the connection ends first.
    pub(crate) async fn body(&self, socket: &mut TcpStream) -> Option<Vec<u8>> {
        let length = if self.is_poll { 0 } else { length_of(&self.head) };
        let mut body = self.beginning.clone();
        assert!(body.len() <= length, "more than the body");
        // No more than that: the next request may be there already.
        let came = body.len();
        body.resize(length, 0);
        socket.read_exact(&mut body[came..]).await.ok()?;
        Some(body)
    }

    /// Reads the body, which must be that of this callout.
    async fn own_body(&self, socket: &mut TcpStream) -> Option<()> {
        let body = self.body(socket).await?;
        if !self.is_poll {
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(json["callcontrolid"], self.id.to_string(), "a body of another request");
        }
        Some(())
    }

    /// Success; says whose answer it is.
    pub(crate) fn answer(&self) -> String {
        let id = self.id;
        let body = if self.is_poll {
            format!(r#"{{"message":"{id}","retcode":"0","event":null}}"#)
        } else {
            format!(r#"{{"message":"{id}","retcode":"0","result":"1455885056-{id}"}}"#)
        };
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }
}
