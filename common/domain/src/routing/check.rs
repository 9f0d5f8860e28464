//! Whether a rule is a rule: everything that is wrong with it, at once.

use std::fmt;

use crate::ids::ShardId;

use super::{KeyRange, Routing, Rule, Span};

/// Most buckets of a hash rule.
pub const MAX_BUCKETS: u32 = 65_536;

/// One thing that is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misrule {
    /// Which part of the rule, as the configuration names it.
    pub part: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Misrule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.why)
    }
}

impl Routing {
    /// Everything that is wrong with the rule for a cluster of these shards.
    pub fn check(&self, shards: &[ShardId]) -> Vec<Misrule> {
        let mut wrong = Wrong { shards, all: Vec::new() };
        match &self.rule {
            Rule::Hash { buckets, spans } => wrong.hash(*buckets, spans),
            Rule::Range { ranges } => wrong.ranges(self, ranges),
            Rule::Directory { default } => {
                default.iter().for_each(|shard| wrong.known("default", shard));
            }
        }
        wrong.all
    }
}

struct Wrong<'a> {
    shards: &'a [ShardId],
    all: Vec<Misrule>,
}

impl Wrong<'_> {
    fn add(&mut self, part: impl Into<String>, why: impl Into<String>) {
        self.all.push(Misrule { part: part.into(), why: why.into() });
    }

    fn known(&mut self, part: &str, shard: &ShardId) {
        if !self.shards.contains(shard) {
            self.add(part, format!("shard {shard} is not a shard of the cluster"));
        }
    }

    fn hash(&mut self, buckets: u32, spans: &[Span]) {
        if buckets == 0 || buckets > MAX_BUCKETS {
            self.add("buckets", format!("{buckets} is not between 1 and {MAX_BUCKETS}"));
            return;
        }
        for span in spans {
            let part = format!("shards.{}", span.shard);
            self.known(&part, &span.shard);
            if span.first > span.last || span.last >= buckets {
                self.add(
                    part,
                    format!("{}-{} are not buckets from 0 to {}", span.first, span.last, buckets - 1),
                );
                return;
            }
        }
        let mut sorted: Vec<&Span> = spans.iter().collect();
        sorted.sort_by_key(|span| span.first);
        let mut next = 0;
        for span in sorted {
            if span.first > next {
                self.add("shards", format!("nobody has the buckets {next}-{}", span.first - 1));
            }
            if span.first < next {
                let part = format!("shards.{}", span.shard);
                self.add(
                    part,
                    format!(
                        "another shard has the buckets {}-{} already",
                        span.first,
                        span.last.min(next - 1)
                    ),
                );
            }
            next = next.max(span.last + 1);
        }
        if next < buckets {
            self.add("shards", format!("nobody has the buckets {next}-{}", buckets - 1));
        }
    }

    fn ranges(&mut self, routing: &Routing, ranges: &[KeyRange]) {
        let Some((last, inner)) = ranges.split_last() else {
            self.add("ranges", "there is none");
            return;
        };
        for (at, range) in ranges.iter().enumerate() {
            self.known(&format!("ranges[{at}].shard"), &range.shard);
        }
        if last.below.is_some() {
            self.add("ranges", "the last one must have no `below`: keys after it would be nowhere");
        }
        let mut before = None;
        for (at, range) in inner.iter().enumerate() {
            let part = format!("ranges[{at}].below");
            let Some(below) = &range.below else {
                self.add(part, "only the last range has none");
                continue;
            };
            match routing.key.parse(below) {
                Err(error) => self.add(part, error.to_string()),
                Ok(bound) => {
                    if before.as_ref().is_some_and(|before| *before >= bound) {
                        self.add(part, format!("{below:?} does not come after the bound before it"));
                    }
                    before = Some(bound);
                }
            }
        }
    }
}
