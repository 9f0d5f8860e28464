//! What the application believes it wrote: for each key it touched, the states that may be found there.
//!
//! A write whose outcome is unknown (the connection broke) leaves two possible states, and the key is left
//! alone from then on: a late commit in the server must not meet a second write that the model would have
//! to guess about.

use std::collections::BTreeMap;

/// Keyed by (table, key as text). A state is the payload, or `None` for "no such row".
#[derive(Debug, Clone, Default)]
pub struct Model {
    states: BTreeMap<(String, String), Vec<Option<String>>>,
}

impl Model {
    /// A write that was acknowledged: exactly this state must be found.
    pub(crate) fn wrote(&mut self, table: &str, key: &str, state: Option<String>) {
        self.states.insert((table.to_owned(), key.to_owned()), vec![state]);
    }

    /// A write that may or may not have been committed.
    pub(crate) fn may_have_written(
        &mut self,
        table: &str,
        key: &str,
        before: Option<String>,
        after: Option<String>,
    ) {
        self.states.insert((table.to_owned(), key.to_owned()), vec![before, after]);
    }

    /// Whether the outcome of a write to this key is unknown.
    pub(crate) fn is_open(&self, table: &str, key: &str) -> bool {
        self.states.get(&(table.to_owned(), key.to_owned())).is_some_and(|states| states.len() > 1)
    }

    /// Table, key and possible states of every key the application touched.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&str, &str, &[Option<String>])> {
        self.states.iter().map(|((table, key), states)| (table.as_str(), key.as_str(), states.as_slice()))
    }
}
