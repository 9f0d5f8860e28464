//! The key `routing` of a cluster, as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;
use shardlift_domain::ShardId;
use shardlift_domain::routing::{KeyKind, KeyRange, Routing, Rule, Span};
use shardlift_runtime::config::ConfigProblems;

use super::valid;

/// Everything that any rule may hold.
#[derive(Debug, Deserialize)]
pub(super) struct WrittenRouting {
    rule: String,
    key: Option<String>,
    buckets: Option<u32>,
    shards: Option<BTreeMap<String, String>>,
    ranges: Option<Vec<WrittenRange>>,
    default: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WrittenRange {
    below: Option<String>,
    shard: String,
}

impl WrittenRouting {
    /// The rule, if it is one; everything that is wrong with it is told at once.
    pub(super) fn check(
        &self,
        problems: &mut ConfigProblems,
        at: &str,
        shards: &[ShardId],
    ) -> Option<Routing> {
        let word = self.key.as_deref().unwrap_or("text");
        let key = KeyKind::ALL.into_iter().find(|kind| kind.as_str() == word);
        if key.is_none() {
            problems
                .add(format!("{at}.key"), format!("{word:?} is no kind of key; use text, integer or uuid"));
        }
        let rule = match self.rule.as_str() {
            "hash" => {
                self.only(problems, at, &["buckets", "shards"]);
                self.hash(problems, at)
            }
            "range" => {
                self.only(problems, at, &["ranges"]);
                self.range(problems, at)
            }
            "directory" => {
                self.only(problems, at, &["default"]);
                let default = self.default.as_deref().map(ShardId::new).transpose();
                valid(problems, &format!("{at}.default"), default).map(|default| Rule::Directory { default })
            }
            other => {
                problems
                    .add(format!("{at}.rule"), format!("{other:?} is no rule; use hash, range or directory"));
                None
            }
        };
        let routing = Routing { key: key?, rule: rule? };
        let wrong = routing.check(shards);
        for misrule in &wrong {
            problems.add(format!("{at}.{}", misrule.part), misrule.why.clone());
        }
        wrong.is_empty().then_some(routing)
    }

    /// Nothing is accepted and ignored: keys of other rules are refused.
    fn only(&self, problems: &mut ConfigProblems, at: &str, own: &[&str]) {
        let given = [
            ("buckets", self.buckets.is_some()),
            ("shards", self.shards.is_some()),
            ("ranges", self.ranges.is_some()),
            ("default", self.default.is_some()),
        ];
        for (name, _) in given.into_iter().filter(|(name, given)| *given && !own.contains(name)) {
            problems.add(format!("{at}.{name}"), format!("a rule {:?} has no {name}", self.rule));
        }
    }

    fn hash(&self, problems: &mut ConfigProblems, at: &str) -> Option<Rule> {
        if self.buckets.is_none() {
            problems.add(format!("{at}.buckets"), "a hash rule needs the number of buckets");
        }
        let mut spans = Vec::new();
        for (name, text) in self.shards.iter().flatten() {
            let key = format!("{at}.shards.{name}");
            let shard = valid(problems, &key, ShardId::new(name))?;
            for part in text.split(',') {
                match span(part) {
                    Some((first, last)) => spans.push(Span { first, last, shard: shard.clone() }),
                    None => {
                        problems.add(
                            &key,
                            format!("{part:?} are no buckets; write \"0-511\", or \"0-99,200-299\""),
                        );
                        return None;
                    }
                }
            }
        }
        Some(Rule::Hash { buckets: self.buckets?, spans })
    }

    fn range(&self, problems: &mut ConfigProblems, at: &str) -> Option<Rule> {
        let mut ranges = Vec::new();
        for (number, written) in self.ranges.iter().flatten().enumerate() {
            let shard =
                valid(problems, &format!("{at}.ranges[{number}].shard"), ShardId::new(&written.shard))?;
            ranges.push(KeyRange { below: written.below.clone(), shard });
        }
        Some(Rule::Range { ranges })
    }
}

/// `0-511`, or `7`.
fn span(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}
