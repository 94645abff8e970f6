//! Bodies of any size pass in both directions as they arrive, and the gateway's memory does not grow.

use crate::support::{API, Process, Request, Setup};

/// Bytes of one body.
const LARGE: u64 = 200 * 1000 * 1000;
/// Bytes that the gateway may grow by meanwhile.
const MAX_GROWTH: u64 = 20 * 1000 * 1000;

/// Watches how the process grows from piece to piece.
struct Growth<'p> {
    process: &'p Process,
    before: u64,
    looked: u64,
}

impl<'p> Growth<'p> {
    fn watch(process: &'p Process) -> Self {
        Self { process, before: process.resident_memory(), looked: 0 }
    }

    /// Looks every 10 MB.
    fn look(&mut self, position: u64) {
        if position >= self.looked + 10_000_000 {
            self.looked = position;
            let growth = self.process.resident_memory().saturating_sub(self.before);
            assert!(growth < MAX_GROWTH, "grown by {growth} bytes after {position}");
        }
    }
}

#[tokio::test]
async fn a_long_download_takes_no_room_and_loses_no_byte() {
    let site = Setup::encrypted().site().await;
    let gateway = site.run().await;
    let mut wire = gateway.connect().await;
    let request = Request::get(format!("{API}/recording/101/download?bytes={LARGE}"));
    wire.write(&request.bytes()).await;
    let head = wire.head().await;
    assert_eq!(head.header("content-length"), LARGE.to_string());
    let mut growth = Growth::watch(&gateway);
    let pattern: Vec<u8> = (0..251 + 1024 * 1024).map(|position| (position % 251) as u8).collect();
    let check = |position, piece: &[u8]| {
        let start = (position % 251) as usize;
        assert!(piece == &pattern[start..start + piece.len()], "wrong bytes near {position}");
        growth.look(position);
    };
    wire.skim(LARGE, check).await;
    // The framing of the connection is still correct.
    assert_eq!(wire.send(&Request::get(format!("{API}/x"))).await.passed().retcode(), "0");
}

#[tokio::test]
async fn a_long_upload_takes_no_room_and_loses_no_byte() {
    let site = Setup::encrypted().site().await;
    let gateway = site.run().await;
    let mut wire = gateway.connect().await;
    let head = format!("POST {API}/textchat/101/upload HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
    wire.write(head.as_bytes()).await;
    let mut growth = Growth::watch(&gateway);
    let block = vec![b'u'; 1_000_000];
    for written in 0..LARGE / 1_000_000 {
        wire.write(&block).await;
        growth.look(written * 1_000_000);
    }
    let answer = wire.answer().await.passed();
    assert_eq!(answer.json()["result"]["bytes"], LARGE);
    assert_eq!(site.handle.body_bytes(), LARGE);
}
