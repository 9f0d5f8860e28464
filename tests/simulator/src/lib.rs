//! Simulated workers: each has a real gRPC stream to a real coordinator and answers as a worker would, but no shard
//! stands behind it. What they cost the coordinator is what real ones would cost it.
//!
//! A [`Fleet`] is all workers; [`Settings`] say how many, and how their shards look. What they are asked to do takes as
//! long as the settings say; the [`HandOuts`] tell how soon a worker that was free heard of work that was there.

mod fleet;
mod hand_outs;
mod work;
mod worker;

pub use fleet::{Fleet, Settings};
pub use hand_outs::HandOuts;
