//! The harness tests itself: a fault that does not happen would make a scenario pass for nothing.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod processes;
mod proxies;
mod servers;
mod watchdog;
