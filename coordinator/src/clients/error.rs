//! What can go wrong with a service outside. No text holds a key or what a service answered.

use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_runtime::retry::Retryable;

/// Why a service did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The client cannot be made.
    #[error("a client of the {service} service cannot be made: {why}")]
    Unusable {
        /// Which service.
        service: &'static str,
        /// Why.
        why: String,
    },
    /// No connection, no answer in time, or one that was cut off.
    #[error("the {service} service does not answer: {why}")]
    Silent {
        /// Which service.
        service: &'static str,
        /// Why.
        why: String,
    },
    /// It is in trouble itself.
    #[error("the {service} service answers {status}")]
    Broken {
        /// Which service.
        service: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// It has too much to do.
    #[error("the {service} service asks for patience ({status})")]
    Busy {
        /// Which service.
        service: &'static str,
        /// The HTTP status.
        status: u16,
        /// When to come again, if it says so.
        after: Option<Duration>,
    },
    /// It is not asked, since it did not answer again and again.
    #[error("the {service} service is left alone for {} s more: it did not answer again and again", rest.as_secs() + 1)]
    Resting {
        /// Which service.
        service: &'static str,
        /// For how long.
        rest: Duration,
    },
    /// Its answer is not what it should be.
    #[error("the answer of the {service} service is not understood: {why}")]
    Garbage {
        /// Which service.
        service: &'static str,
        /// Why.
        why: String,
    },
    /// It does not want to.
    #[error("the {service} service refuses it ({status})")]
    Refused {
        /// Which service.
        service: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// The request cannot be written down.
    #[error("the {service} service cannot be asked: {why}")]
    Unaskable {
        /// Which service.
        service: &'static str,
        /// Why.
        why: String,
    },
}

impl Retryable for ClientError {
    fn retryable(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::Broken { .. } | Self::Busy { .. } | Self::Garbage { .. } => true,
            Self::Resting { .. } | Self::Refused { .. } | Self::Unaskable { .. } | Self::Unusable { .. } => {
                false
            }
        }
    }
}

impl ClientError {
    /// Whether it speaks against the service as a whole, and not against one request.
    pub(super) fn is_trouble(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Broken { .. } | Self::Garbage { .. })
    }

    /// When the service itself wants to be asked again.
    pub(super) fn after(&self) -> Option<Duration> {
        match self {
            Self::Busy { after, .. } => *after,
            _ => None,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (code, next) = match &error {
            ClientError::Refused { .. } => (
                ErrorCode::ServiceRefused,
                "see docs/operations/services.md for what is asked; 401 and 403: mend the key under [clients]",
            ),
            ClientError::Unaskable { .. } => {
                (ErrorCode::ServiceRefused, "correct the name that cannot be part of an address")
            }
            ClientError::Unusable { .. } => (ErrorCode::ConfigInvalid, "mend [clients] in the configuration"),
            ClientError::Silent { .. }
            | ClientError::Broken { .. }
            | ClientError::Busy { .. }
            | ClientError::Resting { .. }
            | ClientError::Garbage { .. } => (
                ErrorCode::ServiceUnavailable,
                "see to the service, then ask again; or take it out of [clients]",
            ),
        };
        Failure::new(code, error.to_string(), next)
    }
}
