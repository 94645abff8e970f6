//! A well-behaved application cannot see that the gateway is there.

use crate::support::{API, Answer, Lab, Request, Scripted, Setup, Wire};
use serde_json::json;

const EMPTY_SUCCESS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n{\"message\":\"\",\"retcode\":\"0\"}";

/// A gateway in front of an upstream that gives this answer to every request.
async fn in_front_of(answer: &[u8]) -> (Lab, Scripted) {
    let upstream = Scripted::start(&[answer]).await;
    (Setup::plain().upstreams(&[upstream.address]).start().await, upstream)
}

/// The bytes that the client reads when the upstream gives this answer.
async fn relayed(answer: &[u8]) -> Answer {
    let (lab, _upstream) = in_front_of(answer).await;
    lab.send(&Request::get(format!("{API}/x"))).await.passed()
}

#[tokio::test]
async fn a_preview_is_shown_and_called() {
    for lab in [Lab::start().await, Setup::encrypted().start().await, Setup::mutual().start().await] {
        let agent = lab.agent(101).await;
        agent.shown(11776, "05712345").await;
        let answer = agent.call(11776, "05712345").await.passed();
        assert_eq!(answer.retcode(), "0");
        assert_eq!(lab.simulator.callouts().len(), 1);
    }
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent() {
    let (lab, upstream) = in_front_of(EMPTY_SUCCESS).await;
    let body = [&b"\0\xff{not json"[..], &[0xfe; 300]].concat();
    let mut wire = lab.connect().await;
    let head = format!(
        "PUT {API}/voicecall/101/hold?a=1&b=%20&&c HTTP/1.1\r\nguid: 55e1.AgentGateway1\r\nHOST: a.example\r\n\
         Cookie: JSESSIONID=1; x=\"a b\"\r\ncookie: second=2\r\nX-oDD-cAsE: \tvalue with  blanks\t\r\n\
         Content-Type: application/json;charset=GBK\r\nX-Empty:\r\nX-Bytes: caf\u{e9}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    wire.write(&[head.as_bytes(), &body].concat()).await;
    wire.answer().await.passed();
    let seen = upstream.only();
    assert_eq!(seen.request_line(), format!("PUT {API}/voicecall/101/hold?a=1&b=%20&&c HTTP/1.1"));
    assert_eq!(seen.body, body);
    let added = ["host", "x-request-id", "x-forwarded-for", "x-forwarded-proto"];
    for name in added {
        assert!(!seen.header(name).is_empty(), "{name}: {seen:?}");
    }
    let is_added = |line: &str| added.iter().any(|name| line.to_ascii_lowercase().starts_with(name));
    let mut sent = seen.headers();
    sent.retain(|line| !is_added(line));
    let expected = [
        "guid: 55e1.AgentGateway1",
        "Cookie: JSESSIONID=1; x=\"a b\"",
        "cookie: second=2",
        "X-oDD-cAsE: value with  blanks",
        "Content-Type: application/json;charset=GBK",
        "X-Empty:",
        "X-Bytes: caf\u{e9}",
        "content-length: 311",
    ];
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn an_answer_arrives_as_it_was_sent() {
    let body = [0, 13, 10, 255, b'{'];
    let head = "HTTP/1.1 299 Quite Fine Really\r\nSet-Cookie: a=1; Path=/\r\nset-guid: JSESSIONID=55e1.AgentGateway1\r\n\
                Set-Cookie: b=2; HttpOnly\r\nX-oDD: ONE  TWO\r\nContent-LENGTH: 5\r\nContent-Type: text/weird\r\n\
                Server: Apache-Coyote/1.1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
    let answer = relayed(&[head.as_bytes(), &body].concat()).await;
    assert_eq!((answer.status, answer.phrase.as_str()), (299, "Quite Fine Really"));
    assert_eq!(answer.body, body);
    assert_eq!(answer.all("set-cookie"), ["a=1; Path=/", "b=2; HttpOnly"]);
    let mut expected: Vec<_> = head.lines().skip(1).filter(|line| !line.is_empty()).collect();
    let mut headers: Vec<_> = answer.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    expected.sort_unstable();
    headers.sort_unstable();
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn nothing_is_added_to_an_answer_that_has_no_date() {
    let answer = relayed(EMPTY_SUCCESS).await;
    let names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    // RFC 9110 6.6.1: a recipient with a clock adds a Date to what it forwards without one.
    assert!(names.iter().all(|name| ["Content-Length", "Date"].contains(name)), "{names:?}");
}

#[tokio::test]
async fn fields_of_one_connection_stay_on_it() {
    let (lab, upstream) = in_front_of(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Theirs\r\nKeep-Alive: timeout=20\r\nX-Theirs: 1\r\n\
          Proxy-Authenticate: Basic\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let request = Request::get(format!("{API}/x"))
        .header("Connection", "keep-alive, X-Mine")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("TE", "trailers")
        .header("Upgrade", "h2c")
        .header("X-Mine", "1")
        .header("X-Kept", "1");
    let answer = lab.send(&request).await.passed();
    for name in ["connection", "keep-alive", "x-theirs", "proxy-authenticate"] {
        assert_eq!(answer.header(name), "", "{name}");
    }
    assert_eq!(answer.header("x-kept"), "1");
    let seen = upstream.only();
    for name in ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "x-mine"] {
        assert_eq!(seen.header(name), "", "{name}");
    }
    assert_eq!(seen.header("x-kept"), "1");
}

#[tokio::test]
async fn the_upstream_gets_the_client_address() {
    let (lab, upstream) = in_front_of(EMPTY_SUCCESS).await;
    lab.send(&Request::get(format!("{API}/x"))).await;
    let request = Request::get(format!("{API}/x"))
        .header("X-Forwarded-For", "10.1.1.1, 10.2.2.2")
        .header("X-Forwarded-For", "10.3.3.3")
        .header("X-Forwarded-Proto", "gopher");
    lab.send(&request).await;
    let seen = upstream.seen();
    assert_eq!(seen[0].header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen[0].header("x-forwarded-proto"), "http");
    assert_eq!(seen[1].header("x-forwarded-for"), "10.1.1.1, 10.2.2.2, 10.3.3.3, 127.0.0.1");
    assert_eq!(seen[1].header("x-forwarded-proto"), "http");

    let lab = Setup::encrypted().start().await;
    lab.send(&Request::get(format!("{API}/x"))).await;
    assert_eq!(lab.simulator.journal()[0].header("x-forwarded-proto"), Some("https"));

    let lab = Setup::plain().config(|config| config.upstream.forwarded_headers = false).start().await;
    lab.send(&Request::get(format!("{API}/x")).header("X-Forwarded-For", "10.1.1.1")).await;
    let seen = &lab.simulator.journal()[0];
    assert_eq!(seen.header("x-forwarded-for"), Some("10.1.1.1"));
    assert_eq!(seen.header("x-forwarded-proto"), None);
}

#[tokio::test]
async fn a_request_id_is_taken_over_or_made() {
    let (lab, upstream) = in_front_of(EMPTY_SUCCESS).await;
    let long = "x".repeat(65);
    for given in ["mine-1_2.3", "", "has blanks", "quo\"te", long.as_str()] {
        let answer = lab.send(&Request::get(format!("{API}/x")).id(given)).await;
        assert!(!answer.is_own(), "the upstream's answer is left alone");
    }
    lab.send(&Request::get(format!("{API}/x"))).await;
    let seen = upstream.seen();
    let ids: Vec<_> = seen.iter().map(|seen| seen.header("x-request-id")).collect();
    assert_eq!(ids[0], "mine-1_2.3");
    for made in &ids[1..] {
        let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        assert!((16..=64).contains(&made.len()) && made.bytes().all(plain), "{ids:?}");
        assert_eq!(ids.iter().filter(|id| id == &made).count(), 1, "{ids:?}");
    }
    // The client gets the ID in an answer that the upstream did not make.
    let own = lab.send(&Request::get("/elsewhere").id("mine-2")).await.own();
    assert_eq!(own.request_id, "mine-2");
}

#[tokio::test]
async fn the_host_is_the_endpoints_or_the_clients() {
    for preserve in [false, true] {
        let upstream = Scripted::start(&[EMPTY_SUCCESS]).await;
        let setup = Setup::plain().upstreams(&[upstream.address]);
        let lab = setup.config(move |config| config.upstream.preserve_host = preserve).start().await;
        lab.send(&Request::get(format!("{API}/x")).header("Host", "cti.example:8043")).await;
        let expected = if preserve { "cti.example:8043".to_owned() } else { upstream.address.to_string() };
        assert_eq!(upstream.only().header("host"), expected);
    }
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let (lab, upstream) = in_front_of(EMPTY_SUCCESS).await;
    let mut wire = lab.connect().await;
    let head = format!("PUT {API}/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    wire.write(head.as_bytes()).await;
    assert_eq!(wire.head().await.status, 100);
    wire.write(b"abc").await;
    assert_eq!(wire.answer().await.passed().status, 200);
    let seen = upstream.only();
    assert_eq!((seen.body.as_slice(), seen.header("expect")), (&b"abc"[..], ""));
}

#[tokio::test]
async fn chunked_requests_and_answers_stay_chunked() {
    let (lab, upstream) =
        in_front_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n")
            .await;
    let mut wire = lab.connect().await;
    for _ in 0..2 {
        let head = format!("POST {API}/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.write(format!("{head}5\r\nhello\r\n").as_bytes()).await;
        wire.write(b"1\r\n!\r\n0\r\n\r\n").await;
        let answer = wire.answer().await.passed();
        assert_eq!((answer.body.as_slice(), answer.header("transfer-encoding")), (&b"abcdefg"[..], "chunked"));
    }
    for seen in upstream.seen() {
        assert_eq!(seen.header("transfer-encoding"), "chunked");
        assert_eq!(seen.header("content-length"), "");
        assert!(seen.body.ends_with(b"0\r\n\r\n"));
        let body = String::from_utf8(seen.body).unwrap();
        let data: String = body.split("\r\n").filter(|l| l.len() > 1 || *l == "!").collect();
        assert_eq!(data, "hello!", "{body:?}");
    }
}

#[tokio::test]
async fn answers_without_a_body_pass() {
    let (lab, _upstream) = in_front_of(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"1\"\r\n\r\n").await;
    let mut wire = lab.connect().await;
    for _ in 0..2 {
        let answer = wire.send(&Request::new("HEAD", format!("{API}/recording/1"))).await.passed();
        assert_eq!((answer.header("content-length"), answer.header("etag")), ("1234", "\"1\""));
    }
    for answer in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n"] {
        let (lab, _upstream) = in_front_of(answer.as_bytes()).await;
        let mut wire = lab.connect().await;
        for _ in 0..2 {
            let got = wire.send(&Request::get(format!("{API}/x"))).await.passed();
            assert_eq!((got.header("content-length"), got.header("transfer-encoding")), ("", ""), "{answer}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_passed_on() {
    let answer = relayed(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhow long is this").await;
    assert_eq!(answer.body, b"how long is this");
    assert_eq!(answer.header("transfer-encoding"), "chunked");
}

#[tokio::test]
async fn preflights_pass_including_that_of_the_callout() {
    let lab = Lab::start().await;
    for resource in ["agentevent/101", "voicecall/101/previewCallout", "voicecall/101/previewcallout"] {
        let request = Request::new("OPTIONS", format!("{API}/{resource}"))
            .header("Origin", "https://crm.example")
            .header("Access-Control-Request-Method", "PUT")
            .header("Access-Control-Request-Headers", "guid,content-type");
        let answer = lab.send(&request).await.passed();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), "https://crm.example");
        assert_eq!(answer.header("access-control-allow-headers"), "guid,content-type");
    }
    let methods: Vec<_> = lab.simulator.journal().iter().map(|entry| entry.method.clone()).collect();
    assert_eq!(methods, ["OPTIONS"; 3]);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let lab = Setup::encrypted().start().await;
    let agent = lab.agent(101).await;
    let mut wire = lab.connect().await;
    let before = lab.simulator.requests();
    for number in 0..50 {
        let echo = Request::post(format!("{API}/chat/101/echo?n={number}")).json(&json!({ "n": number }));
        let answer = wire.send(&echo).await.passed();
        assert_eq!(answer.json()["result"]["body"], format!("{{\"n\":{number}}}"));
        // The request is refused, and the connection stays usable.
        let callout = agent.callout_request(&json!({"called": "1", "callcontrolid": 1}));
        assert_eq!(wire.send(&callout).await.own().reason, "unknown_preview");
    }
    assert_eq!(lab.simulator.requests() - before, 50);
    assert!(lab.simulator.connections_accepted() <= 3, "{}", lab.simulator.connections_accepted());
}

#[tokio::test]
async fn http_1_0_clients_are_served() {
    let (lab, upstream) =
        in_front_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    let mut wire = lab.connect().await;
    wire.write(format!("GET {API}/x HTTP/1.0\r\n\r\n").as_bytes()).await;
    let answer = wire.answer().await;
    assert_eq!((answer.version.as_str(), answer.body.as_slice()), ("HTTP/1.0", &b"abc"[..]));
    assert_eq!(answer.header("transfer-encoding"), "", "HTTP/1.0 knows no chunks");
    wire.closed().await;
    assert_eq!(upstream.only().request_line(), format!("GET {API}/x HTTP/1.1"));

    let (lab, _upstream) = in_front_of(EMPTY_SUCCESS).await;
    let mut wire = lab.connect().await;
    for _ in 0..2 {
        wire.write(format!("GET {API}/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").as_bytes()).await;
        let answer = wire.answer().await;
        assert_eq!(answer.header("connection"), "keep-alive");
        assert_eq!(answer.body.len(), 28);
    }
}

#[tokio::test]
async fn a_client_that_asks_to_close_is_disconnected_after_its_response() {
    let lab = Lab::start().await;
    let mut wire = lab.connect().await;
    let answer = wire.send(&Request::get(format!("{API}/x")).header("Connection", "close")).await.passed();
    assert_eq!(answer.header("connection"), "close");
    wire.closed().await;
}

#[tokio::test]
async fn paths_arrive_as_they_were_spelled() {
    let (lab, upstream) = in_front_of(EMPTY_SUCCESS).await;
    let paths = [
        "/agentgateway/",
        "/agentgateway/resource/mediafile/101/a%20b;c=d/%E4%BD%A0?x=%2F%2e%2E/../y",
        "/agentgateway/resource/voicecall/101/seconddial/%23",
        "/agentgateway/resource/voicecall/101/seconddial/*",
        "/agentgateway/resource/chat/101/~user/!$&'()*+,;=:@",
        "/agentgateway/resource/chat/101?",
        "/agentgateway/resource/chat/101??a=b?c&d[]=e|f",
        "/agentgateway/resource/calldata/101/callId/1455885056-1095",
    ];
    let mut wire = lab.connect().await;
    for path in paths {
        let answer = wire.send(&Request::get(path)).await;
        assert!(!answer.is_own(), "{path}: {answer:?}");
    }
    let seen: Vec<_> = upstream.seen().iter().map(|seen| seen.request_line().to_owned()).collect();
    let expected: Vec<_> = paths.iter().map(|path| format!("GET {path} HTTP/1.1")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_target_in_absolute_form_is_the_same_request() {
    let (lab, upstream) = in_front_of(EMPTY_SUCCESS).await;
    lab.send(&Request::get(format!("http://elsewhere.example:1{API}/x?y=%2F"))).await.passed();
    let seen = upstream.only();
    assert_eq!(seen.request_line(), format!("GET {API}/x?y=%2F HTTP/1.1"));
    assert_eq!(seen.header("host"), upstream.address.to_string());
}

#[tokio::test]
async fn compressed_answers_arrive_byte_for_byte() {
    let packed: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8];
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\nVary: Accept-Encoding\r\n\
         Content-Length: {}\r\n\r\n",
        packed.len()
    );
    let (lab, upstream) = in_front_of(&[head.as_bytes(), packed].concat()).await;
    for resource in ["x", "agentevent/101", "onlineagent/101"] {
        let method = if resource.starts_with('o') { "PUT" } else { "GET" };
        let request = Request::new(method, format!("{API}/{resource}")).header("Accept-Encoding", "gzip, deflate");
        let answer = lab.send(&request).await.passed();
        assert_eq!((answer.header("content-encoding"), answer.body.as_slice()), ("gzip", packed), "{resource}");
        assert_eq!(answer.header("content-length"), packed.len().to_string());
    }
    assert!(upstream.seen().iter().all(|seen| seen.header("accept-encoding") == "gzip, deflate"));
}

#[tokio::test]
async fn a_path_outside_the_prefixes_is_not_found() {
    let (lab, upstream) = in_front_of(EMPTY_SUCCESS).await;
    let mut wire = lab.connect().await;
    for path in ["/", "/agentgateway", "/manager/html", "/AgentGateway/resource/x", "/simulator/journal", "*"] {
        let method = if path == "*" { "OPTIONS" } else { "GET" };
        let own = wire.send(&Request::new(method, path)).await.own();
        assert_eq!((own.status, own.retcode.as_str(), own.close), (404, "000-002", false), "{path}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_prefix_can_be_added() {
    let upstream = Scripted::start(&[EMPTY_SUCCESS]).await;
    let setup = Setup::plain().upstreams(&[upstream.address]);
    let lab = setup.config(|config| config.upstream.path_prefixes.push("/download/".to_owned())).start().await;
    lab.send(&Request::get("/download/a")).await.passed();
    assert_eq!(upstream.only().request_line(), "GET /download/a HTTP/1.1");
}

#[tokio::test]
async fn interim_answers_of_the_upstream_do_not_disturb() {
    let lab = Lab::start().await;
    use previewgate::simulator::{Fault, Misbehaviour};
    lab.simulator.misbehave(Misbehaviour::new(Fault::Informational { count: 6 }).times(2));
    let mut wire: Wire = lab.connect().await;
    for _ in 0..2 {
        assert_eq!(wire.send(&Request::get(format!("{API}/x"))).await.passed().retcode(), "0");
    }
}
