//! Statements that users must not write, with the reason and the way out.

use squawk_syntax::SyntaxKind;
use squawk_syntax::ast::{AstNode, Copy, CopyDirection, CopySource, CopyTarget, Set, SetScope, Stmt};

use super::tree::{meaning, start};

const TRANSACTION: &str = "Shardlift opens and ends the transactions; leave this statement out";
const SESSION: &str = "it would change the session for everything that runs after it";
const SERVER: &str = "it concerns the whole server and cannot be resumed after a crash; run it by hand";

/// Why this statement is refused: byte offset and reason. `None`: it may run.
pub(super) fn refusal(stmt: &Stmt) -> Option<(usize, String)> {
    let reason = transaction(stmt).or_else(|| session(stmt)).or_else(|| server(stmt));
    match reason {
        Some(reason) => Some((start(stmt.syntax()), reason)),
        None => reserved(stmt),
    }
}

fn transaction(stmt: &Stmt) -> Option<String> {
    let word = match stmt {
        Stmt::Begin(_) => "BEGIN",
        Stmt::Commit(_) => "COMMIT",
        Stmt::Rollback(_) => "ROLLBACK",
        Stmt::SavepointCreate(_) => "SAVEPOINT",
        Stmt::ReleaseSavepoint(_) => "RELEASE SAVEPOINT",
        Stmt::PrepareTransaction(_) => "PREPARE TRANSACTION",
        Stmt::SetTransaction(_) => "SET TRANSACTION",
        _ => return None,
    };
    Some(format!("{word} is not allowed: {TRANSACTION}"))
}

fn session(stmt: &Stmt) -> Option<String> {
    let word = match stmt {
        Stmt::Set(set) if !is_local(set) => {
            return Some(format!("SET is not allowed: {SESSION}; write SET LOCAL"));
        }
        Stmt::SetRole(_) => "SET ROLE",
        Stmt::SetSessionAuth(_) => "SET SESSION AUTHORIZATION",
        Stmt::Reset(_) | Stmt::ResetRole(_) | Stmt::ResetSessionAuth(_) => "RESET",
        Stmt::Discard(_) => "DISCARD",
        Stmt::Prepare(_) | Stmt::Execute(_) | Stmt::Deallocate(_) => "a prepared statement",
        Stmt::Declare(_) | Stmt::Fetch(_) | Stmt::Move(_) | Stmt::Close(_) => "a cursor",
        Stmt::Listen(_) | Stmt::Unlisten(_) => "LISTEN",
        Stmt::Load(_) => "LOAD",
        Stmt::Copy(copy) if needs_client(copy) => {
            return Some(
                "COPY FROM STDIN or TO STDOUT is not allowed: there is no client with the data".into(),
            );
        }
        _ => return None,
    };
    Some(format!("{word} is not allowed: {SESSION}"))
}

fn server(stmt: &Stmt) -> Option<String> {
    let word = match stmt {
        Stmt::CreateDatabase(_) => "CREATE DATABASE",
        Stmt::DropDatabase(_) => "DROP DATABASE",
        Stmt::AlterDatabase(alter)
            if meaning(alter.syntax()).any(|t| t.kind() == SyntaxKind::TABLESPACE_KW) =>
        {
            "ALTER DATABASE … SET TABLESPACE"
        }
        Stmt::CreateTablespace(_) => "CREATE TABLESPACE",
        Stmt::DropTablespace(_) => "DROP TABLESPACE",
        Stmt::CreateSubscription(_) => "CREATE SUBSCRIPTION",
        Stmt::AlterSubscription(_) => "ALTER SUBSCRIPTION",
        Stmt::DropSubscription(_) => "DROP SUBSCRIPTION",
        Stmt::Repack(_) => "REPACK",
        _ => return None,
    };
    Some(format!("{word} is not allowed: {SERVER}"))
}

fn is_local(set: &Set) -> bool {
    matches!(set.set_scope(), Some(SetScope::LocalScope(_)))
}

fn needs_client(copy: &Copy) -> bool {
    match copy.copy_direction() {
        Some(CopyDirection::CopyFrom(from)) => {
            matches!(from.copy_source(), Some(CopySource::CopyStdin(_) | CopySource::CopyStdout(_)))
        }
        Some(CopyDirection::CopyTo(to)) => matches!(to.copy_target(), Some(CopyTarget::CopyStdout(_))),
        None => false,
    }
}

/// Shardlift's own schema must not be touched. This guards against accidents, not against malice: who may run SQL on
/// a shard can always reach it.
fn reserved(stmt: &Stmt) -> Option<(usize, String)> {
    let runs_text = matches!(stmt, Stmt::Do(_) | Stmt::CreateFunction(_) | Stmt::CreateProcedure(_));
    meaning(stmt.syntax()).find(|token| names_us(token.kind(), token.text(), runs_text)).map(|token| {
        let reason = "the name shardlift belongs to Shardlift's own schema in the shard; a migration must not touch it";
        (usize::from(token.text_range().start()), reason.to_owned())
    })
}

/// Whether a token names Shardlift's schema: as an identifier, or inside the body of a function.
pub(super) fn names_us(kind: SyntaxKind, text: &str, runs_text: bool) -> bool {
    match kind {
        SyntaxKind::IDENT => text.trim_matches('"').eq_ignore_ascii_case("shardlift"),
        SyntaxKind::STRING | SyntaxKind::ESC_STRING | SyntaxKind::DOLLAR_QUOTED_STRING if runs_text => {
            let body = text.to_ascii_lowercase().replace('"', "");
            body.match_indices("shardlift").any(|(at, word)| {
                let before = body[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                    && body[at + word.len()..].trim_start().starts_with('.')
            })
        }
        _ => false,
    }
}
