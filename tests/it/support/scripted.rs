//! An upstream that answers with bytes of the test's choice and shows the bytes that it got.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::within;

/// Answers every request with the next of its answers (the last one again and again), as it is.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    seen: watch::Sender<Vec<Seen>>,
    accepting: JoinHandle<()>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Request line and headers, without the empty line.
    pub(crate) head: String,
    /// With its transfer coding, if any.
    pub(crate) body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn request_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The header lines, in order.
    pub(crate) fn headers(&self) -> Vec<&str> {
        self.head.lines().skip(1).collect()
    }

    /// The value of the only header of this name; empty when there is none.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let named = |line: &&str| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name));
        let all: Vec<_> = self.head.lines().skip(1).filter(named).collect();
        assert!(all.len() <= 1, "{all:?}");
        all.first().and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value)
    }
}

impl Scripted {
    /// Listens on a port of the system's choice.
    pub(crate) async fn start(answers: &[&[u8]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = watch::Sender::new(Vec::new());
        let script = Arc::new(Mutex::new(answers.iter().map(|answer| answer.to_vec()).collect::<Vec<_>>()));
        let sender = seen.clone();
        let accepting = tokio::spawn(async move {
            for connection in 0.. {
                let Ok((socket, _)) = listener.accept().await else { return };
                tokio::spawn(serve(socket, connection, sender.clone(), Arc::clone(&script)));
            }
        });
        Self { address, seen, accepting }
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// The only request that came.
    #[track_caller]
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> impl Future<Output = ()> {
        within("a request at the upstream", async move {
            self.seen.subscribe().wait_for(|seen| seen.len() >= count).await.unwrap();
        })
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut socket: TcpStream,
    connection: usize,
    seen: watch::Sender<Vec<Seen>>,
    script: Arc<Mutex<Vec<Vec<u8>>>>,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            fill(&mut socket, &mut buffer).await?;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end + 4);
        let mut request = Seen { head, body: Vec::new(), connection };
        let chunked = request.header("transfer-encoding") == "chunked";
        let length = request.header("content-length").parse().unwrap_or(0);
        let complete = |body: &[u8]| if chunked { body.ends_with(b"0\r\n\r\n") } else { body.len() >= length };
        while !complete(&buffer) {
            fill(&mut socket, &mut buffer).await?;
        }
        request.body = std::mem::take(&mut buffer);
        seen.send_modify(|all| all.push(request));
        let answer = {
            let mut script = script.lock().unwrap();
            if script.len() > 1 { script.remove(0) } else { script[0].clone() }
        };
        socket.write_all(&answer).await.ok()?;
        let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        if head.split("\r\n\r\n").next()?.contains("connection: close") {
            let _ = socket.shutdown().await;
            return None;
        }
    }
}

async fn fill(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    (socket.read_buf(buffer).await.ok()? > 0).then_some(())
}
