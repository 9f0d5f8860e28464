//! The history as a chain: each entry carries a hash of what it says and of the hash before it, and the fence row keeps how
//! many there are and the last hash. So a changed, added or removed entry, or a tail that was cut off, is found by whoever
//! walks the chain; not by what one entry says alone.
//!
//! Entries of releases before the chain have no hash; the chain begins behind them.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use shardlift_domain::{Checksum, MigrationId};

use super::rows::time_text;
use super::{HistoryEntry, HistoryEvent};

/// What the canonical form of an entry begins with; another form would get another word.
const FORM: &str = "shardlift-history-1";

/// How far the chain is. Kept beside the fence, and moved by the commit that adds entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// How many entries have a hash.
    pub count: u64,
    /// The hash of the last of them; empty before the first.
    pub hash: String,
}

/// An entry as it stands in the store, believed or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Its place in the order of all things that ever happened.
    pub sequence: u64,
    /// What it says; or why that cannot be read, which no commit of ours has written.
    pub entry: Result<HistoryEntry, String>,
    /// Its hash; an entry from before the chain has none.
    pub hash: Option<String>,
}

/// Which entries are wanted, of all migrations.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The first ones behind this sequence; without it the newest.
    pub after: Option<u64>,
    /// Of all versions of this migration only.
    pub id: Option<MigrationId>,
    /// By this person or coordinator only.
    pub actor: Option<String>,
    /// Of this kind only.
    pub event: Option<HistoryEvent>,
    /// Not older than this.
    pub since: Option<DateTime<Utc>>,
    /// How many at most.
    pub limit: u32,
}

impl Wanted {
    /// Whether this entry is one of them, but for its place.
    pub(in crate::store) fn fits(&self, entry: &HistoryEntry) -> bool {
        self.id.as_ref().is_none_or(|id| entry.is_about(id))
            && self.actor.as_ref().is_none_or(|actor| entry.actor == *actor)
            && self.event.is_none_or(|event| entry.event == event)
            && self.since.is_none_or(|since| entry.at >= since)
    }
}

impl Head {
    /// Adds entries, in order; their hashes.
    pub(in crate::store) fn extend(&mut self, entries: &[HistoryEntry]) -> Vec<String> {
        let add = |entry: &HistoryEntry| {
            self.hash = hash(&self.hash, entry);
            self.count += 1;
            self.hash.clone()
        };
        entries.iter().map(add).collect()
    }
}

/// The hash of an entry that follows this hash.
fn hash(previous: &str, entry: &HistoryEntry) -> String {
    let text = format!("{previous}\n{}", canonical(entry));
    Checksum::of(text.as_bytes()).as_str().to_owned()
}

/// One text for one meaning, whatever a database does to spaces and the order of keys.
fn canonical(entry: &HistoryEntry) -> String {
    let HistoryEntry { migration, event, at, actor, request, detail } = entry;
    let key = migration.as_ref().map(|key| (key.id.as_str(), key.version.0));
    json!([FORM, key, event.as_str(), time_text(*at), actor, request, sorted(detail)]).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<_> = fields.iter().collect();
            keys.sort_unstable_by_key(|(key, _)| key.as_str());
            Value::Object(
                keys.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map<_, _>>(),
            )
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        plain => plain.clone(),
    }
}

/// What a walk along the chain has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// At which entry; `None`: at the end.
    pub sequence: Option<u64>,
    /// What is wrong there.
    pub why: String,
}

/// A walk along the chain, from its first entry to its head.
#[derive(Debug, Default)]
pub struct Walk {
    seen: Head,
    /// Entries from before the chain.
    unchained: u64,
    /// The last entry that was looked at.
    last: Option<u64>,
    /// What the head of the store should be, as it was before the walk.
    head: Head,
    /// Whether the chain had the hash of that head at that place.
    met: bool,
}

impl Walk {
    /// `head`: as the store tells it before its first entry is read.
    pub fn to(head: Head) -> Self {
        let met = head.count == 0 && head.hash.is_empty();
        Self { head, met, ..Self::default() }
    }

    /// Looks at the next entry.
    pub fn step(&mut self, link: &Link) -> Result<(), Broken> {
        self.last = Some(link.sequence);
        let broken = |why: String| Err(Broken { sequence: Some(link.sequence), why });
        let entry = match &link.entry {
            Ok(entry) => entry,
            Err(why) => return broken(format!("it cannot be read: {why}")),
        };
        let Some(told) = &link.hash else {
            if self.seen.count > 0 {
                return broken("it has no hash, though entries before it have one".to_owned());
            }
            self.unchained += 1;
            return Ok(());
        };
        if *told != hash(&self.seen.hash, entry) {
            return broken(
                "its hash does not follow from what it says and the entry before: it was changed, or one before it was removed or added".to_owned(),
            );
        }
        self.seen = Head { count: self.seen.count + 1, hash: told.clone() };
        self.met = self.met || self.seen == self.head;
        Ok(())
    }

    /// The end of the chain was reached.
    pub fn end(&self) -> Result<(), Broken> {
        if self.met {
            return Ok(());
        }
        let (count, seen) = (self.head.count, self.seen.count);
        let why = if seen < count {
            format!(
                "the head says that there are {count} entries with a hash, and {seen} are there: the newest were removed"
            )
        } else {
            format!(
                "entry {count} of the chain has another hash than the head says: chain and head do not belong together"
            )
        };
        Err(Broken { sequence: None, why })
    }

    /// How far it has come.
    pub fn seen(&self) -> &Head {
        &self.seen
    }

    /// How many entries are older than the chain.
    pub fn unchained(&self) -> u64 {
        self.unchained
    }

    /// The last entry that was looked at.
    pub fn last(&self) -> Option<u64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::samples::{entry, stored};
    use super::*;
    use shardlift_domain::Version;

    fn chain(count: u64) -> (Vec<Link>, Head) {
        let key = stored("one", Version::FIRST).migration.key;
        let entries: Vec<_> = (0..count)
            .map(|number| HistoryEntry {
                actor: format!("person {number}"),
                ..entry(&key, HistoryEvent::Paused)
            })
            .collect();
        let mut head = Head::default();
        let hashes = head.extend(&entries);
        let links = (1..).zip(entries).zip(hashes);
        let links =
            links.map(|((sequence, entry), hash)| Link { sequence, entry: Ok(entry), hash: Some(hash) });
        (links.collect(), head)
    }

    fn walked(links: &[Link], head: &Head) -> Result<(), Broken> {
        let mut walk = Walk::to(head.clone());
        links.iter().try_for_each(|link| walk.step(link))?;
        walk.end()
    }

    fn broken_at(links: &[Link], head: &Head) -> Option<u64> {
        walked(links, head).expect_err("it holds").sequence
    }

    #[test]
    fn what_nobody_touched_holds_also_when_it_grows_meanwhile() {
        for count in [0, 1, 5] {
            let (links, head) = chain(count);
            assert_eq!(walked(&links, &head), Ok(()));
        }
        let (_, earlier) = chain(2);
        assert_eq!(walked(&chain(4).0, &earlier), Ok(()));
    }

    #[test]
    fn a_changed_a_removed_and_an_added_entry_are_found_at_their_place() {
        let (links, head) = chain(5);
        let mut changed = links.clone();
        let Ok(entry) = &mut changed[2].entry else { panic!("it is readable") };
        entry.actor = "somebody else".into();
        assert_eq!(broken_at(&changed, &head), Some(3));
        // Also when its own hash was made anew: the next one does not follow.
        let Ok(entry) = &changed[2].entry else { panic!("it is readable") };
        let hash = hash(changed[1].hash.as_deref().expect("a hash"), entry);
        changed[2].hash = Some(hash);
        assert_eq!(broken_at(&changed, &head), Some(4));

        let mut removed = links.clone();
        removed.remove(2);
        assert_eq!(broken_at(&removed, &head), Some(4));
        let mut first_gone = links.clone();
        first_gone.remove(0);
        assert_eq!(broken_at(&first_gone, &head), Some(2));
        let mut added = links.clone();
        added.insert(3, Link { sequence: 9, hash: None, ..links[3].clone() });
        assert_eq!(broken_at(&added, &head), Some(9));
        let mut unreadable = links;
        unreadable[1].entry = Err("no event".into());
        assert_eq!(broken_at(&unreadable, &head), Some(2));
    }

    #[test]
    fn a_tail_that_was_cut_is_found_by_the_head() {
        let (links, head) = chain(5);
        assert_eq!(broken_at(&links[..4], &head), None);
        assert_eq!(broken_at(&[], &head), None);
        let (_, other) = chain(4);
        let wrong = Head { count: 5, ..other };
        assert!(walked(&links, &wrong).expect_err("it holds").why.contains("do not belong together"));
    }

    #[test]
    fn the_chain_begins_behind_entries_that_have_no_hash() {
        let (mut links, head) = chain(3);
        let old = Link { sequence: 0, hash: None, ..links[0].clone() };
        links.insert(0, old);
        let mut walk = Walk::to(head.clone());
        links.iter().for_each(|link| walk.step(link).expect("it holds"));
        assert_eq!((walk.end(), walk.unchained(), walk.last()), (Ok(()), 1, Some(3)));
        // Whoever takes the hash of a whole beginning away is found at the first entry that still has one.
        links[1].hash = None;
        assert_eq!(broken_at(&links, &head), Some(2));
    }

    #[test]
    fn the_order_of_keys_says_nothing_and_every_word_counts() {
        let key = stored("one", Version::FIRST).migration.key;
        let entry = entry(&key, HistoryEvent::Paused);
        let detail =
            |text: &str| HistoryEntry { detail: serde_json::from_str(text).expect("JSON"), ..entry.clone() };
        assert_eq!(
            hash("", &detail(r#"{"a": 1, "b": {"c": 2, "d": 3}}"#)),
            hash("", &detail(r#"{"b":{"d":3,"c":2},"a":1}"#))
        );
        let mut seen = std::collections::BTreeSet::from([hash("", &entry), hash("x", &entry)]);
        for other in [
            HistoryEntry { actor: "x".into(), ..entry.clone() },
            HistoryEntry { migration: None, ..entry.clone() },
            HistoryEntry { request: Some("r".into()), ..entry.clone() },
            HistoryEntry { event: HistoryEvent::Resumed, ..entry.clone() },
            HistoryEntry { at: entry.at + chrono::TimeDelta::microseconds(1), ..entry.clone() },
            detail("{}"),
        ] {
            assert!(seen.insert(hash("", &other)), "{other:?}");
        }
    }
}
