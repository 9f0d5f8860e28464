//! What PostgreSQL says, judged by its SQLSTATE: decides what may be tried again, and what a person gets to read.
//!
//! Messages here never hold a connection string, and never a value of a row (promise P12).

use std::io;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use sqlx::postgres::PgDatabaseError;

use crate::engine::{EngineError, EngineResult};

/// Says of which shard an error speaks, and what it means.
pub(super) trait OrTrouble<T> {
    /// The value, or the error as the executor understands it.
    fn or_trouble(self, shard: &ShardId) -> EngineResult<T>;
}

impl<T> OrTrouble<T> for Result<T, sqlx::Error> {
    fn or_trouble(self, shard: &ShardId) -> EngineResult<T> {
        self.map_err(|error| trouble(shard, error))
    }
}

/// The error as the executor understands it.
pub(super) fn trouble(shard: &ShardId, error: sqlx::Error) -> EngineError {
    match &error {
        sqlx::Error::Database(_) => match postgres(&error) {
            Some(found) => refused(shard, found),
            None => unreachable(shard, "its server is not PostgreSQL"),
        },
        sqlx::Error::Io(broken) => unreachable(shard, io_words(broken)),
        sqlx::Error::Tls(_) => unreachable(shard, "the TLS handshake failed"),
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => {
            unreachable(shard, "the connection is out of step")
        }
        _ => EngineError::Failed(
            Failure::new(
                ErrorCode::Internal,
                format!("an answer of shard {shard} was not understood: {}", shape_of(&error)),
                "report it with the log of the worker",
            )
            .on_shard(shard),
        ),
    }
}

/// The SQLSTATE, if the server refused something.
pub(super) fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    postgres(error).map(PgDatabaseError::code)
}

/// What the server said, without row values.
pub(super) fn words(error: &sqlx::Error) -> String {
    match postgres(error) {
        Some(found) => told(found),
        None => "the connection broke".into(),
    }
}

/// The server cannot be talked to; if a transaction was open its outcome is unknown.
pub(super) fn unreachable(shard: &ShardId, why: &str) -> EngineError {
    EngineError::Connection(
        Failure::new(
            ErrorCode::ShardUnreachable,
            format!("shard {shard} cannot be reached: {why}"),
            "check that its server runs and that the worker's dsn leads to it; work goes on by itself",
        )
        .on_shard(shard),
    )
}

fn postgres(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(|found| found.try_downcast_ref::<PgDatabaseError>())
}

fn refused(shard: &ShardId, found: &PgDatabaseError) -> EngineError {
    let code = found.code();
    let said = told(found);
    let failure = |code, message: String, next: &str| Failure::new(code, message, next).on_shard(shard);
    match (code, code.get(..2).unwrap_or_default()) {
        ("40001" | "40P01" | "55P03", _) => EngineError::Contended(failure(
            ErrorCode::RowContended,
            format!("the application holds the same rows: {said}"),
            "nothing: it is tried again; if it lasts, look for long transactions on the shard",
        )),
        ("57014", _) => EngineError::TooSlow(failure(
            ErrorCode::RowContended,
            format!("a statement was ended: {said}"),
            "nothing: a smaller batch is tried; if it lasts, the shard is overloaded",
        )),
        ("25006", _) => EngineError::Failed(failure(
            ErrorCode::ShardReadOnly,
            format!("shard {shard} accepts no writes: {said}"),
            "make the server writable, or point the worker's dsn to the primary; then resume",
        )),
        (_, "53" | "54") => EngineError::Failed(failure(
            ErrorCode::ShardOutOfResources,
            format!("shard {shard} lacks a resource: {said}"),
            "give the server room (disk, memory, connections), then resume",
        )),
        ("57P01" | "57P02" | "57P03" | "57P05" | "25P03", _) | (_, "08") => unreachable(shard, &said),
        (_, "28" | "3D") => EngineError::Failed(failure(
            ErrorCode::ShardUnreachable,
            format!("shard {shard} does not let the worker in: {said}"),
            "correct user, password or database in the worker's dsn for this shard",
        )),
        // Its message shows the bytes. Met when a row is read: a database in SQL_ASCII takes whatever it is given.
        ("22021", _) => EngineError::Row(failure(
            ErrorCode::RowRejected,
            "a row holds bytes that are not text in UTF-8 (22021)".into(),
            "mend the row, or leave the column to a `sql` transform that does not read it; then retry",
        )),
        (_, "22" | "23" | "44" | "P0") => EngineError::Row(failure(
            ErrorCode::RowRejected,
            format!("the database refused a changed row: {said}"),
            "mend the row or the transform, then retry",
        )),
        ("42501", _) => EngineError::Failed(failure(
            ErrorCode::ShardRefused,
            format!("the worker's database user lacks a privilege: {said}"),
            "grant it, then retry",
        )),
        (_, "42") => EngineError::Failed(failure(
            ErrorCode::TransformInvalid,
            format!("the migration does not fit the shard's tables: {said}"),
            "compare the shard's schema with the spec",
        )),
        _ => EngineError::Failed(failure(
            ErrorCode::ShardRefused,
            format!("shard {shard} refused: {said}"),
            "see the server's log",
        )),
    }
}

/// The server's message where it cannot hold a row's value, and its SQLSTATE. `DETAIL` is never shown.
fn told(found: &PgDatabaseError) -> String {
    let message = match found.code().get(..2) {
        // "invalid input syntax for type integer: "…"": what stands in quotes is a value.
        Some("22") => without_quoted(found.message()),
        // RAISE in somebody's trigger: may say anything.
        Some("P0") => "a function or trigger of the shard raised an exception".into(),
        _ => found.message().to_owned(),
    };
    match found.constraint().or(found.column()) {
        Some(name) if !message.contains(name) => format!("{message} [{name}] ({})", found.code()),
        _ => format!("{message} ({})", found.code()),
    }
}

fn without_quoted(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}\"…\"{}", &message[..first], &message[last + 1..])
        }
        _ => message.to_owned(),
    }
}

/// Operating system errors hold no secret, but what wraps them might: only the kind is told.
fn io_words(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused",
        io::ErrorKind::TimedOut => "it did not answer in time",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "the connection was reset",
        io::ErrorKind::UnexpectedEof => "the server closed the connection",
        io::ErrorKind::NotFound => "its host name or socket is not known here",
        _ => "the network refused",
    }
}

fn shape_of(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::RowNotFound => "no row where one was expected",
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => "a value of an unexpected type",
        sqlx::Error::Encode(_) => "a value that cannot be sent",
        _ => "an unexpected shape",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_messages_are_left_out() {
        assert_eq!(
            without_quoted("invalid input syntax for type integer: \"a \"secret\" b\""),
            "invalid input syntax for type integer: \"…\""
        );
        assert_eq!(without_quoted("value \"99\" is out of range"), "value \"…\" is out of range");
        assert_eq!(without_quoted("division by zero"), "division by zero");
    }

    #[test]
    fn a_broken_connection_is_no_answer() {
        let shard = ShardId::new("s").expect("a name");
        let broken = sqlx::Error::Io(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(matches!(trouble(&shard, broken), EngineError::Connection(_)));
    }
}
