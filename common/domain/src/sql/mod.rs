//! What Shardlift understands of SQL text: where statements end, which of them refuse a transaction, and whether a
//! text is really one expression or one name.
//!
//! It judges text only: it knows no table, opens no connection and must not guess what a server would answer.

mod canonical;
mod class;
mod dangers;
mod drops;
mod expression;
mod guard;
mod locks;
mod names;
mod preparable;
mod query;
mod refused;
mod repeatable;
mod split;
mod touched;
mod tree;

#[cfg(test)]
mod expression_tests;
#[cfg(test)]
mod split_tests;

pub(crate) use canonical::canonical;
pub use class::{Class, NonTransactionalKind};
pub(crate) use dangers::dangers;
pub use drops::{Dropped, drops};
pub use expression::check_expression;
pub use locks::{Lock, locks};
pub use names::{Relation, check_relation, parse_ident, parse_relation, quote_ident, quote_literal};
pub use query::check_query;
pub use repeatable::{calls, unrepeatable};
pub use split::{Statement, split};
pub use touched::touched;
pub(crate) use tree::{Comment, comments};

/// Longest SQL text that is parsed, in bytes.
pub const MAX_SQL: usize = 256 * 1024;

/// What is wrong with an SQL text, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct SqlProblem {
    /// Line in the text, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl SqlProblem {
    /// A problem at a byte offset of the text.
    fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let (line, column) = position(text, offset);
        Self { line, column, message: message.into() }
    }
}

/// Line and column (both from 1, columns in characters) of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let clamp = |count: usize| u32::try_from(count).unwrap_or(u32::MAX - 1) + 1;
    (clamp(line), clamp(column))
}
