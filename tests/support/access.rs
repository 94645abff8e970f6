//! How applications and operators reach one gateway, in this process or in another.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use previewgate::simulator::SimulatorHandle;
use rustls::ClientConfig;

use super::{Agent, Answer, Pipes, Request, Wire, eventually_async, within};

/// The addresses of a gateway, and the simulator behind it.
#[derive(Clone)]
pub(crate) struct Access {
    /// The data path: applications connect here.
    pub(crate) address: SocketAddr,
    /// The operators' listener.
    pub(crate) admin_address: SocketAddr,
    /// Remote control and evidence of the simulator.
    pub(crate) simulator: SimulatorHandle,
    /// For the data path; absent without TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// In place of `address`, for a gateway that listens in memory.
    pub(crate) pipes: Option<Pipes>,
}

impl Access {
    /// A new connection to the gateway, over TLS if the gateway uses TLS.
    #[track_caller]
    pub(crate) fn connect(&self) -> impl Future<Output = Wire> + use<> {
        let access = self.clone();
        within("a connection", async move { access.try_connect().await.unwrap() })
    }

    /// A new connection, if the gateway accepts one.
    pub(crate) async fn try_connect(&self) -> io::Result<Wire> {
        if let Some(pipes) = &self.pipes {
            return pipes.connect().await;
        }
        match &self.tls {
            Some(config) => Wire::encrypted(self.address, Arc::clone(config)).await,
            None => Wire::plain(self.address).await,
        }
    }

    /// Sends a request over a connection of its own.
    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> impl Future<Output = Answer> + use<> {
        let connect = self.connect();
        let request = request.clone();
        async move { connect.await.send(&request).await }
    }

    /// A client that keeps its connection.
    pub(crate) fn client(&self) -> Client {
        Client { access: self.clone(), wire: None }
    }

    /// Signs an agent in, through the gateway.
    pub(crate) async fn agent(&self, number: u32) -> Agent {
        Agent::sign_in(self, number).await
    }

    /// An agent that has signed in somewhere else: this gateway has not seen it.
    pub(crate) fn agent_from_elsewhere(&self, number: u32) -> Agent {
        Agent::signed_in_elsewhere(self, number)
    }

    /// Asks the admin listener.
    #[track_caller]
    pub(crate) fn admin(&self, path: &str) -> impl Future<Output = Answer> + use<> {
        self.admin_send(&Request::admin("GET", path))
    }

    /// Sends a request to the admin listener: one made by [`Request::admin`].
    #[track_caller]
    pub(crate) fn admin_send(&self, request: &Request) -> impl Future<Output = Answer> + use<> {
        let (request, address) = (request.clone(), self.admin_address);
        within("the admin listener", async move { Wire::plain(address).await.unwrap().send(&request).await })
    }

    /// The value of a series on the metrics page, spelled as there. 0 if it is absent.
    pub(crate) async fn scraped(&self, series: &str) -> f64 {
        value_of(&self.admin("/metrics").await.text(), series)
    }

    /// Scrapes the metrics page until a series has a value for which `matches` is true.
    #[track_caller]
    pub(crate) fn scraped_until<'a>(
        &'a self,
        series: &'a str,
        matches: impl Fn(f64) -> bool + 'a,
    ) -> impl Future<Output = ()> {
        eventually_async(format!("{series} to change"), async move || matches(self.scraped(series).await))
    }
}

/// The value of a series on a page of metrics; 0 if it is absent.
pub(super) fn value_of(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// Sends its requests over one connection, and opens another when the gateway has announced the end of that one.
pub(crate) struct Client {
    access: Access,
    wire: Option<Wire>,
}

impl Client {
    /// Sends a request and reads its answer, which is all that must have come.
    pub(crate) async fn send(&mut self, request: &Request) -> Answer {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => self.access.connect().await,
        };
        let answer = wire.send(request).await;
        wire.assert_nothing_left();
        if !answer.header("connection").eq_ignore_ascii_case("close") {
            self.wire = Some(wire);
        }
        answer
    }
}
