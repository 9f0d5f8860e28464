//! Where this coordinator stands: whether it leads, and who does otherwise. For doors, which serve, pass on or refuse
//! by it. Only the store's fence is authority; this is news, and may be old.

use std::time::Duration;

use tokio::sync::watch;

use crate::election::Peer;

/// What this coordinator is to those who come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Post {
    /// Somebody else leads, or nobody.
    Follows,
    /// It leads: it answers everything.
    Leads,
    /// It has resigned and waits for its successor to be named. What was open stays open; what is new is for the other.
    HandsOver,
}

/// The news of who leads. Cheap to clone; each clone sees every change.
#[derive(Debug, Clone)]
pub struct Standing {
    post: watch::Receiver<Post>,
    leader: watch::Receiver<Option<Peer>>,
    coordinators: watch::Receiver<Vec<Peer>>,
    /// Where others reach this coordinator.
    address: String,
}

impl Standing {
    pub(super) fn new(
        post: watch::Receiver<Post>,
        leader: watch::Receiver<Option<Peer>>,
        coordinators: watch::Receiver<Vec<Peer>>,
        address: String,
    ) -> Self {
        Self { post, leader, coordinators, address }
    }

    /// Every coordinator that the election knows, by name. The flag: whether it is said to lead.
    pub fn coordinators(&self) -> Vec<(Peer, bool)> {
        let leader =
            if self.leads() { Some(self.address.clone()) } else { self.leader().map(|peer| peer.address) };
        let all = self.coordinators.borrow().clone().into_iter();
        all.map(|peer| (peer.clone(), leader.as_ref() == Some(&peer.address))).collect()
    }

    /// Whether this coordinator answers by itself.
    pub fn leads(&self) -> bool {
        *self.post.borrow() == Post::Leads
    }

    /// Who else leads, as far as it is known.
    pub fn leader(&self) -> Option<Peer> {
        self.leader.borrow().clone().filter(|leader| leader.address != self.address)
    }

    /// Whether a request that comes now is likely to be answered; why not otherwise.
    pub fn ready(&self) -> Result<(), String> {
        if self.leads() || self.leader().is_some() {
            Ok(())
        } else {
            Err("no coordinator is known to lead".to_owned())
        }
    }

    /// Waits for the next change of anything.
    pub async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.post.changed() => {}
            Ok(()) = self.leader.changed() => {}
            // Nobody is left who could tell of a change.
            else => std::future::pending().await,
        }
    }

    /// Waits until this coordinator leads or knows who does; for so long at most.
    pub async fn settled(&self, patience: Duration) {
        let mut news = self.clone();
        let settled = async {
            while news.ready().is_err() {
                news.changed().await;
            }
        };
        // Whoever asks looks again: a vain wait needs no word.
        let _ = tokio::time::timeout(patience, settled).await;
    }

    /// Waits until another coordinator than the one at this address is named, or this one leads itself.
    pub(crate) async fn moved_from(&self, address: &str) {
        let mut news = self.clone();
        while !news.leads() && news.leader().is_none_or(|leader| leader.address == address) {
            news.changed().await;
        }
    }

    /// Waits until this coordinator has let go of everything that only a leader has.
    pub(crate) async fn let_go(&self) {
        let mut post = self.post.clone();
        // Without an orchestrator nothing is led.
        let _ = post.wait_for(|post| *post == Post::Follows).await;
    }
}
