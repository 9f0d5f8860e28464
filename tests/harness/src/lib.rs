//! Real servers, real processes and chosen faults for scenarios, benches and the demo.
//!
//! In reading order: a [`sandbox`] is a temporary directory that nothing outlives; a [`process`] runs in it; [`servers`]
//! and an [`installation`] of Shardlift are processes; a [`proxy`] between them makes their network bad; [`wait`] waits
//! for what must become true. [`dataset`] fills the chat platform's databases and checks them after the example library
//! has run; a [`writer`] is the application that keeps using them.
//!
//! It must not depend on a product crate: it knows the programs by their command lines, files and output only.

pub mod dataset;
pub mod installation;
pub mod ports;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod sandbox;
pub mod servers;
mod signals;
pub mod wait;
pub mod writer;
