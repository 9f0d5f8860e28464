//! What scenarios share. It knows Shardlift by its files, its command line and its tables in a shard only.

mod invariants;
mod items;
mod play;
mod shard;
mod spec;

pub(crate) use invariants::{assert_agreed, assert_exactly_once, assert_nothing_left};
pub(crate) use items::{Items, Keys};
pub(crate) use play::{DEADLINE, Play, refused};
pub(crate) use shard::{checkpoints, scalar};
pub(crate) use spec::{ItemsSpec, MONGODB, POSTGRES, Specs};

pub(crate) use shardlift_harness::dataset::items::Form;
pub(crate) use shardlift_harness::installation::Engine;

/// Both promises: a `where` that turns false hides repeats, so each scenario of a fault plays without it as well.
pub(crate) const BOTH_FORMS: [Form; 2] = [Form::WithWhere, Form::WithoutWhere];
