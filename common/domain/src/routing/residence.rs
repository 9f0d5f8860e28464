//! The rule as one shard needs it: whether a key lives there. It is sent to the shard's worker, so that no key that
//! lies where it belongs ever leaves the shard.

use std::collections::BTreeSet;

use crate::ids::ShardId;

use super::{Entries, KeyKind, Routing, Rule, bucket};

/// Which keys live on one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residence {
    /// What keys are.
    pub key: KeyKind,
    /// Which of them.
    pub home: Home,
}

/// Which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// Those of these buckets, first and last included.
    Buckets {
        /// Of how many.
        buckets: u32,
        /// Which.
        spans: Vec<(u32, u32)>,
    },
    /// Those of these intervals: from, included, to below, excluded.
    Intervals(Vec<(Option<String>, Option<String>)>),
    /// Those that are listed.
    Listed(BTreeSet<String>),
    /// Those that are not listed.
    Unlisted(BTreeSet<String>),
}

impl Routing {
    /// What lives on this shard.
    pub fn residence(&self, entries: &Entries, shard: &ShardId) -> Residence {
        let home = match &self.rule {
            Rule::Hash { buckets, spans } => {
                let mine = spans.iter().filter(|span| span.shard == *shard);
                Home::Buckets { buckets: *buckets, spans: mine.map(|span| (span.first, span.last)).collect() }
            }
            Rule::Range { ranges } => {
                let from = std::iter::once(None).chain(ranges.iter().map(|range| range.below.clone()));
                let mine = from.zip(ranges).filter(|(_, range)| range.shard == *shard);
                Home::Intervals(mine.map(|(from, range)| (from, range.below.clone())).collect())
            }
            Rule::Directory { default } => {
                let unlisted = default.as_ref() == Some(shard);
                let keys = entries.iter().filter(|(_, at)| (*at == shard) != unlisted);
                let keys = keys.map(|(key, _)| key.clone()).collect();
                if unlisted { Home::Unlisted(keys) } else { Home::Listed(keys) }
            }
        };
        Residence { key: self.key, home }
    }
}

impl Residence {
    /// Whether the key that a text stands for lives here. A text that is no key lives nowhere.
    pub fn holds(&self, text: &str) -> bool {
        let Ok(key) = self.key.parse(text) else { return false };
        match &self.home {
            Home::Buckets { buckets, spans } => {
                let bucket = bucket(&key.canonical(), *buckets);
                spans.iter().any(|(first, last)| (*first..=*last).contains(&bucket))
            }
            Home::Intervals(intervals) => intervals.iter().any(|(from, below)| {
                // Bounds that are no keys were refused when the rule was set.
                let bound = |text: &Option<String>| text.as_ref().and_then(|text| self.key.parse(text).ok());
                bound(from).is_none_or(|from| from <= key) && bound(below).is_none_or(|below| key < below)
            }),
            Home::Listed(keys) => keys.contains(&key.canonical()),
            Home::Unlisted(keys) => !keys.contains(&key.canonical()),
        }
    }
}
