//! previewgate: a validating reverse proxy for Huawei CC-Gateway.
//!
//! It stands between CTI applications and CC-Gateway (or NSLB), watches preview events go by, and lets a
//! `previewCallout` through only if it names a number and a control ID that this agent was really shown.
//!
//! Where to look first: the rule is [`preview::decide`].

mod closed_list;

pub mod config;
pub mod downstream;
pub mod gateway;
pub mod preview;
pub mod protocol;
pub mod server;
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod upstream;
