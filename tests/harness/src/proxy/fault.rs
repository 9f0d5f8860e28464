//! What the proxy is to do wrong, and the state that its connections share.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// The way that data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Requests.
    ToServer = 0,
    /// Replies.
    ToClient = 1,
}

/// A connection that ends at a chosen byte.
#[derive(Debug, Clone)]
pub struct Cut {
    pub(super) direction: Direction,
    pub(super) trigger: Trigger,
    pub(super) delivered: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Trigger {
    Pattern(Vec<u8>),
    Bytes(u64),
}

impl Cut {
    /// The client sends `pattern`: it does not reach the server, and both sides see a reset.
    pub fn before(pattern: impl Into<Vec<u8>>) -> Self {
        Self { direction: Direction::ToServer, trigger: Trigger::Pattern(pattern.into()), delivered: false }
    }

    /// The client sends `pattern`: the server receives it, its reply is swallowed, and both sides see a reset.
    /// When the cut has happened, the server has done what was asked.
    pub fn after(pattern: impl Into<Vec<u8>>) -> Self {
        Self { direction: Direction::ToServer, trigger: Trigger::Pattern(pattern.into()), delivered: true }
    }

    /// A connection has carried `bytes` in this direction: what exceeds them is lost, and both sides see a reset.
    pub fn after_bytes(direction: Direction, bytes: u64) -> Self {
        Self { direction, trigger: Trigger::Bytes(bytes), delivered: false }
    }
}

/// The faults that last until they are healed.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    pub(super) latency: Duration,
    /// By [`Direction`].
    pub(super) stalled: [bool; 2],
    pub(super) refusing: bool,
    /// Counts the calls: a connection that sees it grow resets itself.
    pub(super) resets: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    faults: watch::Sender<Faults>,
    armed: Mutex<Option<Cut>>,
    pub(super) cuts: AtomicU64,
    pub(super) connections: AtomicU64,
}

impl State {
    pub(super) fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
    }

    pub(super) fn now(&self) -> Faults {
        self.faults.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Faults> {
        self.faults.subscribe()
    }

    pub(super) fn armed(&self) -> MutexGuard<'_, Option<Cut>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for the trigger of the armed cut in what one connection carries in one direction.
#[derive(Debug)]
pub(super) struct Lookout {
    direction: Direction,
    carried: u64,
    /// The end of what was carried: a pattern may arrive in two pieces.
    tail: Vec<u8>,
}

const LONGEST_PATTERN: usize = 256;

impl Lookout {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction, carried: 0, tail: Vec::new() }
    }

    /// Takes the armed cut if `piece` triggers it. Returns how many bytes of the piece may pass, and the cut.
    pub(super) fn see(&mut self, state: &State, piece: &[u8]) -> (usize, Option<Cut>) {
        let before = self.carried;
        self.carried += piece.len() as u64;
        self.tail.extend_from_slice(piece);
        let mut armed = state.armed();
        let pass =
            armed.as_ref().filter(|cut| cut.direction == self.direction).and_then(|cut| match &cut.trigger {
                Trigger::Bytes(limit) if self.carried > *limit => {
                    usize::try_from(limit.saturating_sub(before)).ok()
                }
                Trigger::Pattern(pattern) if contains(&self.tail, pattern) => {
                    Some(if cut.delivered { piece.len() } else { 0 })
                }
                _ => None,
            });
        let excess = self.tail.len().saturating_sub(LONGEST_PATTERN);
        self.tail.drain(..excess);
        match pass {
            Some(pass) => {
                self.tail.clear();
                (pass, armed.take())
            }
            None => (piece.len(), None),
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && haystack.windows(needle.len()).any(|window| window == needle)
}
