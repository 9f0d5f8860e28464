//! The protocol of fencing and hand-over as a model that is explored to its end: every order of steps, every lost and
//! repeated message, every crash, and a store that is restored from an old copy, within the bounds of a [`Bounds`].
//!
//! The decisions are the product's own: [`Fence::judge`](shardlift_domain::fence::Fence::judge), the order of
//! [`Token`](shardlift_domain::fence::Token)s and the moves of [`TaskState`](shardlift_domain::task::TaskState). What the
//! databases do for us (a row lock, a condition in an `UPDATE`) is written down here in their stead.
//!
//! In reading order: [`world`] is all that there is; [`coordinator`], [`worker`] and [`databases`] are who can do what;
//! [`model`] says what can happen next and what must hold; [`healing`] is what happens when faults cease.

#![allow(
    clippy::print_stdout,
    reason = "how much was explored, and by what way a mistake shows, is for people to read"
)]

mod coordinator;
mod databases;
mod healing;
mod model;
mod runs;
mod worker;
mod world;
