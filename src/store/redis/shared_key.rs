//! The key of the hashes by which gateways recognise each other's GUIDs: the configured one (`previews.session_key`), or one
//! that is kept in Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, cmd};
use arc_swap::ArcSwapOption;

use super::super::guid_key::{GuidKey, KEY_LENGTH, random_secret};

const AGREE: &str = include_str!("agree.lua");

/// See the module.
#[derive(Default)]
pub(super) struct SharedKey {
    current: ArcSwapOption<GuidKey>,
    configured: AtomicBool,
}

impl SharedKey {
    /// The key, if it is known yet.
    pub(super) fn current(&self) -> Option<Arc<GuidKey>> {
        self.current.load_full()
    }

    /// Uses this key, whatever is in Redis.
    pub(super) fn configure(&self, key: GuidKey) {
        self.configured.store(true, Ordering::Relaxed);
        self.current.store(Some(Arc::new(key)));
    }

    /// Uses the key in Redis, and puts a random one there if there is none.
    ///
    /// # Errors
    /// Those of Redis.
    pub(super) async fn agree(&self, connection: &mut MultiplexedConnection, name: String) -> Result<(), RedisError> {
        if self.configured.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(proposal) = random_secret() else { return Ok(()) };
        let mut agree = cmd("EVAL");
        agree.arg(AGREE).arg(1).arg(name).arg(&proposal[..]);
        let secret: Vec<u8> = agree.query_async(connection).await?;
        let key = GuidKey::new(&secret);
        let is_new = self.current().is_none_or(|current| current.id() != key.id());
        if secret.len() == KEY_LENGTH && is_new {
            self.current.store(Some(Arc::new(key)));
        }
        Ok(())
    }
}
