//! The client library: one [`Client`] per coordinator, typed questions and answers.
//!
//! Reading order: [`Address`] says where, [`Client`] asks, [`model`] is what comes back, [`Watch`] follows one
//! migration through restarts of the coordinator. Every refusal is a list of [`shardlift_domain::Failure`], the
//! first one leading. Nothing here prints, reads the environment or handles secrets.

mod address;
mod client;
pub mod model;
mod refusal;
mod watch;

pub use address::{Address, AddressError};
pub use client::{Answer, Client};
pub use watch::{Watch, Watched};
