//! `previewgate simulate`: the simulated CC-Gateway alone, for integrators and their tests.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Signals;
use super::error::DemoError;
use super::invitation::shell_word;
use super::script::AGENT;
use crate::preview::AgentId;
use crate::simulator::{AuthMode, Authority, Simulator, SimulatorConfig};
use crate::standard_output::StandardOutput;

/// With dynamic authentication, a new GUID is issued after this number of polls and handshakes.
const RENEWED_EVERY: u32 = 5;

/// What kind of CC-Gateway to be.
#[derive(Args, Debug)]
pub struct SimulateOptions {
    /// Where to listen; port 0 for any.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8043")]
    address: SocketAddr,
    /// HTTPS with a certificate made on the spot (the default).
    #[arg(long, conflicts_with = "plain")]
    tls: bool,
    /// Plain HTTP.
    #[arg(long)]
    plain: bool,
    /// Write the authority that clients must trust to this file (PEM).
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    ca_out: Option<PathBuf>,
    /// How long a poll waits for an event.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    poll_wait: Duration,
    /// Whether a GUID lasts as long as its session, or is renewed now and then.
    #[arg(long, value_enum, default_value_t = Auth::Static)]
    auth: Auth,
    /// Let every callout succeed, so that every refusal comes from the gateway.
    #[arg(long)]
    lenient_callouts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Auth {
    Static,
    Dynamic,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the address cannot be bound or the file not be written.
pub fn simulate(options: &SimulateOptions) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options, &mut StandardOutput::new()))
}

async fn serve(options: &SimulateOptions, out: &mut dyn Write) -> Result<(), DemoError> {
    let mut signals = Signals::register()?;
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", options.address));
    let simulator = Simulator::start(options.simulator_config()?).await.map_err(told)?;
    // For the first commands to try.
    let guid = simulator.handle().sign_in_directly(AgentId::try_from(AGENT).map_err(io::Error::other)?);
    options.explain(out, simulator.address(), &guid)?;
    signals.any().await;
    simulator.stop().await;
    Ok(())
}

impl SimulateOptions {
    fn simulator_config(&self) -> io::Result<SimulatorConfig> {
        let mut config = SimulatorConfig {
            address: self.address,
            poll_wait: self.poll_wait,
            auth: match self.auth {
                Auth::Static => AuthMode::Static,
                Auth::Dynamic => AuthMode::Dynamic { every: RENEWED_EVERY },
            },
            lenient_callouts: self.lenient_callouts,
            strict: true,
            ..SimulatorConfig::default()
        };
        if !self.plain {
            let authority = Authority::new()?;
            let own = self.address.ip().to_string();
            let identity = authority.issue(&["localhost", "127.0.0.1", "::1", &own])?;
            if let Some(file) = &self.ca_out {
                let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
                std::fs::write(file, authority.pem()).map_err(told)?;
            }
            config.tls = Some(identity.server_config()?);
        }
        Ok(config)
    }

    /// The text for the user: the address of the simulator, and commands to try.
    fn explain(&self, out: &mut dyn Write, address: SocketAddr, guid: &str) -> io::Result<()> {
        let scheme = if self.plain { "http" } else { "https" };
        let base = format!("{scheme}://{}", reachable(address));
        let api = format!("{base}/agentgateway/resource");
        let curl = match (&self.ca_out, self.plain) {
            (_, true) => "curl -w '\\n'".to_owned(),
            (Some(file), _) => format!("curl -w '\\n' --cacert {}", shell_word(file)),
            (None, _) => "curl -w '\\n' -k".to_owned(),
        };
        write!(
            out,
            "\
Simulated CC-Gateway at {scheme}://{address}/agentgateway/resource/ until Ctrl-C.

    {base}/simulator/    a page: agents, previews, faults, and what arrived

Agent {AGENT} is signed in. After two minutes without a request it is signed out, as at a real CC-Gateway; then sign in again:
GUID=$({curl} -si -X PUT -H 'Content-Type: application/json' -d '{{}}' {api}/onlineagent/{AGENT} | sed -n 's/^Set-GUID: JSESSIONID=//p' | tr -d '\\r')

GUID={guid}
# The platform shows the agent two numbers; its application polls, and asks to call one of them.
{curl} -d '{{\"controlid\": 11776, \"dialeddigits\": \"5550101,5550102\"}}' {base}/simulator/agents/{AGENT}/preview
{curl} -H \"Guid: $GUID\" {api}/agentevent/{AGENT}
{curl} -X PUT -H \"Guid: $GUID\" -H 'Content-Type: application/json; charset=UTF-8' \\
     -d '{{\"called\": \"5550101\", \"callcontrolid\": 11776}}' {api}/voicecall/{AGENT}/previewCallout
# The events of the call follow; then the preview is released, or any event is queued.
{curl} -H \"Guid: $GUID\" {api}/agentevent/{AGENT}
{curl} -X POST {base}/simulator/agents/{AGENT}/release
{curl} -d '{{\"eventType\": \"AgentState_Ready\", \"workNo\": \"{AGENT}\", \"content\": null}}' \\
     {base}/simulator/agents/{AGENT}/events
# Who is signed in, and what arrived; -X DELETE empties the journal.
{curl} {base}/simulator/agents
{curl} {base}/simulator/journal
# Break the next two callouts after they were received; -X DELETE ends all faults.
{curl} -d '{{\"fault\": \"break\", \"at\": \"after_request\", \"how\": \"reset\", \"path\": \"previewCallout\", \"times\": 2}}' \\
     {base}/simulator/misbehave
"
        )?;
        out.flush()
    }
}

/// The address at which a client on this machine reaches a listener on `address`.
fn reachable(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("localhost:{}", address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("localhost:{}", address.port()),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: SimulateOptions,
    }

    fn options(line: &str) -> Result<SimulateOptions, clap::Error> {
        Line::try_parse_from(["simulate"].into_iter().chain(line.split_whitespace())).map(|line| line.options)
    }

    #[test]
    fn options_become_a_simulator() {
        let config = options("").unwrap().simulator_config().unwrap();
        assert_eq!((config.address.port(), config.poll_wait), (8043, Duration::from_secs(10)));
        assert!(config.tls.is_some() && !config.lenient_callouts && config.auth == AuthMode::Static);

        let line = "--plain --address [::1]:0 --poll-wait 1500ms --auth dynamic --lenient-callouts";
        let config = options(line).unwrap().simulator_config().unwrap();
        assert_eq!((config.address.to_string().as_str(), config.poll_wait.as_millis()), ("[::1]:0", 1500));
        assert!(config.tls.is_none() && config.lenient_callouts && config.auth != AuthMode::Static);

        for wrong in ["--plain --tls", "--plain --ca-out x", "--poll-wait soon", "--auth none", "--address nowhere"] {
            assert!(options(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_printed_can_be_reached() {
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()), "localhost:1");
        assert_eq!(reachable("[::]:1".parse().unwrap()), "localhost:1");
        assert_eq!(reachable("[::1]:1".parse().unwrap()), "[::1]:1");
    }
}
