//! The transform tried on a sample, the same for both engines: a few parts of the key space, each a transaction that is
//! rolled back; a part that is refused is halved until it is clear which rows cannot be changed.

use std::time::Duration;

use async_trait::async_trait;
use shardlift_domain::rehearsal::{SampleRow, ShardRehearsal};
use tokio::time::Instant;

use super::{EngineError, EngineResult};

/// How many parts of the key space the sample comes from, if it can be cut.
pub(super) const PARTS: u32 = 8;
/// How long one shard is bothered.
const WITHIN: Duration = Duration::from_secs(20);
/// After so many rows that cannot be changed enough is known.
const ENOUGH_REFUSED: u64 = 32;
/// How often one rehearsal makes way for others that hold the same rows.
const PATIENCE: u32 = 16;

/// The first rows of a part.
pub(super) struct First<P> {
    /// They alone.
    pub(super) part: P,
    /// How many they are.
    pub(super) rows: u32,
    /// What comes after them in the part that was asked for.
    pub(super) rest: Option<P>,
}

/// What a transaction did before it was rolled back.
pub(super) struct Tried {
    pub(super) changed: u64,
    pub(super) took: Duration,
    pub(super) log_bytes: u64,
    pub(super) samples: Vec<SampleRow>,
}

/// One shard as a rehearsal needs it.
#[async_trait]
pub(super) trait Stage: Send {
    /// An interval of keys.
    type Part: Send + Sync;

    /// The first rows of a part, so many at most; `None`: it is empty.
    async fn first(&mut self, part: &Self::Part, rows: u32) -> EngineResult<Option<First<Self::Part>>>;

    /// Runs the batch on these rows and rolls it back, whatever comes of it. Shows so many changed rows at most.
    async fn try_out(&mut self, rows: &First<Self::Part>, shown: usize) -> EngineResult<Tried>;
}

/// Goes over about so many rows, spread over the parts.
pub(super) async fn run<S: Stage>(
    stage: &mut S,
    parts: Vec<S::Part>,
    rows: u32,
    shown: u32,
) -> EngineResult<ShardRehearsal> {
    let each = rows.div_ceil(u32::try_from(parts.len()).unwrap_or(u32::MAX).max(1)).max(1);
    let shown = usize::try_from(shown).unwrap_or(usize::MAX);
    let (deadline, mut patience) = (Instant::now() + WITHIN, PATIENCE);
    let mut found = ShardRehearsal::default();
    let mut open: Vec<(S::Part, u32)> = parts.into_iter().rev().map(|part| (part, each)).collect();
    while let Some((part, rows)) = open.pop() {
        if Instant::now() >= deadline {
            found.measured.cut_short = Some(format!("it had taken {} s", WITHIN.as_secs()));
            break;
        }
        if found.measured.refused() >= ENOUGH_REFUSED {
            found.measured.cut_short = Some(format!("{ENOUGH_REFUSED} rows could not be changed"));
            break;
        }
        let Some(first) = stage.first(&part, rows).await? else { continue };
        match stage.try_out(&first, shown.saturating_sub(found.samples.len())).await {
            Ok(tried) => add(&mut found, &first, tried),
            Err(EngineError::Row(failure)) if first.rows <= 1 => found.measured.refuse(&failure),
            Err(EngineError::Row(_)) => halve(stage, &first, &mut open).await?,
            Err(error) if error.gave_way() && patience > 0 && first.rows > 1 => {
                patience -= 1;
                halve(stage, &first, &mut open).await?;
            }
            Err(error) if error.gave_way() => {
                found.measured.cut_short = Some("others hold rows of the sample".to_owned());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn add<P>(found: &mut ShardRehearsal, first: &First<P>, tried: Tried) {
    found.measured.walked += u64::from(first.rows);
    found.measured.changed += tried.changed;
    found.measured.took += tried.took;
    found.measured.log_bytes += tried.log_bytes;
    found.samples.extend(tried.samples);
}

/// Puts both halves of what was refused before everything else.
async fn halve<S: Stage>(
    stage: &mut S,
    first: &First<S::Part>,
    open: &mut Vec<(S::Part, u32)>,
) -> EngineResult<()> {
    let half = first.rows / 2;
    if let Some(left) = stage.first(&first.part, half).await? {
        open.extend(left.rest.map(|rest| (rest, first.rows - half)));
        open.push((left.part, half));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shardlift_domain::{ErrorCode, Failure};

    use super::*;

    /// Rows with the numbers of an interval; those that are multiples of seven cannot be changed.
    #[derive(Default)]
    struct Numbers {
        tries: u32,
    }

    #[async_trait]
    impl Stage for Numbers {
        type Part = (u32, u32);

        async fn first(
            &mut self,
            &(from, to): &(u32, u32),
            rows: u32,
        ) -> EngineResult<Option<First<(u32, u32)>>> {
            let end = to.min(from + rows);
            let rest = (end < to).then_some((end, to));
            Ok((from < to).then_some(First { part: (from, end), rows: end - from, rest }))
        }

        async fn try_out(&mut self, rows: &First<(u32, u32)>, _shown: usize) -> EngineResult<Tried> {
            self.tries += 1;
            let (from, to) = rows.part;
            if let Some(bad) = (from..to).find(|number| number % 7 == 0) {
                let failure = Failure::new(ErrorCode::RowRejected, "a seventh", "mend it");
                return Err(EngineError::Row(failure.at_key(bad.to_string())));
            }
            let (took, changed) = (Duration::from_millis(1), u64::from(to - from));
            Ok(Tried { changed, took, log_bytes: 10 * changed, samples: Vec::new() })
        }
    }

    #[tokio::test]
    async fn every_row_of_the_sample_is_changed_or_told() {
        let found = run(&mut Numbers::default(), vec![(1, 1_000), (5_001, 6_000)], 100, 0).await;
        let measured = found.expect("it runs").measured;
        assert_eq!((measured.walked, measured.changed), (100, 86));
        assert_eq!(measured.errors.len(), 1);
        assert_eq!((measured.errors[0].rows, &measured.errors[0].keys[0]), (14, &"7".to_owned()));
        assert_eq!(measured.cut_short, None);
    }

    #[tokio::test]
    async fn a_sample_of_nothing_but_errors_ends_early() {
        let found = run(&mut Numbers::default(), vec![(1, 10_000)], 10_000, 0).await;
        let measured = found.expect("it runs").measured;
        assert_eq!(measured.refused(), ENOUGH_REFUSED);
        assert!(measured.cut_short.is_some());
    }
}
