//! The right to run one task: granted by the coordinator, alive only while the coordinator is heard.
//!
//! A lease that has run out stops the worker early; it is not what keeps rows safe. That is the token, which the
//! shard checks in every batch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shardlift_domain::ended::EndedSession;
use shardlift_domain::fence::{Fence, Token};
use shardlift_domain::ids::TaskId;
use shardlift_domain::migration::Pace;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The task's right is over: withdrawn, or the coordinator was not heard for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease of this task is over")]
pub struct LeaseOver;

/// One session with a leader: when it was last heard, and until when that is trusted.
#[derive(Debug)]
pub struct Pulse {
    started: Instant,
    heard_ms: AtomicU64,
    closed: AtomicBool,
    ttl: Duration,
    leader: Fence,
}

impl Pulse {
    /// A session that begins now with this leader; silence of `ttl` ends its leases.
    pub fn begin(leader: Fence, ttl: Duration) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            heard_ms: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            ttl,
            leader,
        })
    }

    /// The leader spoke. Silence that has lasted too long is not made good by it: to a process that was stopped and
    /// goes on, everything that it reads is old, and its tasks were given to others.
    pub fn beat(&self) {
        if self.alive() {
            self.heard_ms.store(self.elapsed_ms(), Ordering::Release);
        } else {
            self.close();
        }
    }

    /// The session is over; its leases with it.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether the leader was heard recently enough.
    pub fn alive(&self) -> bool {
        let silent = self.elapsed_ms().saturating_sub(self.heard_ms.load(Ordering::Acquire));
        !self.closed.load(Ordering::Acquire) && Duration::from_millis(silent) < self.ttl
    }

    /// The leader of this session.
    pub fn leader(&self) -> &Fence {
        &self.leader
    }

    /// How long the leader may be silent.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The right to run one task, as the leader of this session gave it.
    pub fn grant(self: &Arc<Self>, task: TaskId, token: Token) -> TaskLease {
        TaskLease {
            task,
            token,
            pulse: Arc::clone(self),
            withdrawn: CancellationToken::new(),
            wish: Arc::default(),
            ended: Arc::default(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The right to run one task. Only a session makes one ([`Pulse::grant`]); nothing is written without it.
#[derive(Debug, Clone)]
pub struct TaskLease {
    task: TaskId,
    token: Token,
    pulse: Arc<Pulse>,
    withdrawn: CancellationToken,
    wish: Arc<Mutex<Option<Wish>>>,
    ended: Arc<Mutex<Vec<EndedSession>>>,
}

/// How the coordinator wants a running range to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// How fast it may go from now on.
    pub pace: Pace,
    /// Split off the later half of what is left, if that is worth it.
    pub share: bool,
}

impl TaskLease {
    /// Which task.
    pub fn task(&self) -> &TaskId {
        &self.task
    }

    /// The fencing token that every write must carry.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The leader that gave it; its epoch is the token's.
    pub fn leader(&self) -> &Fence {
        self.pulse.leader()
    }

    /// Asked before each batch: may it begin?
    pub fn check(&self) -> Result<(), LeaseOver> {
        if self.withdrawn.is_cancelled() || !self.pulse.alive() { Err(LeaseOver) } else { Ok(()) }
    }

    /// The coordinator wants it back at the next batch boundary.
    pub fn withdraw(&self) {
        self.withdrawn.cancel();
    }

    /// The coordinator wants it to go on otherwise from the next batch on. A wish to share is not forgotten for a later
    /// one about the rate.
    pub fn adjust(&self, wish: Wish) {
        let mut wanted = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        let share = wish.share || wanted.is_some_and(|earlier| earlier.share);
        *wanted = Some(Wish { share, ..wish });
    }

    /// What the coordinator wished since the last call.
    pub fn take_wish(&self) -> Option<Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A session of the application was ended under it: whatever becomes of the task, that is to be told.
    pub fn has_ended(&self, session: EndedSession) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    /// The sessions that were ended since the last call.
    pub fn take_ended(&self) -> Vec<EndedSession> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends when the lease is withdrawn (not when the coordinator falls silent): for waits that should not outlast it.
    pub async fn withdrawn(&self) {
        self.withdrawn.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardlift_domain::fence::{Attempt, Epoch, Nonce};
    use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, Version};
    use shardlift_domain::migration::Step;

    fn lease(pulse: &Arc<Pulse>) -> TaskLease {
        let migration = MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST };
        let shard = ShardId::new("s").expect("a name");
        let task = TaskId { migration, shard, step: Step::Backfill, range: Some(0) };
        pulse.grant(task, Token { epoch: Epoch(1), attempt: Attempt(1) })
    }

    fn pulse() -> Arc<Pulse> {
        Pulse::begin(Fence { epoch: Epoch(1), nonce: Nonce("n".into()) }, Duration::from_secs(5))
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_lease_and_a_beat_renews_it() {
        let pulse = pulse();
        let lease = lease(&pulse);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(lease.check(), Ok(()));
        pulse.beat();
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(lease.check(), Ok(()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(lease.check(), Err(LeaseOver));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_heard_after_the_silence_was_too_long_revives_nothing() {
        let pulse = pulse();
        let lease = lease(&pulse);
        tokio::time::advance(Duration::from_secs(60)).await;
        pulse.beat();
        assert_eq!(lease.check(), Err(LeaseOver));
    }

    #[tokio::test]
    async fn a_wish_is_taken_once_and_none_is_lost_to_a_later_one() {
        let lease = lease(&pulse());
        let pace = |sharers| Pace { sharers, throttle: None };
        lease.adjust(Wish { pace: pace(2), share: true });
        lease.clone().adjust(Wish { pace: pace(3), share: false });
        assert_eq!(lease.take_wish(), Some(Wish { pace: pace(3), share: true }));
        assert_eq!(lease.take_wish(), None);
    }

    #[tokio::test]
    async fn a_withdrawn_lease_and_a_closed_session_are_over() {
        let pulse = pulse();
        let (one, two) = (lease(&pulse), lease(&pulse));
        one.withdraw();
        assert_eq!((one.check(), two.check()), (Err(LeaseOver), Ok(())));
        pulse.close();
        assert_eq!(two.check(), Err(LeaseOver));
    }
}
