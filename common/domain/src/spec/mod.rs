//! What a user writes: one schema or data migration.
//!
//! The types here are what a valid file means; [`parse`] makes them from text and tells every problem of a file at once.

mod anew;
mod canonical;
mod checks;
pub mod keys;
mod parse;
mod problem;
mod throttle;
mod types;
mod yaml;

pub use anew::unrepeatable;
pub use checks::{Anew, Assertion, Leeway, Question, References, Sample, Unique, VerifyCheck};
pub use parse::{MAX_FILE, parse, parse_all};
pub use problem::{Problem, SpecProblems};
pub use throttle::{BucketedShare, MAX_RATE, NoWindow, Throttle, Window};
pub use types::{
    Allowed, Backup, Batch, DataSpec, EndBlockers, Engine, Kind, OnError, OnVerifyFailure, Parallel, Ranges,
    Reach, SchemaChange, SchemaSpec, Source, Spec, SpecBody, SpecFile, TenantKey, Tenants, Transform, Undo,
    WaveSpec, Where, Written,
};
