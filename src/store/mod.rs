//! Where the previews of all agents are kept, shared by every worker. Outlives a connection, a session and a reload.

mod memory;
mod sessions;

pub use memory::MemoryStore;
pub use sessions::Sessions;
