//! Connections to applications that wait for their next push.
//!
//! Pushes come in bursts: a call brings several events within seconds. Each connection waits for [`IDLE_TIMEOUT`], which is
//! shorter than the keep-alive time of common servers, so that the application hardly ever closes one at the moment that a
//! push takes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::endpoint_url::EndpointUrl;
use crate::upstream::RequestBody;

/// How long a connection waits. Node.js closes idle connections after 5 s, most other servers later.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections that wait for pushes to one application.
const MAX_IDLE_PER_APPLICATION: usize = 4;
/// Connections that wait in all.
const MAX_IDLE: usize = 256;

/// Idle connections, the most recently used last.
#[derive(Default)]
pub(super) struct PushPool(Arc<Mutex<Vec<Idle>>>);

struct Idle {
    origin: EndpointUrl,
    sender: SendRequest<RequestBody>,
    since: Instant,
}

impl PushPool {
    /// A connection to this application that can take a push.
    pub(super) fn take(&self, origin: &EndpointUrl) -> Option<SendRequest<RequestBody>> {
        let mut idle = lock(&self.0);
        expire(&mut idle);
        let position = idle.iter().rposition(|idle| idle.origin == *origin && idle.sender.is_ready())?;
        Some(idle.remove(position).sender)
    }

    /// The answer to a push was read to its end: the connection waits for the next one.
    pub(super) fn put(&self, origin: &EndpointUrl, sender: SendRequest<RequestBody>) {
        let mut idle = lock(&self.0);
        expire(&mut idle);
        let same = idle.iter().filter(|idle| idle.origin == *origin).count();
        if sender.is_closed() || same >= MAX_IDLE_PER_APPLICATION || idle.len() >= MAX_IDLE {
            return;
        }
        idle.push(Idle { origin: origin.clone(), sender, since: Instant::now() });
        // Without further pushes nothing else would close it.
        let pool = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE_TIMEOUT).await;
            if let Some(idle) = pool.upgrade() {
                expire(&mut lock(&idle));
            }
        });
    }
}

fn expire(idle: &mut Vec<Idle>) {
    let now = Instant::now();
    idle.retain(|idle| !idle.sender.is_closed() && now.duration_since(idle.since) < IDLE_TIMEOUT);
}

fn lock(idle: &Mutex<Vec<Idle>>) -> MutexGuard<'_, Vec<Idle>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
