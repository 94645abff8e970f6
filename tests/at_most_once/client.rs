//! A client that accepts nothing but a complete HTTP answer.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer takes longer; one that does hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    address: SocketAddr,
    connection: Option<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Sends `request` on the kept connection or a new one, and reads the whole answer.
    pub(crate) async fn ask(&mut self, request: &str) -> Answer {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(self.address).await.unwrap(),
        };
        connection.write_all(request.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, read(&mut connection))
            .await
            .unwrap_or_else(|_| panic!("the client hangs after {request}"));
        if !answer.head.to_ascii_lowercase().contains("connection: close") {
            self.connection = Some(connection);
        }
        answer
    }
}

/// One answer with a Content-Length.
pub(crate) async fn read(connection: &mut (impl AsyncReadExt + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
            let length = length_of(&head);
            break (head, length);
        }
        more(connection, &mut bytes).await;
    };
    while bytes.len() < length {
        more(connection, &mut bytes).await;
    }
    assert_eq!(bytes.len(), length, "more than the answer: {head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: String::from_utf8(bytes).unwrap() }
}

async fn more(connection: &mut (impl AsyncReadExt + Unpin), bytes: &mut Vec<u8>) {
    let read = connection.read_buf(bytes).await;
    assert!(matches!(read, Ok(1..)), "cut off ({read:?}) after {:?}", String::from_utf8_lossy(bytes));
}

pub(crate) fn length_of(head: &str) -> usize {
    let head = head.to_ascii_lowercase();
    let value = head.split("content-length:").nth(1).unwrap_or_else(|| panic!("no length: {head}"));
    value.lines().next().unwrap().trim().parse().unwrap()
}

pub(crate) fn callout(agent: u32, guid: &str) -> String {
    let body = format!(r#"{{"called":"88880000","callcontrolid":"{agent}"}}"#);
    format!(
        "PUT /agentgateway/resource/voicecall/{agent}/previewCallout HTTP/1.1\r\nHost: gate\r\nGuid: {guid}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn poll(agent: u32, guid: &str) -> String {
    format!("GET /agentgateway/resource/agentevent/{agent} HTTP/1.1\r\nHost: gate\r\nGuid: {guid}\r\n\r\n")
}
