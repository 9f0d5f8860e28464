//! What a call to etcd can end with.

use std::error::Error as _;
use std::time::Duration;

use shardlift_runtime::retry::Retryable;

use super::super::ElectionError;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EtcdError {
    /// The member did not answer in time: it is paused, overloaded or cut off.
    #[error("{endpoint} does not answer within {within:?}")]
    Silent {
        /// Which member.
        endpoint: String,
        /// How long it was given.
        within: Duration,
    },
    /// The member, or the way to it, refuses.
    #[error("{endpoint}: {}", told(source))]
    Refused {
        /// Which member.
        endpoint: String,
        /// What the driver says.
        source: Box<etcd_client::Error>,
    },
    /// The lease, and with it every key that hangs on it, is no more.
    #[error("the lease has ended")]
    LeaseEnded,
}

impl EtcdError {
    pub(super) fn refused(endpoint: &str, source: etcd_client::Error) -> Self {
        match source {
            // The driver has this word for a lease that the server does not know, and for nothing else.
            etcd_client::Error::LeaseKeepAliveError(_) => EtcdError::LeaseEnded,
            source => EtcdError::Refused { endpoint: endpoint.to_owned(), source: Box::new(source) },
        }
    }

    /// Whether the server said so in these words.
    pub(super) fn says(&self, words: &str) -> bool {
        matches!(self, EtcdError::Refused { source, .. }
            if matches!(&**source, etcd_client::Error::GRpcStatus(status) if status.message().contains(words)))
    }

    /// Whether another member may answer better.
    pub(super) fn try_another(&self) -> bool {
        self.retryable()
    }
}

impl Retryable for EtcdError {
    /// All that the election asks of etcd may be asked twice.
    fn retryable(&self) -> bool {
        match self {
            EtcdError::Silent { .. } => true,
            EtcdError::LeaseEnded => false,
            EtcdError::Refused { source, .. } => match &**source {
                etcd_client::Error::GRpcStatus(status) => passing(i32::from(status.code())),
                error => matches!(
                    error,
                    etcd_client::Error::TransportError(_)
                        | etcd_client::Error::IoError(_)
                        | etcd_client::Error::WatchError(_)
                ),
            },
        }
    }
}

/// gRPC status codes that another member, or another moment, may not answer with: cancelled, unknown, deadline exceeded,
/// resource exhausted, aborted, internal, unavailable, and unauthenticated, since the next connection logs in anew.
fn passing(code: i32) -> bool {
    matches!(code, 1 | 2 | 4 | 8 | 10 | 13 | 14 | 16)
}

/// The driver's words and those of its causes: "transport error" alone helps nobody.
fn told(error: &etcd_client::Error) -> String {
    let (mut text, mut cause): (String, Option<&dyn std::error::Error>) = match error {
        etcd_client::Error::GRpcStatus(status) => (status.message().to_owned(), status.source()),
        etcd_client::Error::TransportError(error) => (error.to_string(), error.source()),
        other => (other.to_string(), other.source()),
    };
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

impl From<EtcdError> for ElectionError {
    fn from(error: EtcdError) -> Self {
        ElectionError::Unavailable(error.to_string())
    }
}
