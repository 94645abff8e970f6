//! Each fault, as a client sees it.

use super::*;

fn breaking(at: Stage, how: Ending) -> Misbehaviour {
    Misbehaviour::new(Fault::Break { at, how })
}

#[tokio::test]
async fn each_break_happens_at_its_stage_and_in_its_way() {
    let (simulator, handle) = simulator().await;
    let guid = handle.sign_in_directly(agent());
    let target = format!("{BASE}/onlineagent/101/handshake");
    let mut client = Client::connect(&simulator).await;
    client.send("POST", &target, &guid, "").await;
    let (head, body) = client.read().await;
    let whole = head.len() + body.len();
    for (at, expected) in [
        (Stage::OnAccept, 0),
        (Stage::BeforeRequest, 0),
        (Stage::AfterRequest, 0),
        (Stage::InsideHead, head.len() / 2),
        (Stage::AfterHead, head.len()),
        (Stage::InsideBody, head.len() + body.len() / 2),
    ] {
        for how in [Ending::Close, Ending::Reset] {
            handle.misbehave(breaking(at, how));
            let mut client = Client::connect(&simulator).await;
            let request = format!("POST {target} HTTP/1.1\r\nGuid: {guid}\r\nContent-Length: 0\r\n\r\n");
            let _ = client.0.write_all(request.as_bytes()).await; // may already be reset
            match (client.read_to_end().await, how) {
                (Ok(bytes), Ending::Close) => assert_eq!(bytes.len(), expected, "{at:?}"),
                (Err(error), Ending::Reset) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{at:?}"),
                (other, _) => panic!("{at:?} {how:?}: {other:?}"),
            }
        }
    }
    handle.misbehave(breaking(Stage::AfterHead, Ending::Stall));
    let mut client = Client::connect(&simulator).await;
    client.send("POST", &target, &guid, "").await;
    assert_eq!(client.read_head().await.len(), head.len());
    assert!(tokio::time::timeout(Duration::from_millis(50), client.0.read_u8()).await.is_err());
    let mut client = Client::connect(&simulator).await;
    client.send("POST", &target, &guid, "").await;
    let (head, body) = client.read().await;
    assert_eq!(head.len() + body.len(), whole, "one rule, one request");
}

#[tokio::test]
async fn each_other_fault_changes_the_response() {
    let (simulator, handle) = simulator().await;
    let guid = handle.sign_in_directly(agent());
    let target = format!("{BASE}/onlineagent/101/handshake");
    for (fault, expected) in [
        (Fault::GarbageStatusLine, "\u{16}"),
        (Fault::GarbageBody, "<<<"),
        (Fault::ServerError { status: 503 }, "HTTP/1.1 503 Service Unavailable\r\n"),
        (Fault::CloseAfterAnswer, "\"retcode\":\"0\"}"),
        (Fault::ExtraResponse, "\"retcode\":\"0\"}HTTP/1.1 200 OK\r\n"),
        (Fault::LengthAndChunked, "Transfer-Encoding: chunked\r\n"),
        (Fault::Informational { count: 3 }, "103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK"),
        (Fault::HugeEvent { bytes: 100_000 }, "AgentEvent_Preview_CallOut"),
        (Fault::Delay { milliseconds: 1 }, "\"retcode\":\"0\"}"),
    ] {
        handle.misbehave(Misbehaviour::new(fault.clone()).on("HandShake").of(agent()));
        let mut client = Client::connect(&simulator).await;
        let close = if fault == Fault::CloseAfterAnswer { "" } else { "Connection: close\r\n" };
        client.write(&format!("POST {target} HTTP/1.1\r\nGuid: {guid}\r\n{close}\r\n")).await;
        let all = client.read_to_end().await.unwrap();
        let all = String::from_utf8_lossy(&all);
        assert!(all.contains(expected), "{fault:?}: {all}");
        assert_eq!(
            all.contains("Connection: close"),
            !close.is_empty() && fault != Fault::GarbageStatusLine,
            "{fault:?}"
        );
    }
}
