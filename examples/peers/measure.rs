//! What is measured of each proxy.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use rustls::ClientConfig;
use rustls::client::Resumption;

use crate::client::Agent;
use crate::platform::Platform;
use crate::subject::{Running, Setting, Subject};

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Callouts, and polls with an event, as many as go through.
    Requests,
    /// 500 callouts a second.
    Steady,
    /// Idle connections, and polls that are held.
    Held,
    /// TLS handshakes, full and resumed.
    Handshakes,
    /// One large download and one large upload.
    Bodies,
}

/// How much of each.
pub(crate) struct Amounts {
    /// How long requests are sent.
    pub(crate) time: Duration,
    /// Connections that send them.
    pub(crate) connections: u32,
    /// Polls that are held at once.
    pub(crate) held: u32,
    pub(crate) handshakes: u32,
    pub(crate) body_mib: u64,
}

/// What is the same for all subjects.
pub(crate) struct Bench {
    pub(crate) setting: Setting,
    pub(crate) platform: Platform,
    pub(crate) client_tls: Arc<ClientConfig>,
    pub(crate) amounts: Amounts,
}

/// A name with its unit, and the value.
pub(crate) type Figure = (&'static str, f64);

const FIRST_AGENT: u32 = 1000;

impl Bench {
    /// Measures `parts` of `subject`, each with a process of its own.
    pub(crate) async fn measure(&self, subject: Subject, parts: &[Part]) -> io::Result<Vec<Figure>> {
        let mut figures = Vec::new();
        for part in parts {
            let running = subject.start(&self.setting).await;
            if *part == Part::Requests {
                figures.push(("start to ready, ms", milliseconds(running.ready_after)));
                figures.push(("memory at start, MiB", running.memory() as f64 / 1024.0));
            }
            figures.extend(match part {
                Part::Requests => self.requests(&running).await?,
                Part::Steady => self.steady(&running).await?,
                Part::Held => self.held(&running).await?,
                Part::Handshakes => self.handshakes(&running).await?,
                Part::Bodies => self.bodies(&running).await?,
            });
        }
        Ok(figures)
    }

    async fn agents(&self, running: &Running, count: u32) -> io::Result<Vec<Agent>> {
        let mut agents = Vec::new();
        for number in FIRST_AGENT..FIRST_AGENT + count {
            agents.push(Agent::connect(running.address, &self.client_tls, number).await?);
        }
        Ok(agents)
    }

    async fn requests(&self, running: &Running) -> io::Result<Vec<Figure>> {
        let mut agents = self.agents(running, self.amounts.connections).await?;
        self.saturate(running, &mut agents, self.amounts.time / 4, async |agent| agent.poll().await).await?;
        let polls = self.saturate(running, &mut agents, self.amounts.time, async |agent| agent.poll().await).await?;
        self.saturate(running, &mut agents, self.amounts.time / 4, async |agent| agent.call().await).await?;
        let calls = self.saturate(running, &mut agents, self.amounts.time, async |agent| agent.call().await).await?;
        Ok(vec![
            ("callout, CPU us", calls.cpu),
            ("callouts a second", calls.rate),
            ("callout at saturation, p99 ms", calls.p99),
            ("poll with an event, CPU us", polls.cpu),
            ("polls a second", polls.rate),
        ])
    }

    /// Each agent sends its next request when it has the answer to the last one.
    async fn saturate(
        &self,
        running: &Running,
        agents: &mut [Agent],
        time: Duration,
        request: impl AsyncFn(&mut Agent) -> io::Result<()>,
    ) -> io::Result<Saturated> {
        let (begun, cpu) = (Instant::now(), running.cpu());
        let work = agents.iter_mut().map(async |agent| {
            let mut latencies = Vec::new();
            while begun.elapsed() < time {
                let sent = Instant::now();
                request(agent).await?;
                latencies.push(sent.elapsed());
            }
            io::Result::Ok(latencies)
        });
        let latencies = try_join_all(work).await?.concat();
        let (cpu, count) = (running.cpu() - cpu, latencies.len() as f64);
        let rate = count / begun.elapsed().as_secs_f64();
        Ok(Saturated { cpu: microseconds(cpu) / count, rate, p99: milliseconds(quantile(latencies, 0.99)) })
    }

    /// Callouts at a rate that leaves all processors mostly idle: what the proxy adds to the latency.
    async fn steady(&self, running: &Running) -> io::Result<Vec<Figure>> {
        const PAUSE: Duration = Duration::from_millis(2);
        let mut agents = self.agents(running, self.amounts.connections).await?;
        try_join_all(agents.iter_mut().map(Agent::poll)).await?;
        let (mut latencies, mut due) = (Vec::new(), tokio::time::Instant::now());
        let end = due + self.amounts.time;
        for turn in 0.. {
            if due >= end {
                break;
            }
            due += PAUSE;
            tokio::time::sleep_until(due).await;
            let (sent, index) = (Instant::now(), turn % agents.len());
            agents[index].call().await?;
            latencies.push(sent.elapsed());
        }
        let half = microseconds(quantile(latencies.clone(), 0.5));
        Ok(vec![("at 500/s, p50 us", half), ("at 500/s, p99 us", microseconds(quantile(latencies, 0.99)))])
    }

    async fn held(&self, running: &Running) -> io::Result<Vec<Figure>> {
        let count = self.amounts.held;
        let share = |kib: u64| kib as f64 / f64::from(count);
        let start = running.memory();
        let mut agents = self.agents(running, count).await?;
        let idle = running.memory();
        let (mut cold, mut warm) = (Held::default(), Held::default());
        for round in [&mut cold, &mut warm] {
            *round = self.hold(running, &mut agents).await?;
        }
        Ok(vec![
            ("idle connection, KiB", share(idle.saturating_sub(start))),
            ("held poll, KiB", share(cold.memory.saturating_sub(start))),
            ("new held poll, CPU us", cold.cpu),
            ("held poll on a kept connection, CPU us", warm.cpu),
            ("latest of all answers at once, ms", warm.latest),
        ])
    }

    /// All agents poll, the platform holds the polls, then it answers all of them.
    async fn hold(&self, running: &Running, agents: &mut [Agent]) -> io::Result<Held> {
        let (cpu, count) = (running.cpu(), agents.len());
        let memory_when_held = async {
            while self.platform.held() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let memory = running.memory();
            self.platform.release();
            (memory, Instant::now())
        };
        let (answers, (memory, released)) =
            tokio::join!(join_all(agents.iter_mut().map(Agent::poll_held)), memory_when_held);
        let latest = milliseconds(released.elapsed());
        answers.into_iter().collect::<io::Result<()>>()?;
        Ok(Held { memory, cpu: microseconds(running.cpu() - cpu) / count as f64, latest })
    }

    /// Each connection sends one request: with TLS 1.3 a ticket comes after the handshake.
    async fn handshakes(&self, running: &Running) -> io::Result<Vec<Figure>> {
        let mut full = ClientConfig::clone(&self.client_tls);
        full.resumption = Resumption::disabled();
        let mut resumed = ClientConfig::clone(&self.client_tls);
        resumed.resumption = Resumption::in_memory_sessions(8);
        let mut figures = Vec::new();
        for (name, tls) in [
            ("connection with a full handshake, CPU us", Arc::new(full)),
            ("resumed connection, CPU us", Arc::new(resumed)),
        ] {
            Agent::connect(running.address, &tls, FIRST_AGENT).await?.poll().await?;
            let cpu = running.cpu();
            for _ in 0..self.amounts.handshakes {
                Agent::connect(running.address, &tls, FIRST_AGENT).await?.poll().await?;
            }
            figures.push((name, microseconds(running.cpu() - cpu) / f64::from(self.amounts.handshakes)));
        }
        Ok(figures)
    }

    async fn bodies(&self, running: &Running) -> io::Result<Vec<Figure>> {
        let mut agent = Agent::connect(running.address, &self.client_tls, FIRST_AGENT).await?;
        let bytes = self.amounts.body_mib << 20;
        let (start, memory) = (running.cpu(), running.memory());
        agent.download(bytes).await?;
        let between = running.cpu();
        agent.upload(bytes).await?;
        let each = |time: Duration| milliseconds(time) / self.amounts.body_mib as f64;
        Ok(vec![
            ("download, CPU ms a MiB", each(between - start)),
            ("upload, CPU ms a MiB", each(running.cpu() - between)),
            ("memory for both, MiB", running.peak_memory().saturating_sub(memory) as f64 / 1024.0),
        ])
    }
}

struct Saturated {
    /// Microseconds for each request.
    cpu: f64,
    rate: f64,
    p99: f64,
}

#[derive(Default)]
struct Held {
    /// KiB while all polls were held.
    memory: u64,
    /// Microseconds for each poll.
    cpu: f64,
    latest: f64,
}

fn quantile(mut latencies: Vec<Duration>, share: f64) -> Duration {
    latencies.sort_unstable();
    latencies[((latencies.len() - 1) as f64 * share).round() as usize]
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
