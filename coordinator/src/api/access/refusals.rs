//! What was refused to somebody who is known, until it is in the history. Bounded: the same again and again is counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::HeaderValue;
use shardlift_domain::ids::ShardId;
use shardlift_domain::principal::Principal;
use tokio::sync::Notify;

/// So many different ones are kept at most; the log has all of them.
const MOST: usize = 1000;

/// What was refused to one principal, once or several times.
#[derive(Debug, Clone)]
pub(in crate::api) struct Refusal {
    /// To whom.
    pub(in crate::api) principal: Principal,
    /// The method or route.
    pub(in crate::api) verb: &'static str,
    /// The shard that it was about, if the verb itself was not refused.
    pub(in crate::api) shard: Option<ShardId>,
    /// By what the principal is known: the leader asks for itself.
    pub(in crate::api) credentials: Option<HeaderValue>,
    /// What the newest request was called.
    pub(in crate::api) request: Option<HeaderValue>,
    /// How often.
    pub(in crate::api) times: u32,
}

type Waiting = BTreeMap<(String, &'static str), Refusal>;

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    waiting: Mutex<Waiting>,
    came: Notify,
}

impl Refusals {
    /// One more.
    pub(super) fn add(&self, refusal: Refusal) {
        let mut waiting = self.waiting();
        let key = (refusal.principal.name().to_owned(), refusal.verb);
        let room = waiting.len() < MOST;
        match waiting.get_mut(&key) {
            Some(known) => {
                let times = known.times.saturating_add(refusal.times);
                *known = Refusal { times, ..refusal };
            }
            None if room => drop(waiting.insert(key, refusal)),
            None => {}
        }
        drop(waiting);
        self.came.notify_one();
    }

    /// Waits until there are some, and takes all of them.
    pub(super) async fn taken(&self) -> Vec<Refusal> {
        loop {
            let all = std::mem::take(&mut *self.waiting());
            if !all.is_empty() {
                return all.into_values().collect();
            }
            self.came.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use shardlift_domain::principal::{Reach, Role};

    use super::*;

    fn refusal(name: &str, verb: &'static str) -> Refusal {
        let principal = Principal::new(name, Role::Viewer, Reach::Nothing).expect("valid");
        Refusal { principal, verb, shard: None, credentials: None, request: None, times: 1 }
    }

    #[tokio::test]
    async fn the_same_again_is_counted_and_never_more_than_so_many_are_kept() {
        let refusals = Refusals::default();
        assert!(refusals.taken().now_or_never().is_none(), "there are none");
        for _ in 0..3 {
            refusals.add(refusal("mira", "start"));
        }
        refusals.add(refusal("mira", "cancel"));
        refusals.add(refusal("olaf", "start"));
        let told: Vec<_> = refusals.taken().await.iter().map(|one| (one.verb, one.times)).collect();
        assert_eq!(told, [("cancel", 1), ("start", 3), ("start", 1)]);
        assert!(refusals.taken().now_or_never().is_none(), "each is told once");
        for number in 0..2 * MOST {
            refusals.add(refusal(&format!("p{number:05}"), "start"));
        }
        refusals.add(refusal("p00000", "start"));
        let told = refusals.taken().await;
        assert_eq!((told.len(), told[0].times), (MOST, 2));
    }
}
