//! Clients that notice every refused connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinSet;

use crate::support::{API, Access, Request, eventually};

/// Clients that connect, send one request, demand an answer, and connect again. Each gives up at its first refused or broken
/// connection, and the test fails then.
pub(crate) struct Hammer {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Hammer {
    pub(crate) fn start(gateway: &Access, clients: usize) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (stop, answers, gateway) = (Arc::clone(&stop), Arc::clone(&answers), gateway.clone());
            async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = gateway.send(&Request::get(format!("{API}/x"))).await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, answers, clients }
    }

    /// Waits for so many more answers.
    pub(crate) async fn wait_for(&self, more: u64) {
        let enough = self.answers.load(Ordering::Relaxed) + more;
        eventually(format!("{more} more answers"), || self.answers.load(Ordering::Relaxed) >= enough).await;
    }

    /// Ends the clients; fails if one of them has failed.
    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
    }
}
