//! Where the previews of all agents are kept, shared by every worker. Outlives a connection, a session, a reload and,
//! with a [`snapshot`], the process.

mod memory;
mod recent_ends;
mod sessions;
pub mod snapshot;

pub use memory::MemoryStore;
pub use recent_ends::RecentEnds;
pub use sessions::Sessions;
