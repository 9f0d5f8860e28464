//! The client library: typed questions and answers. Any coordinator answers, and who leads may change meanwhile.
//!
//! Reading order: [`Coordinators`] says where, [`Client`] asks until it is answered, [`model`] is what comes back, [`Watch`] follows one
//! migration through restarts of the coordinator. Every refusal is a list of [`shardlift_domain::Failure`], the
//! first one leading. Nothing here prints or reads the environment; a token ([`Bearer`]) is never shown.

mod address;
mod aside;
mod backups;
mod client;
mod connection;
mod history;
mod mismatches;
pub mod model;
mod pieces;
mod places;
mod refusal;
mod repair;
mod watch;

pub use address::{Address, AddressError, Coordinators};
pub use client::{Answer, Client, Sample};
pub use pieces::Pieces;
pub use shardlift_domain::backup::{Kept, Restoring};
pub use shardlift_proto::bearer::{Bearer, NoToken};
pub use watch::{Watch, Watched};
