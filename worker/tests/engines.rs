//! What every shard engine must keep, tried on real servers. The cases know no engine; each engine brings a bench.

#[path = "conformance/mod.rs"]
mod conformance;
