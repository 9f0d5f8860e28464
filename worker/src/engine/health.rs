//! How a shard is. Figures only; what counts as ill is judged elsewhere.

use super::Lag;

/// How a shard is, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The replica that is furthest behind. `None`: it has none, or they may not be seen.
    pub lag: Option<Lag>,
    /// The disk with its data. `None`: the server does not say.
    pub disk: Option<Disk>,
}

/// A disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes.
    pub total: u64,
    /// Bytes that are free.
    pub free: u64,
}
