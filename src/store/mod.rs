//! Where the previews of all agents are kept, shared by every worker. Outlives a connection, a session and a reload.

mod memory;
mod recent_ends;
mod sessions;

pub use memory::MemoryStore;
pub use recent_ends::RecentEnds;
pub use sessions::Sessions;
