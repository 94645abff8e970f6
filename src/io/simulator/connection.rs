//! One connection from accept to end: it reads a request, records it, executes it, and responds or breaks on purpose.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, Body, pattern};
use super::http1::{Connection, Head, Socket};
use super::journal::JournalEntry;
use super::misbehaviour::{Ending, Fault, Stage};
use super::request::{Request, Resource};
use super::shared::{Open, Shared};
use super::{control, vendor};
use crate::stream::Stream;

/// Bytes of a request body that are kept; the rest is only counted.
const KEPT_BODY: usize = 256 * 1024;
/// How long a peer may take to close after an orderly end.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection that was just accepted.
pub(super) async fn serve(stream: Stream, peer: SocketAddr, open: Open) {
    let shared = &open.0;
    let outcome = match (shared.rules.take_on_accept(), &shared.config.tls) {
        (Some(ending), _) => end(Connection::new(stream), ending).await,
        (None, None) => requests(stream, peer, shared).await,
        (None, Some(tls)) => match TlsAcceptor::from(tls.clone()).accept(stream).await {
            Ok(stream) => requests(stream, peer, shared).await,
            Err(error) => Err(error),
        },
    };
    if let Err(error) = outcome {
        tracing::debug!(target: "previewgate::simulator", %peer, %error, "simulator: connection failed");
    }
}

async fn requests<S: Socket>(socket: S, peer: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    let mut connection = Connection::new(socket);
    loop {
        let ending = match connection.read_head().await {
            Ok(Some(head)) => exchange(&mut connection, head, peer, shared).await?,
            Ok(None) => Some(Ending::Close),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(refuse(&mut connection).await?),
            Err(error) => return Err(error),
        };
        if let Some(ending) = ending {
            return end(connection, ending).await;
        }
    }
}

async fn end<S: Socket>(mut connection: Connection<S>, ending: Ending) -> io::Result<()> {
    match ending {
        Ending::Reset => {
            connection.reset();
            Ok(())
        }
        Ending::Close => tokio::time::timeout(LINGER, connection.close()).await.unwrap_or(Ok(())),
        Ending::Stall => {
            connection.closed().await;
            Ok(())
        }
    }
}

async fn refuse<S: Socket>(connection: &mut Connection<S>) -> io::Result<Ending> {
    write_whole(connection, &Answer::html(400), true, true).await?;
    Ok(Ending::Close)
}

/// Handles one request. Returns how the connection ends; `None` if it stays open.
async fn exchange<S: Socket>(
    connection: &mut Connection<S>,
    head: Head,
    peer: SocketAddr,
    shared: &Arc<Shared>,
) -> io::Result<Option<Ending>> {
    let resource = Resource::parse(&head.target);
    let entry = JournalEntry::new(&head, resource.as_ref(), peer);
    let Some(resource) = resource else {
        shared.journal.push(entry);
        return refuse(connection).await.map(Some);
    };
    let controls = shared.config.control && resource.segments().first() == Some(&"simulator");
    let fault = if controls { None } else { shared.rules.take(&head.method, &resource) };
    if let Some(Fault::Break { at: Stage::BeforeRequest, how }) = fault {
        shared.journal.push(entry);
        return Ok(Some(how));
    }
    let (body, body_length) = read_body(connection, &head, shared, (!controls).then_some(entry)).await?;
    let request = Request { head, resource, body, body_length };
    if controls {
        let answer = control::answer(shared, &request);
        return send(connection, &request, answer, None).await;
    }
    let answer = tokio::select! {
        answer = carry_out(shared, &request, fault.as_ref()) => answer,
        () = connection.closed() => return Ok(Some(Ending::Close)),
    };
    send(connection, &request, answer, fault).await
}

/// Reads a body to its end, complete or not, and then records the request.
async fn read_body<S: Socket>(
    connection: &mut Connection<S>,
    head: &Head,
    shared: &Shared,
    entry: Option<JournalEntry>,
) -> io::Result<(Bytes, u64)> {
    let (mut kept, mut length) = (BytesMut::new(), 0);
    let keep = |piece: Bytes| {
        let room = KEPT_BODY.saturating_sub(kept.len()).min(piece.len());
        kept.extend_from_slice(piece.get(..room).unwrap_or_default());
        length += piece.len() as u64;
        shared.body_bytes.send_modify(|total| *total += piece.len() as u64);
    };
    let outcome = connection.read_body(head, keep).await;
    let body = kept.freeze();
    if let Some(entry) = entry {
        let complete = outcome.is_ok();
        let body = body.clone();
        shared.journal.push(JournalEntry { body, body_length: length, complete, time: SystemTime::now(), ..entry });
    }
    outcome.map(|()| (body, length))
}

async fn carry_out(shared: &Arc<Shared>, request: &Request, fault: Option<&Fault>) -> Answer {
    match fault {
        Some(Fault::ServerError { status }) => return Answer::html(*status),
        Some(Fault::HugeEvent { bytes }) => return vendor::huge_event(request.resource.agent(), *bytes),
        Some(Fault::Delay { milliseconds }) => tokio::time::sleep(Duration::from_millis(*milliseconds)).await,
        _ => {}
    }
    if request.resource.segments().first() != Some(&"agentgateway") {
        return Answer::html(404);
    }
    let mut answer = vendor::answer(shared, request).await;
    if fault == Some(&Fault::GarbageBody) {
        answer.body = Body::Whole("{\"message\":\"\",\"retcode\":\"0\",\"event\":{\"eventType\":<<<\u{fffd}".into());
    }
    answer
}

async fn send<S: Socket>(
    connection: &mut Connection<S>,
    request: &Request,
    mut answer: Answer,
    fault: Option<Fault>,
) -> io::Result<Option<Ending>> {
    let close = !request.head.keeps_alive();
    let with_body = request.head.method != "HEAD";
    match fault {
        Some(Fault::Break { at, how }) => {
            write_part(connection, &answer, close, at).await?;
            return Ok(Some(how));
        }
        Some(Fault::GarbageStatusLine) => {
            connection.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await?;
            return Ok(Some(Ending::Close));
        }
        Some(Fault::CloseAfterAnswer) => {
            write_whole(connection, &answer, false, with_body).await?;
            return Ok(Some(Ending::Close));
        }
        Some(Fault::LengthAndChunked) => {
            let length = answer.body.length();
            answer = answer.with("Content-Length", length.to_string()).with("Transfer-Encoding", "chunked");
            connection.write(&answer.head(close)).await?;
            write_body(connection, &answer.body, length, true).await?;
        }
        Some(Fault::ExtraResponse) => {
            write_whole(connection, &answer, close, with_body).await?;
            let smuggled = Answer::success(serde_json::json!({"result": "smuggled"}));
            write_whole(connection, &smuggled, close, true).await?;
        }
        Some(Fault::Informational { count }) => {
            for interim in ["HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"]
                .iter()
                .cycle()
                .take(count as usize)
            {
                connection.write(interim.as_bytes()).await?;
            }
            write_whole(connection, &answer, close, with_body).await?;
        }
        _ => write_whole(connection, &answer, close, with_body).await?,
    }
    Ok(close.then_some(Ending::Close))
}

async fn write_whole<S: Socket>(
    connection: &mut Connection<S>,
    answer: &Answer,
    close: bool,
    with_body: bool,
) -> io::Result<()> {
    let mut head = answer.head(close);
    match &answer.body {
        Body::Whole(body) if with_body => {
            head.extend_from_slice(body);
            connection.write(&head).await
        }
        Body::Generated { length, chunked } if with_body => {
            connection.write(&head).await?;
            write_body(connection, &answer.body, *length, *chunked).await
        }
        _ => connection.write(&head).await,
    }
}

/// As much of the answer as the stage allows.
async fn write_part<S: Socket>(
    connection: &mut Connection<S>,
    answer: &Answer,
    close: bool,
    stage: Stage,
) -> io::Result<()> {
    let head = answer.head(close);
    match stage {
        Stage::OnAccept | Stage::BeforeRequest | Stage::AfterRequest => Ok(()),
        Stage::InsideHead => connection.write(head.get(..head.len() / 2).unwrap_or_default()).await,
        Stage::AfterHead => connection.write(&head).await,
        Stage::InsideBody => {
            connection.write(&head).await?;
            let half = answer.body.length() / 2;
            match &answer.body {
                Body::Whole(body) => connection.write(body.slice(..body.len() / 2).as_ref()).await,
                Body::Generated { chunked, .. } => write_blocks(connection, half, *chunked).await,
            }
        }
    }
}

/// The body, and with chunked coding its last chunk.
async fn write_body<S: Socket>(
    connection: &mut Connection<S>,
    body: &Body,
    length: u64,
    chunked: bool,
) -> io::Result<()> {
    match body {
        Body::Whole(bytes) if chunked => {
            connection.write(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
            connection.write(bytes).await?;
            connection.write(b"\r\n").await?;
        }
        Body::Whole(bytes) => connection.write(bytes).await?,
        Body::Generated { .. } => write_blocks(connection, length, chunked).await?,
    }
    if chunked { connection.write(b"0\r\n\r\n").await } else { Ok(()) }
}

async fn write_blocks<S: Socket>(connection: &mut Connection<S>, mut length: u64, chunked: bool) -> io::Result<()> {
    let block = pattern();
    while length > 0 {
        let size = usize::try_from(length).unwrap_or(usize::MAX).min(block.len());
        let piece = block.slice(..size);
        if chunked {
            connection.write(format!("{size:x}\r\n").as_bytes()).await?;
            connection.write(&piece).await?;
            connection.write(b"\r\n").await?;
        } else {
            connection.write(&piece).await?;
        }
        length -= size as u64;
    }
    Ok(())
}
