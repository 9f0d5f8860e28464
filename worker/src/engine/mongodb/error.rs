//! What the driver and the server say, told apart by what may be done about it.
//!
//! Messages of the server quote addresses at most, never credentials; messages about a document may quote its values,
//! which must not leave the shard: those are cut out.

use std::collections::HashSet;

use mongodb::error::{
    Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
};
use shardlift_domain::{ErrorCode, Failure};

use super::codes;
use crate::engine::EngineError;

/// One error of the server or the driver, reduced to what decisions need.
#[derive(Debug, Clone, Default)]
pub(super) struct Cause {
    /// 0: not an error of the server.
    pub(super) code: i32,
    name: String,
    message: String,
    labels: HashSet<String>,
    network: bool,
}

impl Cause {
    /// An entry of `writeErrors` in a reply.
    pub(super) fn of_write_error(entry: &bson::Document) -> Self {
        Self {
            code: entry.get_i32("code").unwrap_or_default(),
            name: entry.get_str("codeName").unwrap_or_default().to_owned(),
            message: entry.get_str("errmsg").unwrap_or_default().to_owned(),
            ..Self::default()
        }
    }

    fn labelled(&self, label: &str) -> bool {
        self.labels.contains(label)
    }

    fn is(&self, codes: &[i32]) -> bool {
        codes.contains(&self.code)
    }

    fn told(&self) -> String {
        match (self.code, self.name.as_str()) {
            (0, _) => self.message.clone(),
            (code, "") => format!("{} (MongoDB error {code})", self.message),
            (code, name) => format!("{} (MongoDB error {code} {name})", self.message),
        }
    }
}

impl From<&Error> for Cause {
    fn from(error: &Error) -> Self {
        let mut cause = Self { labels: error.labels().clone(), ..Self::default() };
        match error.kind.as_ref() {
            ErrorKind::Command(command) => {
                cause.code = command.code;
                cause.name.clone_from(&command.code_name);
                cause.message.clone_from(&command.message);
            }
            ErrorKind::Write(WriteFailure::WriteError(write)) => {
                cause.code = write.code;
                cause.name = write.code_name.clone().unwrap_or_default();
                cause.message.clone_from(&write.message);
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
                cause.code = concern.code;
                cause.name.clone_from(&concern.code_name);
                cause.message.clone_from(&concern.message);
            }
            ErrorKind::InsertMany(many) => {
                if let Some(write) = many.write_errors.as_ref().and_then(|all| all.first()) {
                    cause.code = write.code;
                    cause.message.clone_from(&write.message);
                } else if let Some(concern) = &many.write_concern_error {
                    cause.code = concern.code;
                    cause.message.clone_from(&concern.message);
                }
            }
            ErrorKind::Authentication { .. } => {
                cause.code = codes::NOT_ALLOWED[1];
                cause.message = "the server refused the user or password of the dsn".to_owned();
            }
            other => {
                cause.network = matches!(
                    other,
                    ErrorKind::Io(_)
                        | ErrorKind::ConnectionPoolCleared { .. }
                        | ErrorKind::ServerSelection { .. }
                        | ErrorKind::DnsResolve { .. }
                );
                cause.message = other.to_string();
            }
        }
        cause
    }
}

/// For `map_err` of calls that read or keep books: what is not trouble of the server is a refusal.
pub(super) fn asking(doing: &str) -> impl Fn(Error) -> EngineError {
    move |error| refusal(doing, &Cause::from(&error))
}

/// Trouble of the server, or a refusal.
pub(super) fn refusal(doing: &str, cause: &Cause) -> EngineError {
    trouble(doing, cause).unwrap_or_else(|| {
        EngineError::Failed(Failure::new(
            ErrorCode::ShardRefused,
            format!("{doing}: {}", cause.told()),
            "look up the error of the server, mend its cause, and retry the migration",
        ))
    })
}

/// Trouble of the server, or of a document that cannot be changed as the spec wants it.
pub(super) fn rejection(cause: &Cause) -> EngineError {
    trouble("changing documents", cause).unwrap_or_else(|| {
        let message = without_values(&cause.message);
        EngineError::Row(Failure::new(
            ErrorCode::RowRejected,
            match cause.name.as_str() {
                "" => format!("the server refused a document: {message} (MongoDB error {})", cause.code),
                name => {
                    format!("the server refused a document: {message} (MongoDB error {} {name})", cause.code)
                }
            },
            "mend the document or the transform, then retry the migration",
        ))
    })
}

/// What has nothing to do with what was asked: the server, the network, other transactions.
fn trouble(doing: &str, cause: &Cause) -> Option<EngineError> {
    let failure = |code, next: &str| Failure::new(code, format!("{doing}: {}", cause.told()), next);
    let unknown = cause.labelled(UNKNOWN_TRANSACTION_COMMIT_RESULT);
    if cause.is(&codes::TOO_SLOW) && !(unknown && cause.code == codes::MAX_TIME) {
        let next = "nothing to do: a smaller batch is tried; if it goes on, look at the load of the shard";
        return Some(EngineError::TooSlow(failure(ErrorCode::ShardOutOfResources, next)));
    }
    if cause.is(&codes::NOT_WRITABLE) {
        let next = "nothing to do if an election is under way; else point the dsn to the replica set";
        return Some(EngineError::Connection(failure(ErrorCode::ShardReadOnly, next)));
    }
    if cause.network || unknown || cause.is(&codes::SERVER_CHANGING) {
        let next = "look whether the shard's server runs and can be reached from the worker";
        return Some(EngineError::Connection(failure(ErrorCode::ShardUnreachable, next)));
    }
    if cause.is(&codes::CONTENDED) || cause.labelled(TRANSIENT_TRANSACTION_ERROR) {
        let next =
            "nothing to do: it is tried again; if it goes on, the application writes to these documents";
        return Some(EngineError::Contended(failure(ErrorCode::RowContended, next)));
    }
    if cause.is(&codes::OUT_OF_RESOURCES) {
        let next = "give the shard's server room (disk or memory); the migration then goes on";
        return Some(EngineError::Failed(failure(ErrorCode::ShardOutOfResources, next)));
    }
    if cause.is(&codes::NOT_ALLOWED) {
        let next = "give the user of the dsn the roles readWrite on its database and on `shardlift`";
        return Some(EngineError::Failed(failure(ErrorCode::ShardRefused, next)));
    }
    None
}

/// The message of the server without what stands in quotes or follows `dup key:`.
fn without_values(message: &str) -> String {
    let message = message.split("dup key:").next().unwrap_or_default();
    let message =
        message.strip_prefix("PlanExecutor error during aggregation :: caused by :: ").unwrap_or(message);
    let mut kept = String::with_capacity(message.len());
    let mut quote = None;
    for (at, letter) in message.char_indices() {
        match quote {
            Some(open) if letter == open => {
                quote = None;
                kept.push('…');
                kept.push(letter);
            }
            Some(_) => {}
            None => {
                let word_before = message[..at].ends_with(|c: char| c.is_alphanumeric());
                if letter == '"' || (letter == '\'' && !word_before) {
                    quote = Some(letter);
                }
                kept.push(letter);
            }
        }
    }
    kept.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(code: i32) -> Cause {
        Cause { code, message: "m".into(), ..Cause::default() }
    }

    #[test]
    fn what_a_document_holds_is_cut_out_of_messages() {
        let told = without_values("Failed to parse number 'secret words' in $convert");
        assert_eq!(told, "Failed to parse number '…' in $convert");
        let told =
            without_values("E11000 duplicate key error collection: a.b index: x dup key: { x: \"secret\" }");
        assert_eq!(told, "E11000 duplicate key error collection: a.b index: x");
        assert_eq!(without_values("doesn't fit"), "doesn't fit");
        assert_eq!(without_values("cannot read \"secret"), "cannot read \"");
    }

    #[test]
    fn the_code_of_the_server_decides_what_is_done() {
        assert!(matches!(rejection(&cause(112)), EngineError::Contended(_)));
        assert!(matches!(rejection(&cause(251)), EngineError::TooSlow(_)));
        assert!(matches!(rejection(&cause(10107)), EngineError::Connection(_)));
        assert!(matches!(rejection(&cause(14031)), EngineError::Failed(_)));
        assert!(matches!(rejection(&cause(121)), EngineError::Row(_)));
        assert!(matches!(refusal("asking", &cause(121)), EngineError::Failed(_)));
    }

    #[test]
    fn a_commit_that_ran_out_of_time_has_an_unknown_outcome() {
        let labels = HashSet::from([UNKNOWN_TRANSACTION_COMMIT_RESULT.to_owned()]);
        let late = Cause { labels, ..cause(50) };
        assert!(matches!(refusal("committing", &late), EngineError::Connection(_)));
        assert!(matches!(refusal("committing", &cause(50)), EngineError::TooSlow(_)));
    }
}
