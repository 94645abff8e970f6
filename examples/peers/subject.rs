//! The proxies that are compared, as processes: their configuration, CPU time and memory.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tokio::net::TcpStream;

use crate::cpu_time::cpu_time;

/// A proxy, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Subject {
    /// The client speaks to the platform: what a proxy adds is measured against it.
    Direct,
    Relay,
    Bare,
    Nginx,
    Haproxy,
    Previewgate,
}

/// What all subjects are given.
pub(crate) struct Setting {
    /// Certificates and configurations.
    pub(crate) directory: PathBuf,
    pub(crate) upstream: SocketAddr,
    /// Where a proxy listens: nginx and HAProxy cannot say which port the system chose for them.
    pub(crate) listen: SocketAddr,
    pub(crate) workers: usize,
    /// A built previewgate.
    pub(crate) previewgate: PathBuf,
}

/// A subject that runs; killed when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// From the start of the process to its first accepted connection.
    pub(crate) ready_after: Duration,
    child: Option<Child>,
}

impl Subject {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "no proxy",
            Self::Relay => "TLS relay",
            Self::Bare => "bare hyper proxy",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Previewgate => "previewgate",
        }
    }

    fn command(self, setting: &Setting) -> Option<Command> {
        let Setting { directory, upstream, listen, workers, previewgate } = setting;
        let own = |role: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.arg("serve").arg(role).arg(listen.to_string()).arg(upstream.to_string());
            command.arg(workers.to_string()).arg(directory);
            command
        };
        let configured = |program: &Path, file: &str, text: String| {
            let path = directory.join(file);
            fs::write(&path, text).unwrap();
            let mut command = Command::new(program);
            command.current_dir(directory);
            (command, path)
        };
        Some(match self {
            Self::Direct => return None,
            Self::Relay => own("relay"),
            Self::Bare => own("bare"),
            Self::Nginx => {
                let (mut command, path) = configured(Path::new("nginx"), "nginx.conf", nginx(setting));
                command.arg("-p").arg(directory).arg("-c").arg(path);
                command
            }
            Self::Haproxy => {
                let (mut command, path) = configured(Path::new("haproxy"), "haproxy.cfg", haproxy(setting));
                command.arg("-db").arg("-f").arg(path);
                command
            }
            Self::Previewgate => {
                let (mut command, path) = configured(previewgate, "previewgate.toml", previewgate_toml(setting));
                command.arg("run").arg("--config").arg(path);
                command
            }
        })
    }

    /// Starts it, and waits until it accepts connections.
    pub(crate) async fn start(self, setting: &Setting) -> Running {
        let Some(mut command) = self.command(setting) else {
            return Running { address: setting.upstream, ready_after: Duration::ZERO, child: None };
        };
        // Its log goes to a file, as a log collector would have it.
        let log = |name: &str| Stdio::from(fs::File::create(setting.directory.join(name)).unwrap());
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(log("log")).stderr(log("errors")).spawn();
        let mut running = Running {
            address: setting.listen,
            ready_after: Duration::ZERO,
            child: Some(child.unwrap_or_else(|error| panic!("{} does not start: {error}", self.name()))),
        };
        while TcpStream::connect(setting.listen).await.is_err() {
            let ended = running.child.as_mut().unwrap().try_wait().unwrap().is_some();
            if ended || begun.elapsed() > Duration::from_secs(10) {
                let errors = fs::read_to_string(setting.directory.join("errors")).unwrap_or_default();
                panic!("{} does not listen: {errors}", self.name());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.ready_after = begun.elapsed();
        running
    }
}

impl Running {
    /// CPU time of all threads of all its processes so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.processes().into_iter().map(cpu_time).sum()
    }

    /// Resident memory of all its processes, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most resident memory that its processes ever had, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> u64 {
        let of = |process: u32| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().to_owned();
            line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
        };
        self.processes().into_iter().map(of).sum()
    }

    /// The process and its children: nginx has one for each worker.
    fn processes(&self) -> Vec<u32> {
        let Some(child) = &self.child else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        std::iter::once(child.id()).chain(children.split_whitespace().map(|id| id.parse().unwrap())).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // A master process ends its workers when it is asked to end.
        let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let patience = Instant::now() + Duration::from_secs(2);
        while child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn nginx(Setting { directory, upstream, listen, workers, .. }: &Setting) -> String {
    let home = directory.display();
    format!(
        "worker_processes {workers};\ndaemon off;\npid {home}/nginx.pid;\nerror_log {home}/nginx.log;\n\
         worker_rlimit_nofile 200000;\nevents {{ worker_connections 100000; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 600s;\n\
         client_max_body_size 0;\n  client_body_temp_path {home}/nginx.body;\n  proxy_temp_path {home}/nginx.proxy;\n\
         fastcgi_temp_path {home}/nginx.f;\n  uwsgi_temp_path {home}/nginx.u;\n  scgi_temp_path {home}/nginx.s;\n\
         upstream platform {{ server {upstream}; keepalive 50000; keepalive_requests 1000000000; }}\n\
         server {{\n    listen {listen} ssl backlog=4096;\n    ssl_certificate {home}/tls.crt;\n\
         ssl_certificate_key {home}/tls.key;\n    ssl_session_tickets on;\n    location / {{\n\
         proxy_pass https://platform;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n\
         proxy_request_buffering off;\n      proxy_buffering on;\n      proxy_max_temp_file_size 0;\n\
         proxy_ssl_verify on;\n      proxy_ssl_trusted_certificate {home}/ca.crt;\n\
         proxy_ssl_name localhost;\n      proxy_ssl_server_name on;\n      proxy_read_timeout 600s;\n    }}\n  }}\n}}\n"
    )
}

fn haproxy(Setting { directory, upstream, listen, workers, .. }: &Setting) -> String {
    let home = directory.display();
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(200_000);
    // HAProxy does not start if it could not open two descriptors for each, and some more.
    let connections = (descriptors - 200) / 2;
    format!(
        "global\n  maxconn {connections}\n  nbthread {workers}\n  tune.pool-low-fd-ratio 100\n  tune.pool-high-fd-ratio 100\n\
         defaults\n  mode http\n  timeout connect 30s\n  timeout client 600s\n  timeout server 600s\n\
         timeout http-keep-alive 600s\n  http-reuse always\n\
         frontend clients\n  bind {listen} ssl crt {home}/tls.pem backlog 4096\n  default_backend platform\n\
         backend platform\n  server one {upstream} ssl verify required ca-file {home}/ca.crt sni str(localhost) \
         pool-max-conn -1 pool-purge-delay 600s\n"
    )
}

fn previewgate_toml(Setting { directory, upstream, listen, workers, .. }: &Setting) -> String {
    let home = directory.display();
    format!(
        "listener.address = \"{listen}\"\nlistener.tls.certificate = \"{home}/tls.crt\"\n\
         listener.tls.private_key = \"{home}/tls.key\"\nadmin.address = \"127.0.0.1:0\"\n\
         upstream.endpoints = [\"https://localhost:{}\"]\nupstream.tls.ca = \"{home}/ca.crt\"\n\
         runtime.workers = {workers}\n",
        upstream.port()
    )
}
