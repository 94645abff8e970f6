//! The key of the hashes by which gateways recognise each other's GUIDs: the configured one (`previews.session_key`), or one
//! that is kept in Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

use super::super::guid_key::{GuidKey, KEY_LENGTH};

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

    /// Whether the key is in the configuration: then none belongs into Redis.
    pub(super) fn is_configured(&self) -> bool {
        self.configured.load(Ordering::Relaxed)
    }

    /// The key in Redis is `secret`.
    pub(super) fn agree(&self, secret: &[u8]) {
        if self.is_configured() || secret.len() != KEY_LENGTH {
            return;
        }
        let key = GuidKey::new(secret);
        if self.current().is_none_or(|current| current.id() != key.id()) {
            self.current.store(Some(Arc::new(key)));
        }
    }
}
