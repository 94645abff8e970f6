//! A CC-Gateway that pushes, and the application that receives: agents get their previews without a poll.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::corpus::request;
use crate::send::PATIENCE;
use crate::tomcat::Tomcat;
use crate::wire::{Connection, Target};

const JSON: &str = "Content-Type: application/json;charset=UTF-8\r\n";

/// Pushes through one gateway.
pub(crate) struct Pushes<'a> {
    tomcat: &'a Tomcat,
    gate: &'a Target,
    application: Application,
}

impl<'a> Pushes<'a> {
    pub(crate) fn new(tomcat: &'a Tomcat, gate: &'a Target) -> Self {
        Self { tomcat, gate, application: Application::start() }
    }

    /// Signs `agent` in for push and pushes the preview that follows from his number.
    pub(crate) fn show(&self, agent: u32) {
        let path = self.address_of(agent);
        let content = json!({"controlid": agent * 10, "dialeddigits": format!("7{agent}01,7{agent}02")});
        let event =
            json!({"eventType": "AgentEvent_Preview_CallOut_Ex", "workNo": agent.to_string(), "content": content});
        let push = json!({"workNo": agent.to_string(), "eventList": [event]}).to_string();
        assert_eq!(self.ask(&request("POST", &path, "push", JSON, push.as_bytes())), 200);
    }

    /// Signs `agent` in for push, and returns the path that CC-Gateway was told to push to.
    pub(crate) fn address_of(&self, agent: u32) -> String {
        let marker = format!("sign-in-{agent}");
        let url = format!("http://{}/pushed", self.application.address);
        let body = json!({"phonenum": "1", "callBackUri": url, "serviceToken": "t"}).to_string();
        let path = format!("/agentgateway/resource/onlineagent/{agent}/forcelogin");
        assert_eq!(self.ask(&request("PUT", &path, &marker, JSON, body.as_bytes())), 200);
        let journal = self.tomcat.journal();
        let arrived: Value = journal
            .lines()
            .rev()
            .map(|line| serde_json::from_str(line).unwrap())
            .find(|entry: &Value| entry["case"] == marker.as_str())
            .unwrap();
        let body: Value = serde_json::from_str(arrived["signIn"].as_str().unwrap()).unwrap();
        let address = body["callBackUri"].as_str().unwrap();
        let path = address.strip_prefix("http://gateway.example:8043").expect("the gateway's own address");
        path.to_owned()
    }

    fn ask(&self, request: &[u8]) -> u16 {
        let mut connection = Connection::open(self.gate);
        connection.send(request);
        connection.answer(PATIENCE, false).unwrap().status
    }
}

/// Takes every push; ended when dropped.
struct Application {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, over) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            for socket in listener.incoming() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let _ = socket.and_then(|socket| answer(&socket));
            }
        });
        Self { address, over, thread: Some(thread) }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Reads one push and answers it.
fn answer(mut socket: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        let lower = line.to_ascii_lowercase();
        length = lower.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap());
        line.clear();
    }
    reader.read_exact(&mut vec![0; length])?;
    let thanks = r#"{"message":"","retcode":"0"}"#;
    write!(socket, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{thanks}", thanks.len())
}
