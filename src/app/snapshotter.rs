//! Restores previews before the gateway listens, and saves them while it runs.
//!
//! Everything here runs on the supervisor's thread and on its pool for blocking work; the workers never wait for a disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::config::{Config, Previews};
use crate::gateway::Services;
use crate::log_throttle::LogThrottle;
use crate::preview::millis;
use crate::store::StateFileError;
use crate::store::snapshot::{Restored, Saved, SnapshotFile};

/// Minimum interval between two warnings that previews cannot be saved.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum duration of the last save: a disk that hangs must not prevent the end of the process.
const LAST_SAVE: Duration = Duration::from_secs(10);

/// Restores what the last run saved, and begins the warm-up if there is nothing. Must run before the gateway accepts.
///
/// # Errors
/// When the snapshot must not be used: another gateway uses it, or other users can write it.
pub(super) fn restore(config: &Config, services: &mut Services) -> Result<Option<SnapshotFile>, StateFileError> {
    let previews = &config.previews;
    let open = |path| SnapshotFile::open(path, previews.ttl, previews.max_agents);
    let file = previews.snapshot.clone().map(open).transpose()?;
    let restored = file.as_ref().is_some_and(|file| restore_from(file, services));
    if let Some(file) = &file {
        continue_from(file, services);
    }
    let warm_up = config.validation.warm_up;
    if !restored && !warm_up.is_zero() {
        services.warm_up_until = Some(services.own_clock.now().after(warm_up));
        tracing::warn!(
            target: "previewgate::previews",
            warm_up_ms = millis(warm_up),
            "warming up: no previews were restored, so callouts of agents without a known preview are forwarded unverified"
        );
    }
    Ok(file)
}

/// Opens the snapshot that the earlier process has released, and saves what was taken over from that process. Blocks.
pub(super) fn take_over(previews: &Previews, services: &Services) -> Option<SnapshotFile> {
    let path = previews.snapshot.clone()?;
    match SnapshotFile::open(path.clone(), previews.ttl, previews.max_agents) {
        Ok(file) => {
            continue_from(&file, services);
            Some(file)
        }
        Err(error) => {
            services.metrics.snapshots.failed();
            tracing::error!(target: "previewgate::previews", path = %path.display(), %error, "previews cannot be saved");
            None
        }
    }
}

/// Starts the journal of this run, and saves what was restored: the journals of earlier runs are not needed any more.
fn continue_from(file: &SnapshotFile, services: &Services) {
    let journal = file.start_journal(Arc::clone(&services.metrics));
    let saved = journal.map(|journal| services.ledger.start_journal(journal));
    let saved = saved.and_then(|()| file.save(&services.ledger, &*services.clock));
    match saved {
        Ok(saved) => services.metrics.snapshots.saved(saved.at),
        Err(error) => {
            services.metrics.snapshots.failed();
            let path = file.path().display();
            tracing::warn!(target: "previewgate::previews", %path, %error, "previews cannot be saved");
        }
    }
}

/// True if the previews of the last run are known again.
fn restore_from(file: &SnapshotFile, services: &Services) -> bool {
    let path = file.path().display();
    match file.restore(&services.ledger, services.clock.now()) {
        Restored::Previews { previews, expired, ended, passed_over, age, .. } => {
            services.metrics.snapshots.restored(previews);
            let age_ms = millis(age);
            tracing::info!(
                target: "previewgate::previews",
                %path, previews, expired, ended, agents_passed_over = passed_over, age_ms,
                "previews restored"
            );
            true
        }
        Restored::Nothing => {
            tracing::info!(target: "previewgate::previews", %path, "no snapshot to restore: no previews are known");
            false
        }
        Restored::Refused { fault, put_aside } => {
            services.metrics.snapshots.failed();
            let put_aside = match put_aside {
                Ok(place) => format!("kept as {}", place.display()),
                Err(error) => format!("still there, and no snapshot is written: {error}"),
            };
            tracing::warn!(
                target: "previewgate::previews",
                %path, %fault, put_aside,
                "snapshot refused: no previews are known"
            );
            false
        }
    }
}

/// Waits for the end of the warm-up and logs it.
pub(super) async fn announce_end_of_warm_up(services: Arc<Services>) {
    let Some(end) = services.warm_up_until else { return };
    tokio::time::sleep(end.since(services.own_clock.now())).await;
    tracing::info!(
        target: "previewgate::previews",
        "warm-up is over: callouts of agents without a known preview are handled as on_unknown_preview says"
    );
}

/// Saves previews at each `previews.snapshot_interval`, and at the end.
#[derive(Clone)]
pub(super) struct Snapshotter(Arc<Inner>);

struct Inner {
    file: SnapshotFile,
    interval: Duration,
    services: Arc<Services>,
    warnings: LogThrottle,
    failing: AtomicBool,
}

impl Snapshotter {
    pub(super) fn new(file: SnapshotFile, previews: &Previews, services: &Arc<Services>) -> Self {
        let interval = previews.snapshot_interval;
        let warnings = LogThrottle::every(WARNING_INTERVAL);
        let services = Arc::clone(services);
        Self(Arc::new(Inner { file, interval, services, warnings, failing: AtomicBool::new(false) }))
    }

    /// Saves at every interval, for as long as it is polled.
    pub(super) async fn run(self) {
        let interval = self.0.interval;
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        // Each save is followed by a whole interval, even if the disk is slower than the interval.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.save().await;
        }
    }

    /// Saves for the last time, and releases the file; gives up on a disk that does not answer.
    pub(super) async fn finish(&self) {
        let inner = Arc::clone(&self.0);
        let last = async {
            self.save().await;
            let _ = tokio::task::spawn_blocking(move || inner.file.release()).await;
        };
        if tokio::time::timeout(LAST_SAVE, last).await.is_err() {
            self.0.failed(&io::Error::from(io::ErrorKind::TimedOut));
        }
    }

    async fn save(&self) {
        let inner = Arc::clone(&self.0);
        let saving =
            tokio::task::spawn_blocking(move || inner.file.save(&inner.services.ledger, &*inner.services.clock));
        match saving.await.unwrap_or_else(|defect| Err(io::Error::other(defect))) {
            Ok(saved) => self.0.saved(&saved),
            Err(error) => self.0.failed(&error),
        }
    }
}

impl Inner {
    fn saved(&self, saved: &Saved) {
        self.services.metrics.snapshots.saved(saved.at);
        let path = self.file.path().display();
        tracing::debug!(target: "previewgate::previews", %path, "previews saved");
        if let Some(place) = &saved.put_aside {
            let place = place.display();
            tracing::warn!(target: "previewgate::previews", %path, kept_as = %place, "a foreign file was in the way");
        }
        if saved.left_out > 0 && self.warnings.allow() {
            let agents = saved.left_out;
            tracing::warn!(target: "previewgate::previews", %path, agents, "agents with too many previews were not saved");
        }
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(target: "previewgate::previews", %path, "previews are saved again");
        }
    }

    fn failed(&self, error: &io::Error) {
        self.services.metrics.snapshots.failed();
        self.failing.store(true, Ordering::Relaxed);
        if self.warnings.allow() {
            let path = self.file.path().display();
            tracing::warn!(target: "previewgate::previews", %path, %error, "previews cannot be saved");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::app::{App, Running};
    use crate::config::{self, Files, LogFormat};
    use crate::preview::{AgentId, ControlId};
    use crate::simulator::{Simulator, SimulatorConfig, SimulatorHandle};
    use crate::telemetry::Logging;
    use crate::testing::CapturedLog;

    /// Upper bound for a step of a test. Only a failed test reaches it.
    const PATIENCE: Duration = Duration::from_secs(30);

    struct Scene {
        directory: tempfile::TempDir,
        simulator: Simulator,
        platform: SimulatorHandle,
        guid: String,
        log: CapturedLog,
        /// One for each gateway. It writes its lines until it is dropped.
        logging: Mutex<Vec<Logging>>,
    }

    fn agent() -> AgentId {
        AgentId::try_from(101).unwrap()
    }

    impl Scene {
        async fn new() -> Self {
            let config = SimulatorConfig { lenient_callouts: true, ..SimulatorConfig::default() };
            let simulator = Simulator::start(config).await.unwrap();
            let platform = simulator.handle();
            let guid = platform.sign_in_directly(agent());
            let (directory, log, logging) = (tempfile::tempdir().unwrap(), CapturedLog::default(), Mutex::default());
            Self { directory, simulator, platform, guid, log, logging }
        }

        fn snapshot(&self) -> std::path::PathBuf {
            self.directory.path().join("previews.snapshot")
        }

        fn start(&self, validation: &str, previews: &str) -> Running {
            let text = format!(
                "listener.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\nruntime.workers = 1\n\
                 [upstream]\nendpoints = [\"http://{}\"]\n[validation]\n{validation}\n\
                 [previews]\nsnapshot = \"previews.snapshot\"\n{previews}\n",
                self.simulator.address()
            );
            let config = config::parse(&text, self.directory.path(), Files::Check).unwrap();
            let logging = Logging::start(LogFormat::Json, tracing::Level::DEBUG, Box::new(self.log.clone())).unwrap();
            let gateway = App::bind(config, &logging).unwrap().start().unwrap();
            self.logging.lock().unwrap().push(logging);
            gateway
        }

        /// All lines that were logged until now.
        fn log_so_far(&self) -> String {
            assert!(self.logging.lock().unwrap().iter().all(|logging| logging.writer.flush(PATIENCE)));
            self.log.text()
        }

        /// All lines, after the gateways have ended.
        fn whole_log(&self) -> String {
            self.logging.lock().unwrap().clear();
            self.log.text()
        }

        async fn poll(&self, gateway: &Running) -> String {
            self.ask(gateway, "GET", "agentevent/101", "").await
        }

        async fn call(&self, gateway: &Running, called: &str) -> String {
            let body = format!("{{\"called\":\"{called}\",\"callcontrolid\":7}}");
            self.ask(gateway, "PUT", "voicecall/101/previewCallout", &body).await
        }

        async fn ask(&self, gateway: &Running, method: &str, resource: &str, body: &str) -> String {
            let head = format!(
                "{method} /agentgateway/resource/{resource} HTTP/1.1\r\nHost: x\r\nGuid: {}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                self.guid,
                body.len()
            );
            exchange(gateway.address, &head).await
        }
    }

    async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn metrics(gateway: &Running) -> String {
        exchange(gateway.admin_address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await
    }

    async fn stop(gateway: Running) {
        gateway.stop();
        tokio::task::spawn_blocking(move || gateway.wait().unwrap()).await.unwrap();
    }

    const ACCEPTED: &str = r#""retcode":"0""#;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_restart_forgets_nothing() {
        let scene = Scene::new().await;
        let first = scene.start("", "");
        scene.platform.preview(agent(), ControlId(7), "1001,1002");
        assert!(scene.poll(&first).await.contains("1001,1002"));
        stop(first).await;
        let second = scene.start("warm_up = \"1h\"", "");
        assert!(scene.call(&second, "1002").await.contains(ACCEPTED));
        assert!(scene.call(&second, "1003").await.contains("number_not_in_preview"));
        assert_eq!(scene.platform.callouts().len(), 1);
        assert!(metrics(&second).await.contains("previewgate_previews_cached 1\n"));
        stop(second).await;
        // The second run restored previews, so it needs no warm-up.
        let log = scene.whole_log();
        assert!(log.contains("previews restored") && !log.contains("warming up"), "{log}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_crash_loses_only_what_came_after_the_last_save() {
        let scene = Scene::new().await;
        let first = scene.start("", "snapshot_interval = \"100ms\"");
        scene.platform.preview(agent(), ControlId(7), "1001");
        scene.poll(&first).await;
        // The save that is logged next may have begun before the poll; the one after it has not.
        let saves = scene.log_so_far().matches("previews saved").count();
        scene.log.says("previews saved", saves + 2).await;
        assert!(metrics(&first).await.contains("\npreviewgate_snapshot_last_success_timestamp_seconds 1"));
        let crashed = std::fs::read(scene.snapshot()).unwrap();
        stop(first).await;
        std::fs::write(scene.snapshot(), crashed).unwrap();
        let second = scene.start("", "");
        assert!(scene.call(&second, "1001").await.contains(ACCEPTED));
        stop(second).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_damaged_snapshot_is_refused_and_kept() {
        let scene = Scene::new().await;
        std::fs::write(scene.snapshot(), "previewgate-snapshot 1 17\nnot what it was").unwrap();
        let gateway = scene.start("", "");
        assert!(scene.call(&gateway, "1001").await.contains("unknown_preview"));
        assert!(metrics(&gateway).await.contains("previewgate_snapshot_failures_total 1\n"));
        stop(gateway).await;
        let log = scene.whole_log();
        assert!(log.contains("snapshot refused") && log.contains("it is damaged"), "{log}");
        assert!(std::fs::read_to_string(scene.snapshot()).unwrap().contains("\nend 0 "));
        let kept = std::fs::read_to_string(Path::new(&format!("{}.refused", scene.snapshot().display()))).unwrap();
        assert!(kept.ends_with("not what it was"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_gateway_serves_although_its_snapshot_cannot_be_written() {
        let scene = Scene::new().await;
        let gateway = scene.start("", "snapshot_interval = \"100ms\"");
        std::fs::remove_dir_all(scene.directory.path()).unwrap();
        scene.log.says("previews cannot be saved", 1).await;
        scene.platform.preview(agent(), ControlId(7), "1001");
        scene.poll(&gateway).await;
        assert!(scene.call(&gateway, "1001").await.contains(ACCEPTED));
        // The last save failed too, so there are at least two failures.
        let metrics = Arc::clone(&gateway.services.metrics);
        stop(gateway).await;
        assert!(!metrics.encode().contains("previewgate_snapshot_failures_total 1\n"));
        assert_eq!(scene.whole_log().matches("previews cannot be saved").count(), 1, "the warning is throttled");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_warm_up_forwards_unknown_previews_unverified() {
        let scene = Scene::new().await;
        let gateway = scene.start("warm_up = \"1h\"", "");
        assert!(scene.call(&gateway, "1001").await.contains(ACCEPTED));
        stop(gateway).await;
        let log = scene.whole_log();
        assert!(log.contains(r#""decision":"unverified""#), "{log}");
        assert_eq!((log.matches("warming up").count(), log.matches("warm-up is over").count()), (1, 0), "{log}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_of_a_warm_up_is_logged_and_unknown_previews_are_refused_afterwards() {
        let scene = Scene::new().await;
        let gateway = scene.start("warm_up = \"10ms\"", "");
        scene.log.says("warm-up is over", 1).await;
        assert!(scene.call(&gateway, "1001").await.contains("unknown_preview"));
        stop(gateway).await;
        let log = scene.whole_log();
        assert_eq!((log.matches("warming up").count(), log.matches("warm-up is over").count()), (1, 1), "{log}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_warm_up_does_not_excuse_a_callout_that_contradicts_a_known_preview() {
        let scene = Scene::new().await;
        let gateway = scene.start("warm_up = \"1h\"", "");
        scene.platform.preview(agent(), ControlId(7), "1001");
        scene.poll(&gateway).await;
        assert!(scene.call(&gateway, "1002").await.contains("number_not_in_preview"));
        stop(gateway).await;
    }
}
