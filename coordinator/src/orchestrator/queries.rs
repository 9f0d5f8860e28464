//! Questions to workers that wait for their answers. Volatile: whoever asked asks again. What a plan asks waits for a worker,
//! too: facts change nothing, so they may be asked twice.

use std::collections::BTreeMap;
use std::time::Duration;

use shardlift_domain::backup::{BackupAnswer, BackupRequest};
use shardlift_domain::capability::{ANEW, ATOMIC, BACKUP, DIGEST, PURGE, REHEARSE, REPAIR, UNDO, UNIQUE};
use shardlift_domain::facts::{
    ConflictsPage, ConflictsRequest, FactsRequest, PlacementPage, PlacementRequest, Purged, ShardFacts,
};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationKey, ShardId, WorkerId};
use shardlift_domain::mismatch::{MismatchesPage, MismatchesRequest};
use shardlift_domain::prepared::PreparedTransaction;
use shardlift_domain::quarantine::{QuarantineAnswer, QuarantineRequest};
use shardlift_domain::rehearsal::{RehearsalRequest, ShardRehearsal};
use shardlift_domain::repair::{RepairPage, RepairRequest};
use shardlift_domain::spec::SpecBody;
use shardlift_domain::task::Millis;
use shardlift_domain::unique::{UniqueAnswer, UniqueRequest};

use super::fleet::{Order, SessionId};
use super::leader::{Leader, answer};
use super::wake::Reply;

/// How long a shard whose facts are asked for may be without a worker: one that was just started again, or that follows a new
/// leader, is back sooner.
const NOBODY_WITHIN: Duration = Duration::from_secs(5);

/// A question for facts, kept whole until it is answered: it is asked again when its worker goes away under it.
struct FactsQuestion {
    shard: ShardId,
    request: FactsRequest,
    reply: Reply<ShardFacts>,
}

/// Who waits.
enum Asker {
    Facts(FactsQuestion),
    Placement(Reply<PlacementPage>),
    Quarantine(Reply<QuarantineAnswer>),
    Conflicts(Reply<ConflictsPage>),
    Prepared(Reply<Vec<PreparedTransaction>>),
    Mismatches(Reply<MismatchesPage>),
    Purge(Reply<Purged>),
    Backup(Reply<BackupAnswer>),
    Rehearsal(Reply<ShardRehearsal>),
    Repair(Reply<RepairPage>),
    Unique(Reply<UniqueAnswer>),
}

/// What a worker answered.
pub(super) enum Answer {
    Facts(Result<ShardFacts, Failure>),
    Placement(Result<PlacementPage, Failure>),
    Quarantine(Result<QuarantineAnswer, Failure>),
    Conflicts(Result<ConflictsPage, Failure>),
    Prepared(Result<Vec<PreparedTransaction>, Failure>),
    Mismatches(Result<MismatchesPage, Failure>),
    Purged(Result<Purged, Failure>),
    Backup(Result<BackupAnswer, Failure>),
    Rehearsed(Result<ShardRehearsal, Failure>),
    Repaired(Result<RepairPage, Failure>),
    Unique(Result<UniqueAnswer, Failure>),
}

impl Asker {
    fn gone(&self) -> bool {
        match self {
            Asker::Facts(question) => question.reply.is_closed(),
            Asker::Placement(reply) => reply.is_closed(),
            Asker::Quarantine(reply) => reply.is_closed(),
            Asker::Conflicts(reply) => reply.is_closed(),
            Asker::Prepared(reply) => reply.is_closed(),
            Asker::Mismatches(reply) => reply.is_closed(),
            Asker::Purge(reply) => reply.is_closed(),
            Asker::Backup(reply) => reply.is_closed(),
            Asker::Rehearsal(reply) => reply.is_closed(),
            Asker::Repair(reply) => reply.is_closed(),
            Asker::Unique(reply) => reply.is_closed(),
        }
    }

    fn refuse(self, failure: Failure) {
        match self {
            Asker::Facts(question) => answer(question.reply, Err(failure)),
            Asker::Placement(reply) => answer(reply, Err(failure)),
            Asker::Quarantine(reply) => answer(reply, Err(failure)),
            Asker::Conflicts(reply) => answer(reply, Err(failure)),
            Asker::Prepared(reply) => answer(reply, Err(failure)),
            Asker::Mismatches(reply) => answer(reply, Err(failure)),
            Asker::Purge(reply) => answer(reply, Err(failure)),
            Asker::Backup(reply) => answer(reply, Err(failure)),
            Asker::Rehearsal(reply) => answer(reply, Err(failure)),
            Asker::Repair(reply) => answer(reply, Err(failure)),
            Asker::Unique(reply) => answer(reply, Err(failure)),
        }
    }
}

/// The open questions.
#[derive(Default)]
pub(super) struct Queries {
    open: BTreeMap<u64, (SessionId, Asker)>,
    asked: u64,
    /// Those whose shard nobody serves at the moment, with the end of the wait.
    waiting: Vec<(Millis, FactsQuestion)>,
}

impl Queries {
    /// Forgets questions whose askers have gone.
    pub(super) fn forget_unheard(&mut self) {
        self.open.retain(|_, (_, asker)| !asker.gone());
        self.waiting.retain(|(_, question)| !question.reply.is_closed());
    }

    fn add(&mut self, session: SessionId, asker: Asker) -> u64 {
        self.asked += 1;
        self.open.insert(self.asked, (session, asker));
        self.asked
    }
}

impl Leader {
    pub(super) fn ask_facts(&mut self, shard: ShardId, request: FactsRequest, reply: Reply<ShardFacts>) {
        self.ask_facts_soon(FactsQuestion { shard, request, reply });
    }

    /// Asks now, or as soon as somebody serves the shard.
    fn ask_facts_soon(&mut self, question: FactsQuestion) {
        let within = u64::try_from(NOBODY_WITHIN.as_millis()).unwrap_or(u64::MAX);
        self.ask_facts_until(self.clock.millis().saturating_add(within), question);
    }

    fn ask_facts_until(&mut self, end: Millis, question: FactsQuestion) {
        match self.somebody(&question.shard) {
            Ok((worker, session)) => {
                let (shard, request) = (question.shard.clone(), question.request.clone());
                let query = self.queries.add(session, Asker::Facts(question));
                self.order(&worker, Order::AskFacts { query, shard, request });
            }
            Err(problem) if problem.code == ErrorCode::ShardNoWorker && self.clock.millis() < end => {
                self.queries.waiting.push((end, question));
            }
            Err(problem) => self.outbox.tell(question.reply, Err(problem)),
        }
    }

    /// Time has passed: workers may have come, and waits may be over.
    pub(super) fn ask_waiting(&mut self) {
        for (end, question) in std::mem::take(&mut self.queries.waiting) {
            self.ask_facts_until(end, question);
        }
    }

    pub(super) fn ask_placement(
        &mut self,
        shard: ShardId,
        request: PlacementRequest,
        reply: Reply<PlacementPage>,
    ) {
        match self.somebody(&shard) {
            Ok((worker, session)) => {
                let query = self.queries.add(session, Asker::Placement(reply));
                self.order(&worker, Order::AskPlacement { query, shard, request });
            }
            Err(problem) => self.outbox.tell(reply, Err(problem)),
        }
    }

    pub(super) fn ask_quarantine(
        &mut self,
        shard: ShardId,
        request: QuarantineRequest,
        reply: Reply<QuarantineAnswer>,
    ) {
        match self.somebody(&shard) {
            Ok((worker, session)) => {
                let query = self.queries.add(session, Asker::Quarantine(reply));
                self.order(&worker, Order::AskQuarantine { query, shard, request });
            }
            Err(problem) => self.outbox.tell(reply, Err(problem)),
        }
    }

    pub(super) fn ask_conflicts(
        &mut self,
        shard: ShardId,
        request: ConflictsRequest,
        reply: Reply<ConflictsPage>,
    ) {
        match self.somebody_who(&shard, UNDO) {
            Ok((worker, session)) => {
                let query = self.queries.add(session, Asker::Conflicts(reply));
                self.order(&worker, Order::AskConflicts { query, shard, request });
            }
            Err(problem) => self.outbox.tell(reply, Err(problem)),
        }
    }

    pub(super) fn ask_prepared(&mut self, shard: ShardId, all: bool, reply: Reply<Vec<PreparedTransaction>>) {
        match self.somebody(&shard) {
            Ok((worker, _)) if !self.fleet.get(&worker).is_some_and(|worker| worker.knows.has(ATOMIC)) => {
                let message =
                    format!("worker {worker} of shard {shard} is of a release that prepares nothing");
                let failure = Failure::new(ErrorCode::WorkerUnfit, message, "upgrade it, then ask again");
                self.outbox.tell(reply, Err(failure.on_shard(&shard)));
            }
            Ok((worker, session)) => {
                let query = self.queries.add(session, Asker::Prepared(reply));
                self.order(&worker, Order::AskPrepared { query, shard, all });
            }
            Err(problem) => self.outbox.tell(reply, Err(problem)),
        }
    }

    pub(super) fn ask_mismatches(
        &mut self,
        shard: ShardId,
        request: MismatchesRequest,
        reply: Reply<MismatchesPage>,
    ) {
        let page = self.book.page(&request.migration);
        let digest =
            matches!(page.map(|page| &page.spec.body), Some(SpecBody::Data(data)) if data.known_by_digest());
        match self.somebody_who(&shard, if digest { DIGEST } else { ANEW }) {
            Ok((worker, session)) => {
                let query = self.queries.add(session, Asker::Mismatches(reply));
                self.order(&worker, Order::AskMismatches { query, shard, request });
            }
            Err(problem) => self.outbox.tell(reply, Err(problem)),
        }
    }

    pub(super) fn ask_purge(&mut self, shard: ShardId, migration: MigrationKey, reply: Reply<Purged>) {
        match self.somebody_who(&shard, PURGE) {
            Ok((worker, session)) => {
                let query = self.queries.add(session, Asker::Purge(reply));
                self.order(&worker, Order::AskPurge { query, shard, migration });
            }
            Err(problem) => self.outbox.tell(reply, Err(problem)),
        }
    }

    pub(super) fn ask_backup(&mut self, shard: ShardId, request: BackupRequest, reply: Reply<BackupAnswer>) {
        match self.somebody_who(&shard, BACKUP) {
            Ok((worker, session)) => {
                let query = self.queries.add(session, Asker::Backup(reply));
                self.order(&worker, Order::AskBackup { query, shard, request });
            }
            Err(problem) => self.outbox.tell(reply, Err(problem)),
        }
    }

    pub(super) fn ask_rehearsal(
        &mut self,
        shard: ShardId,
        request: RehearsalRequest,
        reply: Reply<ShardRehearsal>,
    ) {
        match self.somebody_who(&shard, REHEARSE) {
            Ok((worker, session)) => {
                let query = self.queries.add(session, Asker::Rehearsal(reply));
                self.order(&worker, Order::AskRehearsal { query, shard, request });
            }
            Err(problem) => self.outbox.tell(reply, Err(problem)),
        }
    }

    pub(super) fn ask_repair(&mut self, shard: ShardId, request: RepairRequest, reply: Reply<RepairPage>) {
        match self.somebody_who(&shard, REPAIR) {
            Ok((worker, session)) => {
                let query = self.queries.add(session, Asker::Repair(reply));
                self.order(&worker, Order::AskRepair { query, shard, request });
            }
            Err(problem) => self.outbox.tell(reply, Err(problem)),
        }
    }

    pub(super) fn ask_unique(&mut self, shard: ShardId, request: UniqueRequest, reply: Reply<UniqueAnswer>) {
        match self.somebody_who(&shard, UNIQUE) {
            Ok((worker, session)) => {
                let query = self.queries.add(session, Asker::Unique(reply));
                self.order(&worker, Order::AskUnique { query, shard, request });
            }
            Err(problem) => self.outbox.tell(reply, Err(problem)),
        }
    }

    /// A worker that reaches the shard and knows this word; the refusal names one that does not.
    fn somebody_who(&self, shard: &ShardId, word: &str) -> Result<(WorkerId, SessionId), Failure> {
        let able = self
            .fleet
            .serving(shard)
            .find(|(_, worker)| worker.usable().contains(shard) && worker.knows.has(word));
        if let Some((id, worker)) = able {
            return Ok((id.clone(), worker.session));
        }
        let (worker, _) = self.somebody(shard)?;
        let message = format!("worker {worker} of shard {shard} is of a release that does not know `{word}`");
        let failure = Failure::new(ErrorCode::WorkerUnfit, message, "upgrade it, then ask again");
        Err(failure.on_shard(shard))
    }

    /// A worker that reaches the shard.
    fn somebody(&self, shard: &ShardId) -> Result<(WorkerId, SessionId), Failure> {
        let mut serving = self.fleet.serving(shard);
        let usable = serving.find(|(_, worker)| worker.usable().contains(shard));
        usable.map(|(id, worker)| (id.clone(), worker.session)).ok_or_else(|| self.shard_problem(shard))
    }

    pub(super) fn answer_query(&mut self, query: u64, told: Answer) {
        let Some((_, asker)) = self.queries.open.remove(&query) else { return };
        match (asker, told) {
            (Asker::Facts(question), Answer::Facts(facts)) => answer(question.reply, facts),
            (Asker::Placement(reply), Answer::Placement(page)) => answer(reply, page),
            (Asker::Quarantine(reply), Answer::Quarantine(told)) => answer(reply, told),
            (Asker::Conflicts(reply), Answer::Conflicts(page)) => answer(reply, page),
            (Asker::Prepared(reply), Answer::Prepared(page)) => answer(reply, page),
            (Asker::Mismatches(reply), Answer::Mismatches(page)) => answer(reply, page),
            (Asker::Purge(reply), Answer::Purged(purged)) => answer(reply, purged),
            (Asker::Backup(reply), Answer::Backup(told)) => answer(reply, told),
            (Asker::Rehearsal(reply), Answer::Rehearsed(found)) => answer(reply, found),
            (Asker::Repair(reply), Answer::Repaired(page)) => answer(reply, page),
            (Asker::Unique(reply), Answer::Unique(told)) => answer(reply, told),
            (asker, _) => asker.refuse(Failure::new(
                ErrorCode::Internal,
                "a worker answered another question than it was asked",
                "use a coordinator and workers of the same release",
            )),
        }
    }

    pub(super) fn forget_queries(&mut self, session: SessionId) {
        let mine: Vec<u64> =
            self.queries.open.iter().filter(|(_, (who, _))| *who == session).map(|(id, _)| *id).collect();
        for query in mine {
            let Some((_, asker)) = self.queries.open.remove(&query) else { continue };
            match asker {
                Asker::Facts(question) => self.ask_facts_soon(question),
                asker => asker.refuse(Failure::new(
                    ErrorCode::ShardNoWorker,
                    "the worker that was asked has gone",
                    "try again",
                )),
            }
        }
    }
}
