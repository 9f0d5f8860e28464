//! What was refused to somebody who is known, in the history. However often that is, entries are few: the first one at once, then
//! each after twice the pause of the one before, with how often it was meanwhile.

use std::collections::BTreeMap;

use serde_json::json;
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_domain::principal::Role;
use shardlift_domain::task::Millis;

use super::leader::Leader;
use super::wake::{Asker, Reply};

/// The pause after the first entry of somebody about one verb, and the longest one. Who was quiet for so long begins anew.
const FIRST: Millis = 60_000;
const LONGEST: Millis = 24 * 60 * 60_000;
/// So many are told apart at once. What is refused beyond them is in the log alone.
const MOST: usize = 1000;

/// Something that was refused to somebody who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The method or route.
    pub verb: String,
    /// Why.
    pub code: ErrorCode,
    /// What they are, if it is for that.
    pub role: Option<Role>,
    /// The shard that is none of their business, if it is for that.
    pub shard: Option<ShardId>,
    /// How often.
    pub times: u32,
}

/// An entry to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    migration: Option<MigrationKey>,
    by: Asker,
    newest: Refusal,
    times: u64,
}

/// Whose, and what.
type Of = (String, String, Option<MigrationKey>);

struct Counted {
    newest: (Asker, Refusal),
    /// Since the last entry.
    times: u64,
    heard: Millis,
    /// The next entry comes no earlier.
    next: Millis,
    pause: Millis,
}

/// Those that were heard of lately.
#[derive(Default)]
pub(super) struct Refusals(BTreeMap<Of, Counted>);

impl Refusals {
    fn hear(&mut self, now: Millis, migration: Option<MigrationKey>, by: Asker, refusal: Refusal) {
        let of = (by.name.clone(), refusal.verb.clone(), migration);
        let (times, room) = (u64::from(refusal.times), self.0.len() < MOST);
        match self.0.get_mut(&of) {
            Some(counted) => {
                (counted.newest, counted.heard) = ((by, refusal), now);
                counted.times += times;
            }
            None if room => {
                let counted = Counted { newest: (by, refusal), times, heard: now, next: now, pause: FIRST };
                self.0.insert(of, counted);
            }
            None => {}
        }
    }

    /// Those whose time has come.
    fn due(&mut self, now: Millis) -> Vec<Entry> {
        self.0.retain(|_, counted| counted.times > 0 || now.saturating_sub(counted.heard) < LONGEST);
        let mut due = Vec::new();
        for (of, counted) in self.0.iter_mut().filter(|(_, counted)| counted.times > 0 && counted.next <= now)
        {
            due.push(counted.entry(of));
            counted.next = now.saturating_add(counted.pause);
            counted.pause = (2 * counted.pause).min(LONGEST);
        }
        due
    }

    /// All that no entry tells yet.
    fn rest(&mut self) -> Vec<Entry> {
        let untold = self.0.iter_mut().filter(|(_, counted)| counted.times > 0);
        untold.map(|(of, counted)| counted.entry(of)).collect()
    }
}

impl Counted {
    fn entry(&mut self, (_, _, migration): &Of) -> Entry {
        let (by, newest) = self.newest.clone();
        Entry { migration: migration.clone(), by, newest, times: std::mem::take(&mut self.times) }
    }
}

impl Leader {
    /// Something was refused to somebody at a door.
    pub(super) fn on_refused(&mut self, refusal: Refusal, by: Asker, reply: Reply<()>) {
        self.refused(None, by, refusal);
        self.outbox.tell(reply, Ok(()));
    }

    /// Something was refused to somebody.
    pub(super) fn refused(&mut self, migration: Option<MigrationKey>, by: Asker, refusal: Refusal) {
        self.refusals.hear(self.clock.millis(), migration, by, refusal);
        self.note_refusals();
    }

    /// With the next commit, what is due.
    pub(super) fn note_refusals(&mut self) {
        let due = self.refusals.due(self.clock.millis());
        self.note_all(due);
    }

    /// With the next commit, all of them: this leader hands over.
    pub(super) fn note_all_refusals(&mut self) {
        let rest = self.refusals.rest();
        self.note_all(rest);
    }

    fn note_all(&mut self, entries: Vec<Entry>) {
        for Entry { migration, by, newest: Refusal { verb, code, role, shard, .. }, times } in entries {
            let role = role.map(Role::as_str);
            let detail = json!({ "verb": verb, "code": code, "role": role, "shard": shard, "times": times });
            self.book.note_refusal(migration.as_ref(), detail, &by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(verb: &str, times: u32) -> Refusal {
        let role = Some(Role::Viewer);
        Refusal { verb: verb.to_owned(), code: ErrorCode::AccessForbidden, role, shard: None, times }
    }

    fn told(entries: Vec<Entry>) -> Vec<(String, String, u64)> {
        entries.into_iter().map(|entry| (entry.by.name, entry.newest.verb, entry.times)).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_together_ever_more_seldom() {
        let mut refusals = Refusals::default();
        let one = |verb: &str, times| ("mira".to_owned(), verb.to_owned(), times);
        refusals.hear(0, None, "mira".into(), refusal("start", 1));
        refusals.hear(0, None, "mira".into(), refusal("cancel", 2));
        assert_eq!(told(refusals.due(0)), [one("cancel", 2), one("start", 1)]);
        refusals.hear(1, None, "mira".into(), refusal("start", 3));
        refusals.hear(2, None, "mira".into(), refusal("start", 4));
        assert!(refusals.due(FIRST - 1).is_empty());
        assert_eq!(told(refusals.due(FIRST)), [one("start", 7)]);
        refusals.hear(FIRST, None, "mira".into(), refusal("start", 1));
        assert!(refusals.due(3 * FIRST - 1).is_empty(), "twice as long");
        assert_eq!(told(refusals.rest()), [one("start", 1)], "but all at the end of a leader");
        assert!(refusals.due(3 * FIRST).is_empty(), "and nothing twice");
    }

    #[test]
    fn whoever_never_stops_fills_nothing() {
        let mut refusals = Refusals::default();
        let (mut entries, mut times) = (0, 0);
        for second in 0..3 * 24 * 60 * 60 {
            refusals.hear(second * 1000, None, "mira".into(), refusal("start", 1));
            let due = told(refusals.due(second * 1000));
            entries += due.len();
            times += due.iter().map(|(_, _, times)| times).sum::<u64>();
        }
        assert!(entries < 20, "{entries} entries in three days");
        assert!(times > 100_000, "{times} of them are counted");
        for number in 0..2 * MOST {
            refusals.hear(0, None, format!("p{number}").as_str().into(), refusal("start", 1));
        }
        assert_eq!(refusals.0.len(), MOST);
        // A quiet day later everybody begins anew.
        assert_eq!(refusals.due(6 * LONGEST).len(), MOST);
        assert!(refusals.due(6 * LONGEST).is_empty() && refusals.0.is_empty());
    }
}
