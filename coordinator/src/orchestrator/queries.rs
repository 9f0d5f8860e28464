//! Questions to workers that wait for their answers. Volatile: whoever asked asks again. What a plan asks waits for a worker,
//! too: facts change nothing, so they may be asked twice.

use std::collections::BTreeMap;
use std::time::Duration;

use shardlift_domain::capability::{ANEW, ATOMIC, BACKUP, DIGEST, PURGE, REHEARSE, REPAIR, UNDO, UNIQUE};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ShardId, WorkerId};
use shardlift_domain::spec::SpecBody;
use shardlift_domain::task::Millis;

use super::fleet::{Order, SessionId};
use super::leader::{Leader, answer};
use super::question::{Answer, Question};
use super::wake::Reply;

/// How long a shard whose facts are asked for may be without a worker: one that was just started again, or that follows a new
/// leader, is back sooner.
const NOBODY_WITHIN: Duration = Duration::from_secs(5);

/// A question, kept whole until it is answered: it may have to be asked again.
struct Asked {
    shard: ShardId,
    question: Question,
    reply: Reply<Answer>,
}

impl Asked {
    /// Whether it waits for a worker, and is asked again when its worker goes away under it.
    fn waits(&self) -> bool {
        matches!(self.question, Question::Facts(_))
    }
}

/// The open questions.
#[derive(Default)]
pub(super) struct Queries {
    open: BTreeMap<u64, (SessionId, Asked)>,
    asked: u64,
    /// Those whose shard nobody serves at the moment, with the end of the wait.
    waiting: Vec<(Millis, Asked)>,
}

impl Queries {
    /// Forgets questions whose askers have gone.
    pub(super) fn forget_unheard(&mut self) {
        self.open.retain(|_, (_, asked)| !asked.reply.is_closed());
        self.waiting.retain(|(_, asked)| !asked.reply.is_closed());
    }

    fn add(&mut self, session: SessionId, asked: Asked) -> u64 {
        self.asked += 1;
        self.open.insert(self.asked, (session, asked));
        self.asked
    }
}

impl Leader {
    /// Asks a worker of the shard.
    pub(super) fn ask(&mut self, shard: ShardId, question: Question, reply: Reply<Answer>) {
        self.ask_soon(Asked { shard, question, reply });
    }

    /// Asks now; what waits, as soon as somebody serves the shard.
    fn ask_soon(&mut self, asked: Asked) {
        let within = u64::try_from(NOBODY_WITHIN.as_millis()).unwrap_or(u64::MAX);
        self.ask_until(self.clock.millis().saturating_add(within), asked);
    }

    fn ask_until(&mut self, end: Millis, asked: Asked) {
        match self.somebody(&asked.shard, self.needs(&asked.question)) {
            Ok((worker, session)) => {
                let (shard, question) = (asked.shard.clone(), asked.question.clone());
                let query = self.queries.add(session, asked);
                self.order(&worker, Order::Ask { query, shard, question });
            }
            Err(problem)
                if asked.waits() && problem.code == ErrorCode::ShardNoWorker && self.clock.millis() < end =>
            {
                self.queries.waiting.push((end, asked));
            }
            Err(problem) => self.outbox.tell(asked.reply, Err(problem)),
        }
    }

    /// Time has passed: workers may have come, and waits may be over.
    pub(super) fn ask_waiting(&mut self) {
        for (end, asked) in std::mem::take(&mut self.queries.waiting) {
            self.ask_until(end, asked);
        }
    }

    /// The word that a worker must know to answer; none: each does.
    fn needs(&self, question: &Question) -> Option<&'static str> {
        match question {
            Question::Facts(_) | Question::Placement(_) | Question::Quarantine(_) => None,
            Question::Prepared(_) => Some(ATOMIC),
            Question::Conflicts(_) => Some(UNDO),
            Question::Mismatches(request) => {
                let body = self.book.page(&request.migration).map(|page| &page.spec.body);
                let digest = matches!(body, Some(SpecBody::Data(data)) if data.known_by_digest());
                Some(if digest { DIGEST } else { ANEW })
            }
            Question::Backup(_) => Some(BACKUP),
            Question::Purge(_) => Some(PURGE),
            Question::Rehearsal(_) => Some(REHEARSE),
            Question::Repair(_) => Some(REPAIR),
            Question::Unique(_) => Some(UNIQUE),
        }
    }

    /// A worker that reaches the shard and knows this word; the refusal names one that does not.
    fn somebody(&self, shard: &ShardId, word: Option<&str>) -> Result<(WorkerId, SessionId), Failure> {
        let reaching = || self.fleet.serving(shard).filter(|(_, worker)| worker.usable().contains(shard));
        let able = reaching().find(|(_, worker)| word.is_none_or(|word| worker.knows.has(word)));
        if let Some((id, worker)) = able {
            return Ok((id.clone(), worker.session));
        }
        let Some((worker, _)) = reaching().next() else { return Err(self.shard_problem(shard)) };
        let lacks = match word {
            Some(word) if word != ATOMIC => format!("does not know `{word}`"),
            _ => "prepares nothing".to_owned(),
        };
        let message = format!("worker {worker} of shard {shard} is of a release that {lacks}");
        let failure = Failure::new(ErrorCode::WorkerUnfit, message, "upgrade it, then ask again");
        Err(failure.on_shard(shard))
    }

    pub(super) fn answer_query(&mut self, query: u64, told: Result<Answer, Failure>) {
        if let Some((_, asked)) = self.queries.open.remove(&query) {
            answer(asked.reply, told);
        }
    }

    pub(super) fn forget_queries(&mut self, session: SessionId) {
        let mine: Vec<u64> =
            self.queries.open.iter().filter(|(_, (who, _))| *who == session).map(|(id, _)| *id).collect();
        for query in mine {
            let Some((_, asked)) = self.queries.open.remove(&query) else { continue };
            if asked.waits() {
                self.ask_soon(asked);
                continue;
            }
            let gone =
                Failure::new(ErrorCode::ShardNoWorker, "the worker that was asked has gone", "try again");
            answer(asked.reply, Err(gone));
        }
    }
}
