//! An answer that quotes the gateway's push address never reaches a client: a client that has the address can show an agent
//! false previews.

use std::io::Write;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use super::site::{PushSite, path_of};
use crate::support::{API, Answer, Gateway, Peer, Port, Request, Upstream};

/// What the platform answers to everything, in pieces; the argument is the push address.
type Script = Box<dyn Fn(&str) -> Vec<Vec<u8>> + Send>;

/// A platform that knows the push address of agent 101 and answers as the test wants.
struct Quoting {
    site: PushSite,
    gateway: Gateway,
    _platform: Upstream,
    url: Arc<Mutex<String>>,
    script: Arc<Mutex<Script>>,
}

impl Quoting {
    async fn start() -> Self {
        let site = PushSite::new().await;
        let url = Arc::new(Mutex::new(String::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(|_| vec![whole("", br#"{"retcode":"0"}"#)])));
        let (known, answers) = (Arc::clone(&url), Arc::clone(&script));
        let platform = Upstream::secure(Port::reserve().listen(), &site.pki.upstream, move |peer| {
            play(peer, Arc::clone(&known), Arc::clone(&answers))
        });
        let settings = format!("upstream.endpoints = [\"https://{}\"]\n{}", platform.address, PushSite::loopback());
        let gateway = site.start_with(&settings);
        let quoting = Self { site, gateway, _platform: platform, url, script };
        assert_eq!(quoting.site.sign_in(quoting.site.push_url_sign_in()).await.passed().retcode(), "0");
        quoting
    }

    /// The present push address.
    fn url(&self) -> String {
        self.url.lock().unwrap().clone()
    }

    /// Sends a request to which the platform answers so; returns as much of the answer as comes.
    async fn ask(&self, request: Request, script: impl Fn(&str) -> Vec<Vec<u8>> + Send + 'static) -> Answer {
        *self.script.lock().unwrap() = Box::new(script);
        self.gateway.connect().await.send_and_read_on(&request).await
    }
}

async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    mut peer: Peer<S>,
    url: Arc<Mutex<String>>,
    script: Arc<Mutex<Script>>,
) {
    while let Some(request) = peer.request().await {
        if let Some(given) = request.json()["pushUrl"].as_str() {
            *url.lock().unwrap() = given.to_owned();
        }
        let pieces = script.lock().unwrap()(&url.lock().unwrap());
        for piece in pieces {
            if peer.write(&piece).await.is_none() {
                return;
            }
            // Gives the gateway a chance to pass the piece on before the next one comes.
            tokio::task::yield_now().await;
        }
    }
}

/// An answer with a length.
fn whole(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The head of an answer in chunks, and the chunks.
fn chunked(fields: &str, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{fields}Transfer-Encoding: chunked\r\n\r\n");
    let chunk = |piece: &&[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    let pieces = pieces.iter().filter(|piece| !piece.is_empty()).map(chunk);
    std::iter::once(head.into_bytes()).chain(pieces).chain([b"0\r\n\r\n".to_vec()]).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(vec![], Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(vec![], Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A way to spell an address in an answer.
type Spell = fn(&str) -> Vec<u8>;

const SPELLINGS: [(&str, Spell); 13] = [
    ("plain", |url| url.into()),
    ("without origin", |url| url.split_at(url.find("/previewgate").unwrap()).1.into()),
    ("escaped slashes", |url| url.replace('/', "\\/").into()),
    ("\\u002f", |url| url.replace('/', "\\u002f").into()),
    ("\\u002F", |url| url.replace('/', "\\u002F").into()),
    ("all \\u", |url| url.chars().map(|c| format!("\\u{:04X}", u32::from(c))).collect::<String>().into()),
    ("percent", |url| url.replace(':', "%3A").replace('/', "%2F").into()),
    ("percent, lower case", |url| url.replace('/', "%2f").into()),
    ("all percent", |url| url.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>().into()),
    ("twice percent", |url| url.replace('/', "%252F").into()),
    ("JSON in a string", |url| url.replace('/', "\\\\\\/").into()),
    ("markup", |url| url.replace('/', "&#x2F;").into()),
    ("UTF-16", |url| url.encode_utf16().flat_map(u16::to_le_bytes).collect()),
];

/// Requests whose answers take different ways through the gateway.
fn requests() -> Vec<Request> {
    let sign_in = json!({"password": "p", "phonenum": "1"});
    vec![
        Request::put(format!("{API}/onlineagent/101/forcelogin")).json(&sign_in),
        Request::get(format!("{API}/agentevent/101")),
        Request::get(format!("{API}/agentevent/allagentevent")),
        Request::put(format!("{API}/voicecall/101/cancelPreviewCallout")).json(&json!({"callcontrolid": 7})),
        Request::new("DELETE", format!("{API}/onlineagent/101/logout")),
        Request::get(format!("{API}/onlineagent/101/agentinfo")),
    ]
}

#[track_caller]
fn assert_withheld(what: &str, answer: &Answer) {
    let own = answer.own();
    assert_eq!((own.status, own.retcode.as_str(), own.reason.as_str()), (502, "100-007", ""), "{what}");
}

#[tokio::test]
async fn whole_answers_are_withheld_in_every_spelling_and_coding() {
    let quoting = Quoting::start().await;
    let secret = quoting.url().rsplit('.').next().unwrap().to_owned();
    for request in requests() {
        for (name, spell) in SPELLINGS {
            let body = move |url: &str| [br#"{"retcode":"0","message":""#, &spell(url)[..], br#""}"#].concat();
            let answer = quoting.ask(request.clone().guid("g"), move |url| vec![whole("", &body(url))]).await;
            let what = format!("{name} {}", answer.text());
            assert!(!answer.text().contains(&secret), "{what}");
            // What passes in pieces is cut, and withheld if it is whole in memory.
            if answer.is_own() {
                assert_withheld(&what, &answer);
            } else {
                assert!(!answer.text().ends_with("\"}"), "{what}");
            }
        }
        for (coding, encode) in
            [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("deflate", zlib), ("deflate", deflate), ("x-gzip", gzip)]
        {
            let body = move |url: &str| encode(format!(r#"{{"retcode":"0","message":"{url}"}}"#).as_bytes());
            let fields = format!("Content-Encoding: {coding}\r\n");
            let request = request.clone().guid("g").header("Accept-Encoding", "gzip, deflate, br");
            let answer = quoting.ask(request, move |url| vec![whole(&fields, &body(url))]).await;
            let length = answer.header("content-length").parse::<usize>().unwrap();
            assert!(answer.is_own() || answer.body.len() < length, "{coding} {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_streamed_answer_is_cut_before_the_address_wherever_its_chunks_are_cut() {
    let quoting = Quoting::start().await;
    let request = || Request::get(format!("{API}/recordings/101/log")).guid("g");
    let url = quoting.url();
    let secret = url.rsplit('.').next().unwrap().to_owned();
    let start = url.find("/previewgate").unwrap();
    for cut in start..start + 22 {
        let script = move |url: &str| {
            let (before, after) = url.split_at(cut);
            chunked("", &[b"a log: ", before.as_bytes(), after.as_bytes(), b" and more"])
        };
        let answer = quoting.ask(request(), script).await;
        assert!(answer.text().starts_with("a log: "), "{answer:?}");
        assert!(!answer.text().contains(&secret) && !answer.text().contains("/push/"), "{cut} {answer:?}");
    }
    // Each byte in a chunk of its own.
    let answer = quoting.ask(request(), |url| chunked("", &url.as_bytes().chunks(1).collect::<Vec<_>>())).await;
    assert!(answer.text().len() < start + 19, "{answer:?}");
    // A compressed stream, byte for byte: what passes holds no address.
    let script = |url: &str| {
        let body = gzip(format!("{} {url} {}", "x".repeat(500), "y".repeat(500)).as_bytes());
        chunked("Content-Encoding: gzip\r\n", &body.chunks(1).collect::<Vec<_>>())
    };
    let answer = quoting.ask(request().header("Accept-Encoding", "gzip"), script).await;
    let mut text = Vec::new();
    let _ = std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut text);
    assert!(!String::from_utf8_lossy(&text).contains(&secret), "{}", String::from_utf8_lossy(&text));
    // An answer larger than what is held, with the address at its end.
    let script = |url: &str| vec![whole("", format!("{}{url}", "x".repeat(3_000_000)).as_bytes())];
    for request in [Request::get(format!("{API}/agentevent/101")), request()] {
        let answer = quoting.ask(request.guid("g"), script).await;
        assert!(answer.body.len() < 3_000_000 + start + 19 && !answer.text().contains(&secret));
    }
}

#[tokio::test]
async fn header_fields_the_reason_phrase_and_parts_quote_no_address_either() {
    let quoting = Quoting::start().await;
    for request in requests() {
        for field in [
            "Location: {}",
            "X-Note: pushed to {} for 101",
            "Set-Cookie: back={percent}; Path=/",
            "Link: <{}>; rel=callback",
            "X-Upper: {upper}",
        ] {
            let script = move |url: &str| {
                let percent = url.replace('/', "%2F");
                let field = field.replace("{percent}", &percent).replace("{upper}", &url.to_uppercase());
                vec![whole(&format!("{}\r\n", field.replace("{}", url)), br#"{"retcode":"0"}"#)]
            };
            assert_withheld(field, &quoting.ask(request.clone().guid("g"), script).await);
        }
        let phrase = |url: &str| {
            let answer = String::from_utf8(whole("", br#"{"retcode":"0"}"#)).unwrap();
            vec![answer.replacen("200 OK", &format!("200 {url}"), 1).into_bytes()]
        };
        assert_withheld("reason phrase", &quoting.ask(request.guid("g"), phrase).await);
    }
    // A part of a text may begin within the address.
    let part = |url: &str| {
        let tail = url.split_at(url.len() - 60).1;
        let answer = String::from_utf8(whole("Content-Range: bytes 60-119/120\r\n", tail.as_bytes())).unwrap();
        vec![answer.replacen("200 OK", "206 Partial Content", 1).into_bytes()]
    };
    let request = Request::get(format!("{API}/recordings/101/log")).guid("g").header("Range", "bytes=60-119");
    assert_withheld("part", &quoting.ask(request, part).await);
    // A coding that the gateway cannot undo.
    let request = Request::get(format!("{API}/recordings/101/log")).guid("g").header("Accept-Encoding", "br");
    assert_withheld("br", &quoting.ask(request, |_| vec![whole("Content-Encoding: br\r\n", b"????")]).await);
}

#[tokio::test]
async fn answers_that_quote_nothing_pass_byte_for_byte() {
    let quoting = Quoting::start().await;
    let text = r#"{"retcode":"0","message":"see /previewgate/ and push/ \/ % %2F &#47; \u002f"}"#.as_bytes();
    for request in requests() {
        for (fields, body) in [
            ("", text.to_vec()),
            ("Content-Encoding: gzip\r\n", gzip(text)),
            ("Content-Encoding: deflate\r\n", zlib(text)),
            ("Content-Encoding: utf-8\r\n", text.to_vec()),
        ] {
            let sent = body.clone();
            let request = request.clone().guid("g").header("Accept-Encoding", "gzip, deflate");
            let answer = quoting.ask(request, move |_| vec![whole(fields, &sent)]).await.passed();
            assert_eq!(answer.body, body, "{fields}");
        }
    }
    let audio = b"HTTP/1.1 206 Partial Content\r\nContent-Type: audio/wav\r\nContent-Range: bytes 1-4/9\r\nContent-Length: 4\r\n\r\nabcd";
    let request = Request::get(format!("{API}/recordings/101/file")).header("Range", "bytes=1-4");
    assert_eq!(quoting.ask(request, |_| vec![audio.to_vec()]).await.passed().text(), "abcd");
}

/// A callout that was forwarded stays forwarded in the decision log, although its answer is withheld.
#[tokio::test]
async fn a_callout_whose_answer_is_withheld_keeps_its_decision() {
    let quoting = Quoting::start().await;
    quoting.gateway.learns(101, 7, "100");
    let callout = Request::put(format!("{API}/voicecall/101/previewCallout")).guid("g").id("quoted");
    let callout = callout.json(&json!({"called": "100", "callcontrolid": 7}));
    let script = |url: &str| vec![whole("", format!(r#"{{"retcode":"0","result":"{url}"}}"#).as_bytes())];
    assert_withheld("callout", &quoting.ask(callout, script).await);
    let decision = quoting.gateway.log.decision("quoted").await;
    assert_eq!((&decision["decision"], &decision["reason"]), (&json!("forwarded"), &json!("ok")), "{decision}");
}

/// The application is a client too.
#[tokio::test]
async fn a_push_that_quotes_its_own_address_does_not_reach_the_application() {
    let quoting = Quoting::start().await;
    let url = quoting.url();
    let path = path_of(&url, quoting.site.gateway_address());
    let body = json!({"retcode": "0", "event": {"eventType": "x", "workNo": "101", "content": {"callBackUri": url}}});
    let refused = quoting.site.send(Request::post(path.clone()).guid("g").body(body.to_string())).await;
    assert_eq!((refused.status, quoting.site.application.seen().len()), (502, 0));
    // A proxy in front of the gateway may note what it was asked for.
    let push = Request::post(path.clone()).guid("g").header("X-Original-URI", path.clone()).header("Referer", url);
    let relayed = quoting.site.send(push.header("X-Other", "1").body("{}")).await;
    assert_eq!(relayed.status, 200);
    let seen = quoting.site.application.seen().pop().unwrap().request;
    assert!(!seen.head.contains("previewgate"), "{}", seen.head);
    assert_eq!((seen.header("guid"), seen.header("x-other")), ("g", "1"));
}
