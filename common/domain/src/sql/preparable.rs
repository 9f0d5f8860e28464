//! Which statements cannot be part of a prepared transaction. What only the server can know, it says when it prepares.

use squawk_syntax::SyntaxKind;
use squawk_syntax::ast::{AstNode, Stmt};

use super::class::Class;
use super::tree::meaning;

/// Words that may stand before `TEMP` in `CREATE … TEMP TABLE`.
const BEFORE: [SyntaxKind; 6] = [
    SyntaxKind::CREATE_KW,
    SyntaxKind::OR_KW,
    SyntaxKind::REPLACE_KW,
    SyntaxKind::LOCAL_KW,
    SyntaxKind::GLOBAL_KW,
    SyntaxKind::RECURSIVE_KW,
];

/// Why the statement cannot be prepared; `None`: as far as its text says, it can.
pub(super) fn unpreparable(stmt: &Stmt, class: &Class) -> Option<&'static str> {
    if matches!(class, Class::NonTransactional(_)) {
        return Some("it refuses a transaction; put it into a spec of its own that is not atomic");
    }
    if matches!(stmt, Stmt::Notify(_)) {
        return Some("NOTIFY cannot be prepared");
    }
    let temporary = |kind| matches!(kind, SyntaxKind::TEMP_KW | SyntaxKind::TEMPORARY_KW);
    let mut words = meaning(stmt.syntax()).map(|token| token.kind());
    let created = words.find(|kind| !BEFORE.contains(kind)).is_some_and(temporary);
    let named = || {
        meaning(stmt.syntax()).any(|token| {
            token.kind() == SyntaxKind::IDENT
                && token.text().trim_matches('"').eq_ignore_ascii_case("pg_temp")
        })
    };
    (created || named()).then_some("temporary objects end with their session, so they cannot be prepared")
}
