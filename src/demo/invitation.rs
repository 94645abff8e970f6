//! The demo's text before and after the script: what runs where, and commands to try.

use std::io::{self, Write};
use std::path::Path;

use super::proof;
use super::script::{AGENT, PUSHED};
use super::stage::Stage;
use super::style::{Colour, Style};
use crate::config::Mode;
use crate::preview::AgentId;

/// What runs where, and how to read the table.
pub(super) fn introduce(out: &mut dyn Write, stage: &Stage, mode: Mode, style: Style) -> io::Result<()> {
    let (gateway, admin) = (stage.gateway.address.port(), stage.gateway.admin_address.port());
    let (simulator, application) = (stage.simulator.address().port(), stage.application.address.port());
    let title = format!("previewgate {}, on loopback, with certificates made on the spot", env!("CARGO_PKG_VERSION"));
    write!(
        out,
        "\
{title}

  application         --TLS-->  previewgate :{gateway} ({mode})  --TLS-->  simulated CC-Gateway :{simulator}
  application :{application:<5}  <--TLS--  the same listener            <--TLS--  its pushes for agent {PUSHED}
                                admin :{admin}

The simulator accepts every callout, so every refusal below comes from previewgate.
\"callout 7001, 5550101\" is control ID and number. Steps are of agent {AGENT} unless they name another.
The client got: HTTP status, retcode, event or call ID. Upstream: whether the simulator saw the request.
A push: the event that the application got, and its answer as it came back to the simulator.

",
        title = style.paint(Colour::Bold, &title),
    )
}

/// Commands that work by copy and paste.
pub(super) fn invite(out: &mut dyn Write, stage: &Stage, style: Style) -> io::Result<()> {
    // The script has signed the agent in.
    let agent = AgentId::try_from(AGENT).map_err(io::Error::other)?;
    let guid = stage.simulator.handle().guid(agent).unwrap_or_default();
    // The user's requests are easier to find without those of the script.
    stage.simulator.handle().clear_journal();
    let admin = stage.gateway.admin_address;
    let gateway = format!("https://localhost:{}/agentgateway/resource", stage.gateway.address.port());
    let simulator = format!("https://localhost:{}/simulator", stage.simulator.address().port());
    let curl = format!("curl -w '\\n' --cacert {}", shell_word(&stage.ca));
    let callout = |called: &str| {
        format!(
            "{curl} -i -X PUT \\
     -H 'Guid: {guid}' -H 'Content-Type: application/json; charset=UTF-8' \\
     -d '{{\"called\": \"{called}\", \"callcontrolid\": \"8001\"}}' \\
     {gateway}/voicecall/{AGENT}/previewCallout"
        )
    };
    write!(
        out,
        "
Still serving, until Ctrl-C. Open the status page in a browser; each callout above has its story there:

    {page}

Agent {AGENT} is signed in. Try it with curl (copy and paste), and watch the page.

# The platform shows the agent two numbers; its application polls and sees them.
{curl} \\
     -d '{{\"controlid\": 8001, \"dialeddigits\": \"5550801,5550802\"}}' \\
     {simulator}/agents/{AGENT}/preview
{curl} \\
     -H 'Guid: {guid}' \\
     {gateway}/agentevent/{AGENT}

# A callout of one of them, and one of another number.
{valid}
{invalid}

# Agent {PUSHED} does not poll: the platform pushes the preview to its application, through previewgate.
{curl} \\
     -d '{{\"controlid\": 8002, \"dialeddigits\": \"5550901\"}}' \\
     {simulator}/agents/{PUSHED}/preview

# The previews of both agents in previewgate, its counters, and the requests that arrived at the simulator.
curl http://{admin}/previews/{AGENT} http://{admin}/previews/{PUSHED}
curl -s http://{admin}/metrics | grep -E '(callouts|pushes)_total' | grep -v ' 0$'
{curl} \\
     {simulator}/journal

",
        page = style.paint(Colour::Cyan, &format!("http://{admin}/")),
        valid = callout("5550802"),
        invalid = callout("5550899"),
    )?;
    let (scratch, verify) = (shell_word(stage.scratch.path()), proof::verify_command());
    writeln!(out, "# The audit log of these calls, as an auditor reads it.\ncd {scratch} && {verify}\n")?;
    writeln!(out, "The log of previewgate follows, as it is written.\n")?;
    out.flush()
}

/// A path as a shell reads it back.
pub(super) fn shell_word(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = path.chars().all(|c| c.is_alphanumeric() || "/._-+".contains(c));
    if plain { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_quoted() {
        assert_eq!(shell_word(Path::new("/tmp/a-b_c.crt")), "/tmp/a-b_c.crt");
        assert_eq!(shell_word(Path::new("/tmp/it's a/$x")), r"'/tmp/it'\''s a/$x'");
    }
}
