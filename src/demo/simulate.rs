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
use crate::config::{CallOutcome, CallPlan, Campaign, load_campaign};
use crate::preview::AgentId;
use crate::simulator::{AuthMode, Authority, PushRetry, Simulator, SimulatorConfig};
use crate::standard_output::StandardOutput;

/// With dynamic authentication, a new GUID is issued after this number of polls and handshakes.
const RENEWED_EVERY: u32 = 5;

/// The properties of the simulated CC-Gateway.
#[derive(Args, Debug)]
pub struct SimulateOptions {
    /// Address to listen on; port 0 for any port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8043")]
    address: SocketAddr,
    /// Use HTTPS with a certificate that is made at the start (the default).
    #[arg(long, conflicts_with = "plain")]
    tls: bool,
    /// Use plain HTTP.
    #[arg(long)]
    plain: bool,
    /// Write the authority that clients must trust to this file (PEM).
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    ca_out: Option<PathBuf>,
    /// How long a poll waits for an event.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    poll_wait: Duration,
    /// "static": a GUID lasts as long as its session. "dynamic": it is renewed after every few polls.
    #[arg(long, value_enum, default_value_t = Auth::Static)]
    auth: Auth,
    /// How long the telephone rings before a call is answered.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    ring: Duration,
    /// "talks": calls last until the agent ends them. "hangs-up": the customer hangs up after 20 s. "fails": calls are not
    /// answered.
    #[arg(long, value_enum, default_value_t = Calls::Talks)]
    calls: Calls,
    /// Show the contacts of this campaign to its agents as soon as they sign in.
    #[arg(long, value_name = "FILE")]
    campaign: Option<PathBuf>,
    /// Let every callout succeed, so that every refusal comes from the gateway.
    #[arg(long)]
    lenient_callouts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Auth {
    Static,
    Dynamic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Calls {
    Talks,
    HangsUp,
    Fails,
}

impl From<Calls> for CallOutcome {
    fn from(calls: Calls) -> Self {
        match calls {
            Calls::Talks => Self::Talks,
            Calls::HangsUp => Self::HangsUp,
            Calls::Fails => Self::Fails,
        }
    }
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
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", options.address));
    let config = options.simulator_config()?;
    let campaign = config.campaign.clone();
    let simulator = Simulator::start(config).await.map_err(named)?;
    // For the first commands to try. The agents of a campaign are signed in by their applications.
    let agent = AgentId::try_from(AGENT).map_err(io::Error::other)?;
    let served = campaign.as_ref().is_some_and(|campaign| campaign.agents.contains(&agent));
    let guid = (!served).then(|| simulator.handle().sign_in_directly(agent));
    options.explain(out, simulator.address(), guid.as_deref())?;
    if let Some(campaign) = &campaign {
        writeln!(out, "{}", waiting(campaign))?;
        out.flush()?;
    }
    signals.any().await;
    simulator.stop().await;
    Ok(())
}

impl SimulateOptions {
    fn simulator_config(&self) -> Result<SimulatorConfig, DemoError> {
        let mut config = SimulatorConfig {
            address: self.address,
            poll_wait: self.poll_wait,
            auth: match self.auth {
                Auth::Static => AuthMode::Static,
                Auth::Dynamic => AuthMode::Dynamic { every: RENEWED_EVERY },
            },
            call: CallPlan { ring: self.ring, outcome: self.calls.into(), ..CallPlan::AT_ONCE },
            push_retry: Some(PushRetry::DOCUMENTED),
            campaign: self.campaign.as_deref().map(load_campaign).transpose()?,
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

    /// The text for the user: the address of the simulator, and commands to try. Everything from the line `GUID=` on is a
    /// shell script that works as it is printed.
    fn explain(&self, out: &mut dyn Write, address: SocketAddr, guid: Option<&str>) -> io::Result<()> {
        let scheme = if self.plain { "http" } else { "https" };
        let base = format!("{scheme}://{}", reachable(address));
        let api = format!("{base}/agentgateway/resource");
        let curl = match (&self.ca_out, self.plain) {
            (_, true) => "curl -w '\\n'".to_owned(),
            (Some(file), _) => format!("curl -w '\\n' --cacert {}", shell_word(file)),
            (None, _) => "curl -w '\\n' -k".to_owned(),
        };
        let json = "-H 'Content-Type: application/json; charset=UTF-8'";
        let sign_in = format!(
            "GUID=$({curl} -si -X PUT {json} -d '{{}}' {api}/onlineagent/{AGENT} | sed -n 's/^Set-GUID: JSESSIONID=//p' | tr -d '\\r')"
        );
        let ready = match guid {
            Some(guid) => format!(
                "Agent {AGENT} is signed in. After two minutes without a request it is signed out, as at a real CC-Gateway; then\n\
                 sign in again: {sign_in}\n\nGUID={guid}"
            ),
            None => format!("Sign agent {AGENT} in, then poll.\n\n{sign_in}"),
        };
        write!(
            out,
            "\
Simulated CC-Gateway at {base}/agentgateway/resource/ until Ctrl-C.

    {base}/simulator/    a page: agents, calls, previews, faults, and what arrived

{ready}
# The platform shows the agent two numbers; its application polls, and asks to call one of them.
{curl} -d '{{\"controlid\": 11776, \"dialeddigits\": \"5550101,5550102\"}}' {base}/simulator/agents/{AGENT}/preview
{curl} -H \"Guid: $GUID\" {api}/agentevent/{AGENT}
{curl} -X PUT -H \"Guid: $GUID\" {json} \\
     -d '{{\"called\": \"5550101\", \"callcontrolid\": 11776}}' {api}/voicecall/{AGENT}/previewCallout
# The call rings, and is answered. Each poll has one event.
{curl} -H \"Guid: $GUID\" {api}/agentevent/{AGENT}
{curl} -H \"Guid: $GUID\" {api}/agentevent/{AGENT}
{curl} -H \"Guid: $GUID\" {api}/agentevent/{AGENT}
# Hold the call, take it back, end it; then the platform takes the preview back.
{curl} -X POST -H \"Guid: $GUID\" {api}/voicecall/{AGENT}/hold
{curl} -X POST -H \"Guid: $GUID\" {api}/voicecall/{AGENT}/gethold
{curl} -X DELETE -H \"Guid: $GUID\" {api}/voicecall/{AGENT}/release
{curl} -X POST {base}/simulator/agents/{AGENT}/release
# The next calls of the agent are not answered (talks, hangs_up, fails).
{curl} -d '{{\"outcome\": \"fails\", \"ring\": \"1s\"}}' {base}/simulator/agents/{AGENT}/calls
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

/// What a campaign waits for.
fn waiting(campaign: &Campaign) -> String {
    let agents: Vec<_> = campaign.agents.iter().map(ToString::to_string).collect();
    let contacts = campaign.contacts.len();
    format!(
        "\nThe campaign has {contacts} contacts. It shows them as soon as agents are signed in: {}.",
        agents.join(", ")
    )
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
        assert_eq!((config.call.ring, config.call.outcome), (Duration::from_secs(1), CallOutcome::Talks));
        assert!(config.strict && config.campaign.is_none() && config.push_retry == Some(PushRetry::DOCUMENTED));
        assert!(config.tls.is_some() && !config.lenient_callouts && config.auth == AuthMode::Static);

        let line =
            "--plain --address [::1]:0 --poll-wait 1500ms --auth dynamic --lenient-callouts --ring 0s --calls fails";
        let config = options(line).unwrap().simulator_config().unwrap();
        assert_eq!((config.address.to_string().as_str(), config.poll_wait.as_millis()), ("[::1]:0", 1500));
        assert!(config.tls.is_none() && config.lenient_callouts && config.auth != AuthMode::Static);
        assert_eq!((config.call.ring, config.call.outcome), (Duration::ZERO, CallOutcome::Fails));

        for wrong in [
            "--plain --tls",
            "--plain --ca-out x",
            "--poll-wait soon",
            "--auth none",
            "--address nowhere",
            "--calls sing",
        ] {
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
