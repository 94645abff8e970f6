//! The command line: help, version, manual pages, completions, a standard output that is closed or full, `health`.

use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::{
    API, Process, RUN, Request, Setup, Site, eventually_async, outcome, project, signal, skip, within,
};

/// What `previewgate --help` lists.
const COMMANDS: [&str; 12] = [
    "run",
    "check",
    "demo",
    "simulate",
    "explain",
    "audit",
    "replay",
    "schema",
    "health",
    "report",
    "completions",
    "man",
];

fn previewgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_previewgate"));
    command.args(arguments).kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    within("a command to end", child.wait_with_output()).await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn every_command_has_examples_and_exit_codes() {
    let top = output(previewgate(&["--help"])).await;
    let listed = text(&top.stdout).split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    for command in COMMANDS {
        assert!(listed.contains(&format!("  {command} ")), "{listed}");
        let help = output(previewgate(&[command, "--help"])).await;
        let help_text = text(&help.stdout);
        assert!(help.status.success() && help_text.contains(&format!("  previewgate {command}")), "{help_text}");
        assert!(help_text.contains("Examples:\n") && help_text.contains("Exit codes:\n"), "{help_text}");
        let unknown = output(previewgate(&[command, "--no-such-option"])).await;
        assert_eq!((unknown.status.code(), unknown.stdout.len()), (Some(2), 0), "{command}");
    }
}

#[tokio::test]
async fn the_version_names_the_revision_of_a_checkout() {
    let version = output(previewgate(&["--version"])).await;
    let version = text(&version.stdout).trim();
    let plain = concat!("previewgate ", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(plain), "{version}");
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").current_dir(project()).args(arguments).output().ok()?;
        output.status.success().then(|| text(&output.stdout).trim().to_owned())
    };
    let is_checkout = git(&["rev-parse", "--show-toplevel"]).is_some_and(|top| project() == std::path::Path::new(&top));
    if is_checkout {
        let revision = version.strip_prefix(plain).unwrap().trim().trim_matches(['(', ')']);
        assert!(revision.len() == 12, "{version}");
        assert!(git(&["cat-file", "-t", revision]).is_some_and(|kind| kind == "commit"), "{version}");
    }
}

#[tokio::test]
async fn manual_pages_and_completions_are_made() {
    let site = Setup::plain().site().await;
    let directory = site.path("man/man1");
    assert!(output(previewgate(&["man", directory.to_str().unwrap()])).await.status.success());
    for page in
        COMMANDS.map(|command| format!("previewgate-{command}.1")).into_iter().chain(["previewgate.1".to_owned()])
    {
        let content = std::fs::read_to_string(directory.join(&page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(content.contains(".SH NAME") && content.contains("previewgate"), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = output(previewgate(&["completions", shell])).await;
        assert!(script.status.success() && text(&script.stdout).contains("config"), "{shell}");
    }
}

/// Each command that writes to the standard output and ends by itself.
fn writers(site: &Site) -> Vec<(&'static str, String)> {
    let data = project().join("tests/data/explain");
    let file = |name: &str| data.join(name).display().to_string();
    let explain = format!("explain --events {} --request {}", file("events.jsonl"), file("ok.http"));
    vec![
        ("--help", "--help".to_owned()),
        ("--version", "--version".to_owned()),
        ("run --help", "run --help".to_owned()),
        ("check", format!("check --config {}", site.config_file().display())),
        ("explain", explain),
        ("completions", "completions bash".to_owned()),
        ("schema", "schema audit".to_owned()),
        ("schema", "schema log".to_owned()),
        ("demo", "demo --once".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_early_is_no_error() {
    let site = Setup::plain().site().await;
    for (name, arguments) in writers(&site) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = site.shell(&format!("exec \"$PREVIEWGATE\" {arguments}"));
        command.stdout(writer);
        let (status, complaint) = outcome(command).await;
        let silent = !["pipe", "panicked", "error"].iter().any(|word| complaint.to_lowercase().contains(word));
        assert!(status.success() && silent, "{name}: {complaint}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_standard_output_is_an_error_and_no_panic() {
    let site = Setup::plain().site().await;
    for (name, arguments) in writers(&site) {
        let (status, complaint) = outcome(site.shell(&format!("exec \"$PREVIEWGATE\" {arguments} >/dev/full"))).await;
        assert_eq!(status.code(), Some(1), "{name}: {complaint}");
        assert!(
            complaint.contains("No space left on device") && !complaint.contains("panicked"),
            "{name}: {complaint}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_serves_although_its_log_is_closed_or_full() {
    let site = Setup::plain().site().await;
    for sink in ["closed", "full"] {
        let mut command = site.shell(RUN);
        match sink {
            "closed" => command.stdout(std::io::pipe().unwrap().1),
            _ => command.stdout(std::fs::File::create("/dev/full").unwrap()),
        };
        let mut gateway = command.spawn().unwrap();
        let request = Request::get(format!("{API}/x"));
        let served = async || match site.access().try_connect().await {
            Ok(mut wire) => wire.try_send(&request).await.is_ok_and(|answer| answer.status == 200),
            Err(_) => false,
        };
        eventually_async(format!("an answer while the log is {sink}"), served).await;
        assert!(gateway.try_wait().unwrap().is_none());
        signal(gateway.id().unwrap(), "TERM");
        assert!(within("the end", gateway.wait()).await.unwrap().success(), "{sink}");
    }
}

async fn health(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = output(previewgate(&[&["health"], arguments].concat())).await;
    (output.status.code(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
}

#[tokio::test]
async fn health_asks_the_admin_listener() {
    let mut settings = String::from("shutdown.delay = \"30s\"");
    let site = Setup::plain().settings(&settings).site().await;
    let mut gateway: Process = site.run().await;
    let address = gateway.admin_address.to_string();
    assert_eq!(health(&["--address", &address]).await, (Some(0), "ready\n".to_owned(), String::new()));

    settings.push_str(&format!("\nadmin.address = \"0.0.0.0:{}\"", gateway.admin_address.port()));
    let file = site.write("health.toml", format!("upstream.endpoints = [\"http://h\"]\n{settings}"));
    let file = file.to_str().unwrap();
    assert_eq!(health(&["--config", file]).await.0, Some(0));

    gateway.signal("TERM");
    gateway.says("not ready").await;
    let (code, _, complaint) = health(&["--address", &address]).await;
    assert!(code == Some(1) && complaint.contains("shutting down"), "{complaint}");
    gateway.signal("TERM");
    gateway.ended().await;
    let (code, _, complaint) = health(&["--address", &address]).await;
    assert!(code == Some(1) && complaint.contains("does not answer"), "{complaint}");

    assert_eq!(health(&["--address", "nowhere"]).await.0, Some(2));
    assert_eq!(health(&["--address", &address, "--config", file]).await.0, Some(2));
    let broken = site.write("broken.toml", "[upstream]\nendpoints = []");
    assert_eq!(health(&["--config", broken.to_str().unwrap()]).await.0, Some(78));
}

#[tokio::test]
async fn health_asks_the_unix_socket() {
    let settings = "shutdown.delay = \"30s\"\nadmin.socket = \"a.sock\"";
    let site = Setup::plain().settings(settings).site().await;
    let mut gateway: Process = site.run().await;
    let path = site.path("a.sock");
    let path = path.to_str().unwrap();
    assert_eq!(health(&["--socket", path]).await, (Some(0), "ready\n".to_owned(), String::new()));
    gateway.signal("TERM");
    gateway.says("not ready").await;
    let (code, _, complaint) = health(&["--socket", path]).await;
    assert!(code == Some(1) && complaint.contains("shutting down") && complaint.contains(path), "{complaint}");
    gateway.signal("TERM");
    gateway.ended().await;
    // The file is gone; one that was left behind; one that is no socket; a socket that nothing is said on.
    let file = site.write("file", "");
    let _silent = std::os::unix::net::UnixListener::bind(site.path("silent")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(site.path("stale")).unwrap());
    for socket in
        [path, file.to_str().unwrap(), site.path("stale").to_str().unwrap(), site.path("silent").to_str().unwrap()]
    {
        let (code, _, complaint) = health(&["--socket", socket, "--timeout", "50ms"]).await;
        assert!(code == Some(1) && complaint.contains("does not answer") && complaint.contains(socket), "{complaint}");
    }
    for other in [["--address", "127.0.0.1:1"], ["--config", "a.toml"]] {
        assert_eq!(health(&["--socket", path, other[0], other[1]]).await.0, Some(2));
    }
}

#[tokio::test]
async fn health_waits_no_longer_than_it_may() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let (code, _, complaint) = health(&["--address", &address, "--timeout", "50ms"]).await;
    assert!(code == Some(1) && complaint.contains("does not answer"), "{complaint}");
}

/// Runs what `simulate` prints, from the line `GUID=` on, as a shell reads it.
#[tokio::test]
async fn the_commands_that_simulate_prints_work_as_printed() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        return skip("curl is not installed");
    }
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("a ca.pem");
    for transport in [&["--plain"][..], &["--ca-out", authority.to_str().unwrap()], &["--tls"]] {
        let mut command = previewgate(&["simulate", "--address", "127.0.0.1:0", "--ring", "0s"]);
        command.args(transport);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut script = Vec::new();
        let read = async {
            while let Some(line) = printed.next_line().await.unwrap() {
                let is_last = line.ends_with("/simulator/misbehave");
                if !script.is_empty() || line.starts_with("GUID=") {
                    script.push(line);
                }
                if is_last {
                    break;
                }
            }
        };
        within("simulate to print its commands", read).await;
        let mut shell = Command::new("sh");
        shell.arg("-euc").arg(script.join("\n")).kill_on_drop(true);
        let ran = output(shell).await;
        let answers = text(&ran.stdout);
        assert!(ran.status.success(), "{answers}{}", text(&ran.stderr));
        let types = ["CallOut_Ex", "PhoneAlerting", "PhoneOffhook", "AgentEvent_Talking"];
        for words in types.iter().copied().chain(["\"result\":\"1", "\"state\":\"ready\"", "previewCallout"]) {
            assert!(answers.contains(words), "{words}: {answers}");
        }
        assert_eq!(answers.matches("\"retcode\":\"0\"").count(), 8, "{answers}");
        assert_eq!(answers.matches("\"ok\":true").count(), 6, "{answers}");
    }
}

#[tokio::test]
async fn a_bad_campaign_is_refused_with_every_mistake() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("campaign.toml");
    std::fs::write(&file, "agents = [7]\npac = \"1s\"\n[[contacts]]\nnumbers = \"x\"\n").unwrap();
    let file = file.to_str().unwrap();
    let refused = output(previewgate(&["simulate", "--address", "127.0.0.1:0", "--campaign", file])).await;
    assert_eq!(refused.status.code(), Some(78));
    let said = text(&refused.stderr);
    for words in ["agents[0]", "pac", "did you mean `pace`?", "contacts[0].numbers"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
