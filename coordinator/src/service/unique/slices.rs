//! The digests' space in slices, and what of one slice several rows have. Pure.

use shardlift_domain::unique::{Counted, Digest};

/// About so many digests of all shards are held at once.
const SLICE: u64 = 500_000;

/// Intervals that cover the space, each with about as many of these digests: they are spread evenly.
pub(super) fn slices(digests: u64) -> impl Iterator<Item = (Digest, Option<Digest>)> {
    let count = Digest::from(digests.div_ceil(SLICE).max(1));
    let width = Digest::MAX / count;
    (0..count).map(move |number| {
        let below = (number + 1 < count).then(|| width * (number + 1));
        (width * number, below)
    })
}

/// The digests of one interval.
#[derive(Default)]
pub(super) struct Slice(Vec<Told>);

/// A digest as one shard has told it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    digest: Digest,
    shard: u32,
    several: bool,
}

impl Slice {
    /// What one shard has.
    pub(super) fn add(&mut self, shard: u32, digests: &[Counted]) {
        let told =
            digests.iter().map(|counted| Told { digest: counted.digest, shard, several: counted.rows > 1 });
        self.0.extend(told);
    }

    /// The digests that several rows have, with the shards that have told of them.
    pub(super) fn twice(mut self) -> Vec<(Digest, Vec<u32>)> {
        self.0.sort_unstable();
        let groups = self.0.chunk_by(|one, other| one.digest == other.digest);
        let several = groups.filter(|group| group.len() > 1 || group.iter().any(|told| told.several));
        several.map(|group| (group[0].digest, group.iter().map(|told| told.shard).collect())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_the_space_without_overlap_and_are_as_many_as_it_takes() {
        for (digests, count) in [(0, 1), (1, 1), (SLICE, 1), (SLICE + 1, 2), (10 * SLICE, 10), (u64::MAX, 3)]
        {
            let all: Vec<_> = slices(digests).take(count.max(3)).collect();
            assert_eq!(all[0].0, 0);
            for pair in all.windows(2) {
                assert_eq!(pair[0].1, Some(pair[1].0), "no gap");
                assert!(pair[0].0 < pair[1].0);
            }
            if digests < u64::MAX {
                assert_eq!((all.len(), all[all.len() - 1].1), (slices(digests).count(), None));
                assert_eq!(slices(digests).count(), count);
            }
        }
    }

    #[test]
    fn what_two_shards_have_or_one_has_twice_is_found_and_nothing_else() {
        let mut slice = Slice::default();
        let counted = |digest, rows| Counted { digest, rows };
        slice.add(1, &[counted(3, 1), counted(5, 1), counted(9, 2)]);
        slice.add(0, &[counted(4, 1), counted(5, 1)]);
        slice.add(2, &[counted(5, 1), counted(10, 1)]);
        assert_eq!(slice.twice(), [(5, vec![0, 1, 2]), (9, vec![1])]);
    }
}
