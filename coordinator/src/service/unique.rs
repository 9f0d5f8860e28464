//! unique: the digests that all shards have collected are compared by whoever leads, slice by slice of the digests' space, so that
//! nothing grows with the number of rows or shards. Then, and whenever a migration ends, they are removed. What is to be done
//! is stored; so wherever this ends, the next leader begins it again.

mod slices;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use shardlift_domain::spec::{Spec, SpecBody, parse};
use shardlift_domain::unique::{
    Collected, Counted, Digest, DigestSlice, KeyedDigest, UniqueAnswer, UniqueAsk, UniqueRequest,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::slices::{Slice, slices};
use super::Services;
use super::answers::{Within, misunderstood};
use crate::orchestrator::Comparing;

/// How often it is looked what is to be done, when nothing else happens.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long is waited after a look at least: changes come by the hundred.
const PAUSE: Duration = Duration::from_millis(300);
/// How long is waited after a shard could not be asked.
const AGAIN: Duration = Duration::from_secs(2);
/// Shards that are asked at once.
const AT_ONCE: usize = 16;
/// Digests of one answer: it must fit into one message.
const PAGE: u32 = 20_000;
/// Digests of which it is asked at once whether rows still have them.
const CANDIDATES: usize = 50;
/// Groups of rows that are named.
const NAMED: usize = 10;
/// Rows of a group that are named.
const ROWS: usize = 4;
/// How often a shard that cannot be asked is asked again before the comparison is begun anew.
const PATIENCE: u32 = 30;
/// How long one answer of a shard may take.
const ANSWER_WITHIN: Within = Within {
    time: Duration::from_secs(60),
    lacks: "gave no answer",
    next: "look whether its server is overloaded; it is asked again",
};

/// Rows that are the same.
struct Group {
    check: u32,
    rows: Vec<(ShardId, String)>,
}

/// Groups that were found; all of them, or only the first.
#[derive(Default)]
struct Groups {
    named: Vec<Group>,
    more: bool,
}

/// Why the shards were not compared.
enum Trouble {
    /// It passes; it is tried again.
    Passing(Failure),
    /// A person has to see to it.
    Lasting(Failure),
    /// Nobody wants it any more.
    Over,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        if failure.retryable() { Trouble::Passing(failure) } else { Trouble::Lasting(failure) }
    }
}

impl Services {
    /// Compares what is to be compared, and removes what is not needed any more, until the token is cancelled. While this
    /// coordinator does not lead, nothing happens.
    pub async fn compare(self, shutdown: CancellationToken) {
        let mut changes = self.orchestrator.changes();
        loop {
            changes.mark_unchanged();
            let Some(whole) = shutdown.run_until_cancelled(self.compare_once()).await else { return };
            let news = async {
                tokio::time::sleep(if whole { PAUSE } else { AGAIN }).await;
                if whole {
                    // A closed channel is the end of the orchestrator: the token follows.
                    let _ = timeout(LOOK_EVERY, changes.changed()).await;
                }
            };
            if shutdown.run_until_cancelled(news).await.is_none() {
                return;
            }
        }
    }

    /// Whether all is done that is to be, as far as this coordinator is asked.
    async fn compare_once(&self) -> bool {
        // Another one leads otherwise, and looks.
        let Ok(open) = self.orchestrator.comparing().await else { return true };
        let mut whole = true;
        for open in open {
            let migration = open.migration.clone();
            let done = match open.round {
                Some(round) => self.compare_shards(&open, round).await,
                None => self.clear_shards(&open).await,
            };
            if let Err(failure) = done {
                whole = false;
                tracing::info!(%migration, code = %failure.code, message = %failure.message, "shards are not compared, or not cleared; it is tried again");
            }
        }
        whole
    }

    async fn compare_shards(&self, open: &Comparing, round: u32) -> Result<(), Failure> {
        let migration = open.migration.clone();
        let found = match self.groups(open).await {
            Ok(groups) => broken(open, &groups),
            Err(Trouble::Passing(why)) => return Err(why),
            Err(Trouble::Over) => return Ok(()),
            Err(Trouble::Lasting(why)) => Some(incomparable(open, &why)),
        };
        self.orchestrator.compared(migration, round, found).await
    }

    /// The groups of rows that are the same, over all slices.
    async fn groups(&self, open: &Comparing) -> Result<Groups, Trouble> {
        let collected = self.summaries(open).await?;
        let mut told = vec![0; collected.len()];
        let mut groups = Groups::default();
        for interval in slices(collected.iter().map(|collected| collected.digests).sum()) {
            self.waits(open, None).await?;
            let slice = self.slice(open, interval, &mut told).await?;
            for candidates in slice.twice().chunks(CANDIDATES) {
                self.name(open, candidates, &mut groups).await?;
                if groups.more {
                    return Ok(groups);
                }
            }
        }
        let whole = collected.iter().zip(&told).map(|(collected, told)| collected.digests == *told);
        match open.shards.iter().zip(whole).find(|(_, whole)| !whole) {
            Some((shard, _)) if groups.named.is_empty() => Err(Trouble::Lasting(incomplete(shard))),
            _ => Ok(groups),
        }
    }

    /// Tells what it waits for, if for anything; ends it where nobody wants it any more.
    async fn waits(&self, open: &Comparing, why: Option<Failure>) -> Result<(), Trouble> {
        let wanted = self.orchestrator.waiting(open.migration.clone(), open.round, why).await?;
        if wanted { Ok(()) } else { Err(Trouble::Over) }
    }

    /// What each shard has collected: of the same form everywhere.
    async fn summaries(&self, open: &Comparing) -> Result<Vec<Collected>, Trouble> {
        let asked = open.shards.iter().map(async |shard| {
            match self.patiently(open, shard, UniqueAsk::Summary).await? {
                UniqueAnswer::Summary(collected) => Ok(collected),
                _ => Err(Trouble::from(misunderstood(shard))),
            }
        });
        let asked: Vec<_> = asked.collect();
        let collected: Vec<Collected> = futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let other = |first: &Collected| collected.iter().position(|other| other.form != first.form);
        match collected.first().and_then(other) {
            Some(other) => Err(Trouble::Lasting(different(open, other, &collected))),
            None => Ok(collected),
        }
    }

    /// The digests of all shards in an interval; how many rows they tell of is added up.
    async fn slice(
        &self,
        open: &Comparing,
        interval: (Digest, Option<Digest>),
        told: &mut [u64],
    ) -> Result<Slice, Trouble> {
        let mut slice = Slice::default();
        let pages = (0_u32..).zip(&open.shards).map(async |(number, shard)| {
            Ok::<_, Trouble>((number, self.digests(open, shard, interval).await?))
        });
        let pages: Vec<_> = pages.collect();
        let mut pages = futures::stream::iter(pages).buffer_unordered(AT_ONCE);
        while let Some(page) = pages.next().await {
            let (number, digests) = page?;
            if let Some(told) = usize::try_from(number).ok().and_then(|number| told.get_mut(number)) {
                *told += digests.iter().map(|counted| counted.rows).sum::<u64>();
            }
            slice.add(number, &digests);
        }
        Ok(slice)
    }

    /// The digests of one shard in an interval, some at a time.
    async fn digests(
        &self,
        open: &Comparing,
        shard: &ShardId,
        (mut from, below): (Digest, Option<Digest>),
    ) -> Result<Vec<Counted>, Trouble> {
        let mut digests = Vec::new();
        loop {
            let ask = UniqueAsk::Slice(DigestSlice { from, below, limit: PAGE });
            let UniqueAnswer::Slice(page) = self.patiently(open, shard, ask).await? else {
                return Err(misunderstood(shard).into());
            };
            let full = page.len() >= PAGE as usize;
            let next = page.last().and_then(|last| last.digest.checked_add(1));
            digests.extend(page);
            match next.filter(|_| full) {
                Some(next) => from = next,
                None => return Ok(digests),
            }
        }
    }

    /// Asks every shard that has told of them which rows have these digests now, and keeps those that several rows have.
    async fn name(
        &self,
        open: &Comparing,
        candidates: &[(Digest, Vec<u32>)],
        groups: &mut Groups,
    ) -> Result<(), Trouble> {
        let asked = (0_u32..).zip(&open.shards).map(async |(number, shard)| {
            let has = |(digest, shards): &(Digest, Vec<u32>)| shards.contains(&number).then_some(*digest);
            let digests: Vec<Digest> = candidates.iter().filter_map(has).collect();
            if digests.is_empty() {
                return Ok(Vec::new());
            }
            match self.patiently(open, shard, UniqueAsk::Rows(digests)).await? {
                UniqueAnswer::Rows(found) => Ok(found.into_iter().map(|row| (shard, row)).collect()),
                _ => Err(Trouble::from(misunderstood(shard))),
            }
        });
        let asked: Vec<_> = asked.collect();
        let rows: Vec<Vec<(&ShardId, KeyedDigest)>> =
            futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let rows: Vec<_> = rows.iter().flatten().collect();
        for (digest, _) in candidates {
            let same: Vec<_> = rows.iter().filter(|(_, row)| row.digest == *digest).collect();
            let Some((_, first)) = same.first().filter(|_| same.len() > 1) else { continue };
            if groups.named.len() == NAMED {
                groups.more = true;
                return Ok(());
            }
            let rows = same.iter().map(|(shard, row)| ((*shard).clone(), row.key.clone())).collect();
            groups.named.push(Group { check: first.check, rows });
        }
        Ok(())
    }

    /// Several at once; a shard that cannot be reached does not keep the others from being cleared.
    async fn clear_shards(&self, open: &Comparing) -> Result<(), Failure> {
        let clears: Vec<_> = open.shards.iter().map(|shard| self.clear_shard(open, shard)).collect();
        let mut clears = futures::stream::iter(clears).buffer_unordered(AT_ONCE);
        let mut trouble = None;
        while let Some(cleared) = clears.next().await {
            trouble = cleared.err().or(trouble);
        }
        match trouble {
            Some(failure) => Err(failure),
            None => self.orchestrator.cleared(open.migration.clone()).await,
        }
    }

    async fn clear_shard(&self, open: &Comparing, shard: &ShardId) -> Result<(), Failure> {
        loop {
            match self.ask(open, shard, UniqueAsk::Clear).await? {
                UniqueAnswer::Cleared(true) => {}
                UniqueAnswer::Cleared(false) => return Ok(()),
                _ => return Err(misunderstood(shard)),
            }
        }
    }

    /// A shard that cannot be asked keeps the comparison waiting for a while, and the status says so.
    async fn patiently(
        &self,
        open: &Comparing,
        shard: &ShardId,
        ask: UniqueAsk,
    ) -> Result<UniqueAnswer, Trouble> {
        let mut tries = 0;
        loop {
            match self.ask(open, shard, ask.clone()).await {
                Err(failure) if failure.retryable() && tries < PATIENCE => {
                    self.waits(open, Some(failure)).await?;
                    tries += 1;
                    tokio::time::sleep(AGAIN).await;
                }
                answer => return Ok(answer?),
            }
        }
    }

    async fn ask(&self, open: &Comparing, shard: &ShardId, ask: UniqueAsk) -> Result<UniqueAnswer, Failure> {
        let request = UniqueRequest { migration: open.migration.clone(), file: open.file.clone(), ask };
        ANSWER_WITHIN.answered(shard, self.orchestrator.unique(shard.clone(), request)).await
    }
}

/// What speaks against uniqueness, if anything does.
fn broken(open: &Comparing, groups: &Groups) -> Option<Failure> {
    if groups.named.is_empty() {
        return None;
    }
    let fields = fields(open);
    let told: Vec<String> = groups.named.iter().map(|group| told(group, &fields)).collect();
    let more = if groups.more { "; and more" } else { "" };
    let message = format!("verification found: unique: {}{more}", told.join("; "));
    Some(Failure::new(ErrorCode::VerifyMismatch, message, next(open)).in_migration(&open.migration))
}

/// `row 7 of shard a and row 9 of shard b have the same tenant_id, external_id`.
fn told(group: &Group, fields: &[String]) -> String {
    let mut rows: Vec<String> =
        group.rows.iter().take(ROWS).map(|(shard, key)| format!("row {key} of shard {shard}")).collect();
    let more = group.rows.len().saturating_sub(ROWS);
    if more > 0 {
        rows.push(format!("{more} more"));
    }
    let same = usize::try_from(group.check).ok().and_then(|check| fields.get(check));
    format!("{} have the same {}", rows.join(" and "), same.map_or("fields", String::as_str))
}

/// The fields of each check. The spec was read when it was submitted.
fn fields(open: &Comparing) -> Vec<String> {
    match parse(&open.file) {
        Ok(Spec { body: SpecBody::Data(data), .. }) => data.unique().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

fn next(open: &Comparing) -> &'static str {
    if open.undoable {
        "mend the rows; then `resume` compares all shards anew, `rollback` takes back what was changed, `cancel` leaves it as \
         it is"
    } else {
        "mend the rows; then `resume` compares all shards anew, `cancel` leaves it as it is"
    }
}

/// The shards cannot be compared, so nobody knows.
fn incomparable(open: &Comparing, why: &Failure) -> Failure {
    let message = format!("the shards cannot be compared: {}", why.message);
    Failure::new(ErrorCode::VerifyIncomparable, message, why.next.clone()).in_migration(&open.migration)
}

fn different(open: &Comparing, other: usize, collected: &[Collected]) -> Failure {
    let message = format!(
        "on shard {} the fields are of the kinds {}, on shard {} of {}",
        open.shards[0], collected[0].form, open.shards[other], collected[other].form
    );
    Failure::new(
        ErrorCode::VerifyIncomparable,
        message,
        "give the columns the same type on every shard, then resume; or cancel",
    )
}

fn incomplete(shard: &ShardId) -> Failure {
    Failure::new(
        ErrorCode::VerifyIncomparable,
        format!("shard {shard} has told of fewer digests than it has collected: somebody has removed some"),
        "resume: every shard collects anew",
    )
}
