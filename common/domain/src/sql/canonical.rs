//! SQL text without what does not matter: the form over which the checksum of a spec is made.
//!
//! Stored checksums depend on this form: a change of it makes every stored migration look like another one.

use squawk_syntax::{SyntaxKind, SyntaxToken};

use super::guard::with_tree;

/// The text with every run of blanks and comments reduced to the least that keeps its tokens apart. Text that cannot
/// be parsed stays as it is.
pub(crate) fn canonical(text: &str) -> String {
    with_tree(text, |tree| join(tree.tokens(), text.len())).unwrap_or_else(|_| text.trim().to_owned())
}

fn join(tokens: impl Iterator<Item = SyntaxToken>, capacity: usize) -> String {
    let mut out = String::with_capacity(capacity);
    let mut last: Option<SyntaxKind> = None;
    let (mut blank, mut newline) = (false, false);
    for token in tokens {
        if token.kind().is_trivia() {
            blank = true;
            newline |= token.text().contains('\n');
            continue;
        }
        if let Some(last) = last
            && blank
        {
            match (sort(last), sort(token.kind())) {
                // Two literals on two lines are one literal, on one line they are an error.
                (Sort::Word, Sort::Word) if newline && is_string(last) && is_string(token.kind()) => {
                    out.push('\n')
                }
                (Sort::Word, Sort::Word) | (Sort::Sign, Sort::Sign) => out.push(' '),
                _ => {}
            }
        }
        out.push_str(token.text());
        last = Some(token.kind());
        (blank, newline) = (false, false);
    }
    out
}

/// What a token may melt into when the blank before it goes.
#[derive(PartialEq)]
enum Sort {
    Word,
    Sign,
    Bracket,
}

fn sort(kind: SyntaxKind) -> Sort {
    match kind {
        SyntaxKind::L_PAREN
        | SyntaxKind::R_PAREN
        | SyntaxKind::L_BRACK
        | SyntaxKind::R_BRACK
        | SyntaxKind::COMMA
        | SyntaxKind::SEMICOLON => Sort::Bracket,
        kind if kind == SyntaxKind::IDENT || kind.is_keyword() || is_literal(kind) => Sort::Word,
        _ => Sort::Sign,
    }
}

fn is_string(kind: SyntaxKind) -> bool {
    is_literal(kind) && !matches!(kind, SyntaxKind::INT_NUMBER | SyntaxKind::NUMERIC_NUMBER)
}

fn is_literal(kind: SyntaxKind) -> bool {
    matches!(
        kind,
        SyntaxKind::BIT_STRING
            | SyntaxKind::BYTE_STRING
            | SyntaxKind::DOLLAR_QUOTED_STRING
            | SyntaxKind::ESC_STRING
            | SyntaxKind::INT_NUMBER
            | SyntaxKind::NATIONAL_STRING
            | SyntaxKind::NUMERIC_NUMBER
            | SyntaxKind::POSITIONAL_PARAM
            | SyntaxKind::STRING
            | SyntaxKind::UNICODE_ESC_STRING
    )
}
