//! What the heart has decided to say. It is said once what it follows from is stored; if that fails, the outbox dies with
//! its leader, unopened: no order is sent, and whoever waits for an answer hears that nobody leads here.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::WorkerId;

use super::fleet::{Order, SessionId};
use super::leader::answer;
use super::wake::Reply;

/// Orders and answers that wait for a commit.
#[derive(Default)]
pub(super) struct Outbox {
    orders: Vec<(WorkerId, SessionId, Order)>,
    answers: Vec<Box<dyn FnOnce() + Send>>,
}

impl Outbox {
    /// An order for the session that a worker has now.
    pub(super) fn order(&mut self, worker: &WorkerId, session: SessionId, order: Order) {
        self.orders.push((worker.clone(), session, order));
    }

    /// An answer to somebody.
    pub(super) fn tell<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, Failure>) {
        self.answers.push(Box::new(|| answer(reply, result)));
    }

    /// What it follows from is stored: all answers are given, and these orders are to be sent, in this order.
    pub(super) fn open(&mut self) -> Vec<(WorkerId, SessionId, Order)> {
        self.answers.drain(..).for_each(|answer| answer());
        std::mem::take(&mut self.orders)
    }
}
