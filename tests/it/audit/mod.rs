//! The audit log, over real sockets: what is recorded, when, and what happens when it cannot be.

mod faults;
mod privacy;
mod records;
mod restarts;
mod rotation;
mod verified;
