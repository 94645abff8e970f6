//! Tests of the gate over in-memory pipes: its time limits, and bytes that it must refuse.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

const TIMEOUTS: Timeouts = Timeouts {
    first_byte: Duration::from_secs(10),
    head: Duration::from_secs(5),
    idle: Duration::from_secs(75),
    body: MinRate { span: Duration::from_secs(60), bytes: 1000 },
};
const REQUEST: &[u8] = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";

fn client_io() -> (ClientIo<DuplexStream>, DuplexStream, Arc<Connection>) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let connection = Arc::new(Connection::new(([127, 0, 0, 1], 1).into(), false, mpsc::channel(1).0));
    (ClientIo::new(server, Arc::clone(&connection), 4096, TIMEOUTS), client, connection)
}

async fn read(io: &mut ClientIo<DuplexStream>, room: usize) -> io::Result<Vec<u8>> {
    let mut out = vec![0; room];
    let count = io.read(&mut out).await?;
    out.truncate(count);
    Ok(out)
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_pass_one_by_one_and_whole() {
    let (mut io, mut client, _) = client_io();
    client.write_all(&[REQUEST, REQUEST].concat()).await.unwrap();
    assert_eq!(read(&mut io, 8192).await.unwrap(), REQUEST);
    assert_eq!(read(&mut io, 10).await.unwrap(), &REQUEST[..10]);
    assert_eq!(read(&mut io, 8192).await.unwrap(), &REQUEST[10..]);
    drop(client);
    assert_eq!(read(&mut io, 8192).await.unwrap(), b"");
}

#[tokio::test(start_paused = true)]
async fn a_refused_head_is_replaced_and_nothing_follows_it() {
    let (mut io, mut client, connection) = client_io();
    client.write_all(REQUEST).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\nHost: a\r\n\r\nPUT /secret HTTP/1.1\r\n").await.unwrap();
    assert_eq!(read(&mut io, 8192).await.unwrap(), REQUEST);
    assert_eq!(connection.fault(), None);
    assert_eq!(read(&mut io, 8192).await.unwrap(), STAND_IN);
    assert_eq!(connection.fault(), Some(HeadFault::LineEnd));
    let silence = tokio::time::timeout(Duration::from_secs(3600), read(&mut io, 8192)).await;
    assert!(silence.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_disconnected() {
    let (mut io, _client, _) = client_io();
    let start = Instant::now();
    assert_eq!(read(&mut io, 8192).await.unwrap(), b"");
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_too_slowly_is_refused() {
    let (mut io, mut client, connection) = client_io();
    let start = Instant::now();
    let trickle = async {
        for byte in b"GET / HTTP/1.1\r\n" {
            client.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let (head, ()) = tokio::join!(read(&mut io, 8192), trickle);
    assert_eq!(head.unwrap(), STAND_IN);
    assert_eq!(connection.fault(), Some(HeadFault::Timeout));
    assert!(start.elapsed() < Duration::from_secs(17));
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_disconnected_but_not_while_it_is_served() {
    let (mut io, mut client, connection) = client_io();
    client.write_all(REQUEST).await.unwrap();
    read(&mut io, 8192).await.unwrap();
    let serving = connection.serving();
    let wait = tokio::time::timeout(Duration::from_secs(3600), read(&mut io, 8192)).await;
    assert!(wait.is_err(), "a connection with a held poll is not idle");
    io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    drop(serving);
    let start = Instant::now();
    assert_eq!(read(&mut io, 8192).await.unwrap(), b"");
    assert_eq!(start.elapsed().as_secs(), 75);
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_disconnected_although_hyper_does_not_poll_again() {
    let (mut io, mut client, connection) = client_io();
    client.write_all(REQUEST).await.unwrap();
    read(&mut io, 8192).await.unwrap();
    let serving = connection.serving();
    let start = Instant::now();
    let answered = async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        drop(serving);
    };
    let reads = async {
        let mut out = [0; 8192];
        let mut out = ReadBuf::new(&mut out);
        // Reads and flushes in one poll, as hyper does.
        poll_fn(|cx| {
            let read = Pin::new(&mut io).poll_read(cx, &mut out);
            assert!(Pin::new(&mut io).poll_flush(cx).is_ready());
            read
        })
        .await
        .unwrap();
        assert_eq!(out.filled(), b"");
    };
    tokio::join!(reads, answered);
    assert!((100..=175).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_ends_the_connection() {
    let (mut io, mut client, _) = client_io();
    client.write_all(&REQUEST[..REQUEST.len() - 1]).await.unwrap();
    read(&mut io, 8192).await.unwrap();
    let start = Instant::now();
    assert_eq!(read(&mut io, 8192).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_disconnected() {
    let (mut io, _client, _) = client_io();
    let answer = vec![b'x'; 1024 * 1024];
    let start = Instant::now();
    assert_eq!(io.write_all(&answer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_too_slowly_ends_the_connection() {
    let (mut io, mut client, _) = client_io();
    client.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await.unwrap();
    read(&mut io, 8192).await.unwrap();
    let start = Instant::now();
    let trickle = async {
        while start.elapsed() < Duration::from_secs(300) && client.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
    };
    let reads = async {
        loop {
            if let Err(error) = read(&mut io, 8192).await {
                break error;
            }
        }
    };
    tokio::select! {
        error = reads => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
        () = trickle => panic!("not disconnected"),
    }
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_too_slowly_is_disconnected() {
    let (mut io, mut client, _) = client_io();
    let answer = vec![b'x'; 1024 * 1024];
    let start = Instant::now();
    let trickle = async {
        while start.elapsed() < Duration::from_secs(300) && client.read_u8().await.is_ok() {
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
    };
    tokio::select! {
        outcome = io.write_all(&answer) => assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut),
        () = trickle => panic!("not disconnected"),
    }
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_all_of_it() {
    let (mut io, mut client, _) = client_io();
    let answer = vec![b'x'; 1024 * 1024];
    let reads = async {
        let mut piece = [0; 1000];
        for _ in 0..answer.len() / piece.len() {
            tokio::time::sleep(Duration::from_secs(50)).await;
            client.read_exact(&mut piece).await.unwrap();
        }
        client.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let writes = async {
        io.write_all(&answer).await.unwrap();
        drop(io);
    };
    tokio::join!(writes, reads);
}

#[tokio::test(start_paused = true)]
async fn broken_chunks_end_the_connection() {
    let (mut io, mut client, _) = client_io();
    client.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    read(&mut io, 8192).await.unwrap();
    client.write_all(b"2;x\r\nab\r\n").await.unwrap();
    assert_eq!(read(&mut io, 8192).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}
