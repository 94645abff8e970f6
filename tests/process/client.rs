//! A client that blocks, and what it gets.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

use super::PATIENCE;

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
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
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
        self.ask(method, path, guid, body)?;
        self.answer()
    }

    /// Sends a request and leaves the answer for later.
    pub(crate) fn ask(&mut self, method: &str, path: &str, guid: &str, body: &str) -> io::Result<()> {
        let guid = if guid.is_empty() { String::new() } else { format!("Guid: {guid}\r\n") };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{guid}Content-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.stream.get_mut().flush()
    }

    /// The answer to what was asked first.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        self.read().map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}")),
            _ => error,
        })
    }

    fn read(&mut self) -> io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("no answer but {head:?}")));
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
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
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The value of a series of the gateway's metrics.
pub(crate) fn metric(admin: SocketAddr, series: &str) -> f64 {
    let text = Client::connect(admin).get("/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).trim().parse().unwrap()
}
