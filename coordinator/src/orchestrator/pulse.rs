//! Signs of life of one worker, heard and answered at the door.
//!
//! The heart may be busy for longer than a lease lasts, or wait for a slow store that long: no worker is lost for that.
//! But the door speaks in the leader's name only while that leader leads: an epoch that is over keeps no lease alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shardlift_domain::task::Millis;
use shardlift_runtime::clock::Monotonic;
use tokio::sync::mpsc;

use super::fleet::Order;
use crate::election::Reign;

/// When a session was heard last. Clones are of the same session.
#[derive(Clone)]
pub struct Pulse {
    clock: Monotonic,
    heard: Arc<AtomicU64>,
    /// Weak: whoever drops the queue ends the session, and with it the answers.
    orders: mpsc::WeakSender<Order>,
    reign: Reign,
}

impl Pulse {
    /// Of a session that begins now, by the clock of its leader.
    pub(super) fn begin(clock: Monotonic, orders: &mpsc::Sender<Order>, reign: Reign) -> Self {
        Self { clock, heard: Arc::new(AtomicU64::new(clock.millis())), orders: orders.downgrade(), reign }
    }

    /// The worker has said something. `false`: the session or the lead is over, and nobody hears it.
    pub fn beat(&self) -> bool {
        if self.reign.is_over() || self.orders.strong_count() == 0 {
            return false;
        }
        self.heard.fetch_max(self.clock.millis(), Ordering::Relaxed);
        true
    }

    /// Answers a sign of life, unless there is nobody left in whose name it could be done.
    pub fn answer(&self) {
        if let Some(orders) = self.orders.upgrade().filter(|_| !self.reign.is_over()) {
            // A queue that is full holds signs of life enough; if it stays so, the heart ends the session.
            let _ = orders.try_send(Order::Heartbeat);
        }
    }

    /// When it was heard last.
    pub(super) fn heard(&self) -> Millis {
        self.heard.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulse").field("heard", &self.heard()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{Election, Leadership, Peer, Standalone};

    async fn leadership() -> Leadership {
        let me = Peer { name: "c1".into(), address: "c1:7400".into() };
        Standalone::new(me).campaign().await.expect("elected")
    }

    #[tokio::test]
    async fn a_sign_of_life_is_answered_only_while_the_leader_leads() {
        let (sender, mut orders) = mpsc::channel(4);
        let reign = leadership().await.reign();
        let pulse = Pulse::begin(Monotonic::start(), &sender, reign.clone());
        assert!(pulse.beat());
        pulse.answer();
        assert!(matches!(orders.try_recv(), Ok(Order::Heartbeat)));
        reign.end();
        assert!(!pulse.beat(), "the queue is still there, but nobody leads");
        pulse.answer();
        assert!(orders.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_session_that_the_heart_has_ended_is_not_kept_alive_by_its_door() {
        let (sender, mut orders) = mpsc::channel(4);
        let pulse = Pulse::begin(Monotonic::start(), &sender, leadership().await.reign());
        drop(sender);
        assert!(!pulse.beat());
        pulse.answer();
        assert!(orders.recv().await.is_none(), "the door holds no queue open");
    }

    #[tokio::test]
    async fn one_leader_that_ends_its_reign_takes_nothing_from_the_next_one() {
        let leadership = leadership().await;
        let (first, second) = (leadership.reign(), leadership.reign());
        first.end();
        assert!(first.is_over() && !second.is_over() && !leadership.is_lost());
    }
}
