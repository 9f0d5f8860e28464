//! Scenarios: Shardlift as an operator runs it, real processes over real servers, with chosen faults.
//!
//! Each test is a sentence about what must hold; `tests/README.md` says which fault each plays. [`stage`] holds what
//! they share: shards filled with items, an installation over them, and the invariants that each checks at its end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed scenario")]

mod access;
mod anew;
mod application;
mod atomic;
mod audit;
mod away;
mod backup;
mod browser;
mod clocks;
mod cluster;
mod coordinator_faults;
mod cut_off;
mod dashboard;
mod deploy;
mod elections;
mod encodings;
mod events;
mod happy;
mod locks;
mod messages;
mod partition;
mod prechecks;
mod purge;
mod python;
mod quarantine;
mod rehearsal;
mod repair;
mod replica_sets;
mod rest;
mod rollback;
mod rollout;
mod rows;
mod scale;
mod secrets;
mod services;
mod shard_faults;
mod stage;
mod telemetry;
mod tls;
mod topology;
mod unique;
mod upgrade;
mod verbs;
mod worker_faults;
