//! Plumbing shared by the programs: configuration, telemetry, doors for metrics and health, retry, shutdown.
//!
//! This is the only crate that reads the environment or a wall clock, draws random numbers, or knows which crate
//! does the retrying. It knows no migration, no store and no wire.

pub mod clock;
pub mod config;
pub mod doors;
pub mod hangup;
pub mod metrics;
pub mod random;
pub mod retry;
pub mod route;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
