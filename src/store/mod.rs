//! Where the previews of all agents are kept, shared by every worker. Outlives a connection, a session, a reload and,
//! with a [`snapshot`], the process.

mod memory;
pub mod snapshot;

pub use memory::MemoryStore;
