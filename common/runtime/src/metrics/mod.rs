//! Metrics as Prometheus reads them: the types of which programs make theirs, and what is measured of every process.
//!
//! A label's value is a `&'static str` ([`Labels`]), so that no series comes into being that the code does not name:
//! cardinality is bounded by type. What is named at run time, the shards of a worker, says so ([`ShardLabel`]).

mod exposed;
mod process;

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::{Registry, Unit};

pub use exposed::{Series, documented, exposed};

/// Labels of which every value is written in the code.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The label `shard`; only for the shards of one worker.
pub type ShardLabel = [(&'static str, String); 1];

/// A sum of seconds.
pub type Seconds = Counter<f64, std::sync::atomic::AtomicU64>;

/// Durations from half a millisecond to two minutes, in seconds.
pub fn durations() -> Histogram {
    const BOUNDS: [f64; 16] =
        [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];
    Histogram::new(BOUNDS)
}

/// Numbers from 1 to a million.
pub fn sizes() -> Histogram {
    const BOUNDS: [f64; 13] = [
        1.0,
        5.0,
        10.0,
        50.0,
        100.0,
        500.0,
        1_000.0,
        5_000.0,
        10_000.0,
        50_000.0,
        100_000.0,
        500_000.0,
        1_000_000.0,
    ];
    Histogram::new(BOUNDS)
}

/// A registry with what is measured of every process.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(process::Process));
    registry
}
