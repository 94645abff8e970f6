//! A gateway as a process, its CPU time and what it writes.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use previewgate::audit::note::Signer;
use previewgate::simulator::SelfSigned;
use serde_json::Value;

use crate::cpu_time::cpu_time;
use crate::program::built_beside;

/// How a gateway records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    None,
    Written,
    Synced,
}

impl Durability {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Written, Self::Synced];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::None => "absent",
            Self::Written => "written",
            Self::Synced => "synced",
        }
    }
}

/// The process; killed when dropped.
pub(crate) struct Gateway {
    pub(crate) durability: Durability,
    pub(crate) address: SocketAddr,
    home: PathBuf,
    child: Child,
}

impl Gateway {
    /// Starts the program that was built beside this one.
    pub(crate) fn start(
        durability: Durability,
        home: PathBuf,
        upstream: SocketAddr,
        identity: &SelfSigned,
        workers: usize,
    ) -> Self {
        configure(durability, &home, upstream, identity, workers);
        let mut command = Command::new(built_beside());
        command.args(["run", "--config"]).arg(home.join("previewgate.toml")).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let ready = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the gateway ended");
            if line.contains("\"message\":\"ready\"") {
                break serde_json::from_str::<Value>(&line).unwrap();
            }
        };
        // Its log is read like a collector would.
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while log.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
        let address = ready["address"].as_str().unwrap().parse().unwrap();
        Self { durability, address, home, child }
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_time(self.child.id())
    }

    /// Bytes of all segments.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        let Ok(files) = fs::read_dir(self.home.join("audit")) else { return 0 };
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    /// The same when everything is written that was recorded since there were `before` bytes.
    pub(crate) async fn settled_bytes(&self, before: u64) -> u64 {
        if self.durability == Durability::None {
            return 0;
        }
        let (last, times) = (Cell::new(before), Cell::new(0));
        crate::until(|| {
            let now = self.bytes_on_disk();
            times.set(if now > before && last.replace(now) == now { times.get() + 1 } else { 0 });
            times.get() > 10
        })
        .await;
        last.get()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configure(
    durability: Durability,
    home: &std::path::Path,
    upstream: SocketAddr,
    identity: &SelfSigned,
    workers: usize,
) {
    let write = |name: &str, content: &str| {
        fs::write(home.join(name), content).unwrap();
        fs::set_permissions(home.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("tls.crt", &identity.certificate);
    write("tls.key", &identity.private_key);
    write("ca.crt", &identity.ca);
    let mut text = format!(
        "listener.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\nruntime.workers = {workers}\n\
         limits.polls_per_agent = 1000\nupstream.endpoints = [\"https://{upstream}\"]\nupstream.tls.ca = \"ca.crt\"\n\
         listener.tls.certificate = \"tls.crt\"\nlistener.tls.private_key = \"tls.key\"\n"
    );
    if durability != Durability::None {
        fs::create_dir(home.join("audit")).unwrap();
        fs::set_permissions(home.join("audit"), fs::Permissions::from_mode(0o700)).unwrap();
        write("audit.key", &Signer::generate().unwrap().1);
        text.push_str(&format!(
            "audit.directory = \"audit\"\naudit.signing_key = \"audit.key\"\naudit.number_keys = \"numbers\"\n\
             audit.durability = \"{}\"\n",
            durability.word()
        ));
    }
    write("previewgate.toml", &text);
}
