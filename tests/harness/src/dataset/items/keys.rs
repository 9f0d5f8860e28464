//! Keys of the PostgreSQL table `items`, as text: the loader's, and fresh ones for the application.

use super::Random;

/// Parts of a composite key are joined by this in its text form; no key contains it.
pub(crate) const KEY_SEPARATOR: char = '\u{1f}';

/// What the primary key of `items` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// `id bigint`: 2, 4, 6, …; the application inserts odd ones in between and beyond.
    Bigint,
    /// `id bigint`: the smallest and the largest there are, negative ones, 0, and large gaps.
    BigintSparse,
    /// `id uuid`, in random order.
    Uuid,
    /// `(region text, number int)`: few regions, one of them empty; numbers repeat between regions.
    CompositeTextInt,
    /// `id text COLLATE "und-x-icu"`: order by the rules of ICU, where `a < A < ä < b`, unlike the order of
    /// bytes.
    TextIcu,
}

/// Name and type of each column of the key, in key order.
pub(crate) fn key_columns(kind: KeyKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        KeyKind::Bigint | KeyKind::BigintSparse => &[("id", "bigint")],
        KeyKind::Uuid => &[("id", "uuid")],
        KeyKind::CompositeTextInt => &[("region", "text"), ("number", "integer")],
        KeyKind::TextIcu => &[("id", "text")],
    }
}

const REGIONS: [&str; 8] = ["", "EU", "eu", "eu-west", "É", "zürich", "東京", "z'\"\\"];
const LETTERS: [&str; 12] = ["a", "A", "ä", "Ä", "b", "-", "_", "ß", "ss", "あ", "👍", " "];

impl KeyKind {
    /// The key of the loader's item `number`; different for each number.
    pub(crate) fn loaded(self, number: u64) -> String {
        match self {
            Self::Bigint => ((number + 1) * 2).to_string(),
            Self::BigintSparse => sparse(number).to_string(),
            Self::Uuid => uuid(&mut Random::new(number, 0x0DD)),
            Self::CompositeTextInt => {
                let region = REGIONS[(number % REGIONS.len() as u64) as usize];
                format!("{region}{KEY_SEPARATOR}{}", (number / REGIONS.len() as u64) as i32 - 3)
            }
            Self::TextIcu => format!("{}{number}", LETTERS[(number % LETTERS.len() as u64) as usize]),
        }
    }

    /// A key that the loader never uses, anywhere among or around its own.
    pub(crate) fn fresh(self, random: &mut Random, rows: u64) -> String {
        match self {
            Self::Bigint => (random.below(rows.max(1) * 2 + 200) * 2 + 1).to_string(),
            Self::BigintSparse => {
                let among = random.below(rows.max(1)) as i64 * SPREAD - OFFSET;
                (among + 2 * random.below(SPREAD as u64 / 2) as i64 + 1).to_string()
            }
            Self::Uuid => uuid(random),
            Self::CompositeTextInt => {
                format!(
                    "{}{KEY_SEPARATOR}{}",
                    random.pick(&REGIONS),
                    1_000_000_000 + random.below(1 << 30) as i32
                )
            }
            Self::TextIcu => format!("{}{}~", random.pick(&LETTERS), random.below(1 << 40)),
        }
    }
}

/// Distance between neighbours in the bulk of the sparse keys, and where the bulk begins below zero. Both
/// are even, so an odd key is always free.
const SPREAD: i64 = 1_000;
const OFFSET: i64 = 500_500;

fn sparse(number: u64) -> i64 {
    match number {
        0 => i64::MIN,
        1 => i64::MAX,
        2 => i64::MIN + 1,
        3 => i64::MAX - 1,
        4 => 0,
        _ => (number as i64 - 5) * SPREAD - OFFSET,
    }
}

fn uuid(random: &mut Random) -> String {
    uuid::Uuid::from_bytes(random.bytes16()).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{KeyKind, Random};

    const KINDS: [KeyKind; 5] =
        [KeyKind::Bigint, KeyKind::BigintSparse, KeyKind::Uuid, KeyKind::CompositeTextInt, KeyKind::TextIcu];

    #[test]
    fn every_loaded_key_is_another_and_no_fresh_key_meets_one() {
        for kind in KINDS {
            let loaded: BTreeSet<String> = (0..2_000).map(|number| kind.loaded(number)).collect();
            assert_eq!(loaded.len(), 2_000, "{kind:?}");
            let mut random = Random::new(1, 1);
            for _ in 0..2_000 {
                let fresh = kind.fresh(&mut random, 2_000);
                assert!(!loaded.contains(&fresh), "{kind:?}: {fresh}");
            }
        }
    }

    #[test]
    fn sparse_keys_hold_zero_and_both_ends() {
        let keys: BTreeSet<String> = (0..5).map(|number| KeyKind::BigintSparse.loaded(number)).collect();
        for wanted in [i64::MIN, 0, i64::MAX] {
            assert!(keys.contains(&wanted.to_string()), "{wanted}");
        }
    }
}
