//! previewgate beside nginx, HAProxy, a bare hyper proxy and a TLS relay: CPU time, latency and memory.
//!
//!     cargo build --release && cargo run --release --example peers
//!
//! Each proxy is a process of its own with TLS on both sides. Clients and platform are in this process, and do as
//! little as they can. In each round all proxies take turns. Read ratios within one run: the machine decides the rest.
//! nginx and HAProxy validate nothing and write no log; previewgate runs with its defaults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for developers: it prints, and ends when something is missing"
)]

mod bare;
mod client;
#[path = "../support/cpu_time.rs"]
mod cpu_time;
mod measure;
mod platform;
#[path = "../support/program.rs"]
mod program;
mod subject;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand};
use previewgate::simulator::{SelfSigned, self_signed};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use measure::{Amounts, Bench, Figure, Part};
use platform::Platform;
use program::built_beside;
use subject::{Setting, Subject};

/// What to measure.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// Proxies that take turns.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "direct,relay,bare,nginx,haproxy,previewgate")]
    subjects: Vec<Subject>,
    #[arg(long, value_delimiter = ',', value_enum, default_value = "requests,steady,held,handshakes,bodies")]
    parts: Vec<Part>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Worker threads or processes of each proxy.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// How long requests are sent in a part.
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Connections that send them.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Polls that are held at once.
    #[arg(long, default_value_t = 2000)]
    held: u32,
    #[arg(long, default_value_t = 500)]
    handshakes: u32,
    /// The size of the large bodies.
    #[arg(long, default_value_t = 256)]
    body_mib: u64,
    /// The port of the proxy that is measured.
    #[arg(long, default_value_t = 19443)]
    port: u16,
    /// Where previewgate was built; by default beside this program.
    #[arg(long)]
    previewgate: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Role {
    /// One of the proxies that are part of this program: it is started by the measurement.
    #[command(hide = true)]
    Serve { kind: String, listen: SocketAddr, upstream: SocketAddr, workers: usize, directory: PathBuf },
}

fn main() {
    let options = Options::parse();
    raise_limit_of_descriptors();
    match options.role {
        Some(Role::Serve { kind, listen, upstream, workers, directory }) => {
            let kind = if kind == "relay" { bare::Kind::Relay } else { bare::Kind::Validating };
            bare::run(kind, listen, upstream, &read_identity(&directory), workers);
        }
        None => tokio::runtime::Runtime::new().unwrap().block_on(measure(&options)),
    }
}

/// A proxy needs two for each held poll. Only root may go beyond the hard limit.
fn raise_limit_of_descriptors() {
    let hard = getrlimit(Resource::Nofile).maximum;
    for wanted in [Some(200_000), hard] {
        if setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: hard.max(wanted) }).is_ok() {
            return;
        }
    }
}

async fn measure(options: &Options) {
    let directory = tempfile::tempdir().unwrap();
    let identity = self_signed(&["localhost", "127.0.0.1"]).unwrap();
    write_identity(directory.path(), &identity);
    let platform = Platform::start(&identity).await.unwrap();
    let bench = Bench {
        setting: Setting {
            directory: directory.path().to_owned(),
            upstream: platform.address,
            listen: SocketAddr::from(([127, 0, 0, 1], options.port)),
            workers: options.workers,
            previewgate: options.previewgate.clone().unwrap_or_else(built_beside),
        },
        platform,
        client_tls: identity.client_config().unwrap(),
        amounts: Amounts {
            time: options.time,
            connections: options.connections,
            held: options.held,
            handshakes: options.handshakes,
            body_mib: options.body_mib,
        },
    };
    let mut found: Vec<Vec<Figure>> = vec![Vec::new(); options.subjects.len()];
    for round in 0..options.rounds {
        // Another one begins each time.
        for step in 0..options.subjects.len() {
            let index = (round + step) % options.subjects.len();
            let subject = options.subjects[index];
            match bench.measure(subject, &options.parts).await {
                Ok(figures) => found[index].extend(figures),
                Err(error) => eprintln!("{} failed in round {}: {error}", subject.name(), round + 1),
            }
        }
    }
    print(&options.subjects, &found);
}

fn write_identity(directory: &Path, identity: &SelfSigned) {
    let write = |name: &str, content: &str| fs::write(directory.join(name), content).unwrap();
    write("tls.crt", &identity.certificate);
    write("tls.key", &identity.private_key);
    write("ca.crt", &identity.ca);
    write("tls.pem", &format!("{}{}", identity.certificate, identity.private_key));
    // previewgate refuses a key that others may read; nginx's workers give up root and need the directory.
    for (path, mode) in [(directory.join("tls.key"), 0o600), (directory.to_owned(), 0o755)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
}

fn read_identity(directory: &Path) -> SelfSigned {
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    SelfSigned { certificate: read("tls.crt"), private_key: read("tls.key"), ca: read("ca.crt") }
}

/// A Markdown table of medians, and previewgate's share of the better of nginx and HAProxy.
fn print(subjects: &[Subject], found: &[Vec<Figure>]) {
    let heads: Vec<_> = subjects.iter().map(|subject| subject.name()).collect();
    println!("| median of the rounds | {} | previewgate / the better of nginx and HAProxy |", heads.join(" | "));
    println!("|---|{}", "---:|".repeat(subjects.len() + 1));
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in found.iter().flatten() {
        if !names.contains(name) {
            names.push(name);
        }
    }
    for name in names {
        let medians: Vec<_> = found.iter().map(|figures| median(figures, name)).collect();
        let cells: Vec<_> = medians.iter().map(|value| value.map_or("-".to_owned(), number)).collect();
        println!("| {name} | {} | {} |", cells.join(" | "), ratio(subjects, &medians, name));
    }
}

fn median(figures: &[Figure], wanted: &str) -> Option<f64> {
    let mut values: Vec<f64> = figures.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| values[(values.len() - 1) / 2])
}

fn ratio(subjects: &[Subject], medians: &[Option<f64>], name: &str) -> String {
    let of = |wanted| subjects.iter().position(|subject| *subject == wanted).and_then(|index| medians[index]);
    let (Some(own), Some(nginx), Some(haproxy)) = (of(Subject::Previewgate), of(Subject::Nginx), of(Subject::Haproxy))
    else {
        return "-".to_owned();
    };
    let better = if name.ends_with("a second") { nginx.max(haproxy) } else { nginx.min(haproxy) };
    format!("{:.2}", own / better)
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
