//! The gateway under test, in this process, plain HTTP on both sides.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use previewgate::app::{App, Running};
use previewgate::config::{self, Config, Files};
use previewgate::protocol::{Delivery, parse_events};
use previewgate::store::Source;
use previewgate::telemetry::Logging;

use crate::client::{Answer, Client};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) struct Gateway {
    running: Running,
    logging: Logging,
    log: Log,
}

impl Gateway {
    /// `upstream` is what stands below `[upstream]`.
    pub(crate) fn start(upstream: &str, change: impl FnOnce(&mut Config)) -> Self {
        let text = format!(
            "[listener]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[log]\naccess = \"none\"\n\
             [runtime]\nworkers = 2\n[shutdown]\ndrain = \"5s\"\n[upstream]\n{upstream}\n"
        );
        let mut config = config::parse(&text, Path::new("."), Files::Check).unwrap();
        change(&mut config);
        let log = Log::default();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone())).unwrap();
        let running = App::bind(config, &logging).unwrap().start().unwrap();
        Self { running, logging, log }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// As if the agent had been shown the number, under a control ID that is the agent ID.
    pub(crate) fn show(&self, agent: u32) {
        let event = format!(
            "{{\"eventType\":\"AgentEvent_Preview_CallOut\",\"workNo\":\"{agent}\",\
             \"content\":{{\"controlid\":{agent},\"dialeddigits\":\"88880000\"}}}}"
        );
        let ledger = &self.running.services.ledger;
        let began = ledger.moment();
        let source = Source { meant_for: None, delivery: Delivery::PollAll, session: None, began };
        ledger.record(parse_events(event.as_bytes()).unwrap(), &source);
    }

    async fn admin(&self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        Client::new(self.running.admin_address).ask(&request).await
    }

    pub(crate) async fn metrics(&self) -> String {
        self.admin("/metrics").await.body
    }

    /// What `GET /upstreams` says.
    pub(crate) async fn upstreams(&self) -> Vec<serde_json::Value> {
        self.admin("/upstreams").await.json()["upstreams"].as_array().unwrap().clone()
    }

    /// Asks until the endpoint at `position` is in `state`.
    pub(crate) async fn wait_for_state(&self, position: usize, state: &str) -> serde_json::Value {
        let waiting = async {
            loop {
                let seen = self.upstreams().await.swap_remove(position);
                if seen["state"] == state {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never {state}"))
    }

    /// Ends it; everything that was logged.
    pub(crate) async fn stop(self) -> Vec<serde_json::Value> {
        self.running.stop();
        tokio::task::spawn_blocking(move || self.running.wait()).await.unwrap().unwrap();
        drop(self.logging);
        let log = self.log.0.lock().unwrap().clone();
        String::from_utf8(log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
