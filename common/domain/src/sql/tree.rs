//! The syntax tree of an SQL text: the only file that knows how the parser's tree is walked.

use squawk_syntax::ast::{AstNode, Stmt};
use squawk_syntax::{Parse, SourceFile, SyntaxKind, SyntaxNode, SyntaxToken};

use super::guard::with_tree;
use super::{SqlProblem, position};

/// Most syntax errors that are told of one text: one mistake makes the parser stumble several times.
const MAX_ERRORS: usize = 3;

/// A parsed text.
pub(super) struct Tree<'t> {
    /// What was parsed.
    pub(super) text: &'t str,
    parsed: Parse<SourceFile>,
    root: SyntaxNode,
    errors: Vec<(usize, String)>,
}

impl<'t> Tree<'t> {
    /// Parses; call it through [`with_tree`] only, which keeps it inside bounds.
    pub(super) fn parse(text: &'t str) -> Self {
        let parsed = SourceFile::parse(text);
        let errors = parsed
            .errors()
            .iter()
            .map(|e| (usize::from(e.range().start()), e.message().to_owned()))
            .collect();
        Self { text, root: parsed.syntax_node(), parsed, errors }
    }

    /// What the parser made, for whoever walks it himself.
    pub(super) fn parsed(&self) -> &Parse<SourceFile> {
        &self.parsed
    }

    /// The first syntax errors, in the order of the text.
    pub(super) fn problems(&self) -> Vec<SqlProblem> {
        let mut problems: Vec<SqlProblem> = Vec::new();
        for (offset, message) in &self.errors {
            if problems.len() == MAX_ERRORS {
                break;
            }
            let problem = SqlProblem::at(self.text, *offset, format!("SQL syntax: {}", readable(message)));
            if problems.last().is_none_or(|last| last.line != problem.line) {
                problems.push(problem);
            }
        }
        problems
    }

    /// The first syntax error, with its byte offset.
    pub(super) fn first_error(&self) -> Option<(usize, String)> {
        self.errors.first().map(|(offset, message)| (*offset, readable(message)))
    }

    /// The statements, without the empty ones that stray semicolons make.
    pub(super) fn statements(&self) -> Vec<Stmt> {
        self.root
            .children()
            .filter_map(Stmt::cast)
            .filter(|stmt| !matches!(stmt, Stmt::EmptyStmt(_)))
            .collect()
    }

    /// Whether there is a node of such a kind.
    pub(super) fn has(&self, wanted: impl Fn(SyntaxKind) -> bool) -> bool {
        self.root.descendants().any(|node| wanted(node.kind()))
    }

    /// Every token, trivia included.
    pub(super) fn tokens(&self) -> impl Iterator<Item = SyntaxToken> + use<> {
        tokens(&self.root)
    }
}

/// Every token below a node, trivia included.
pub(super) fn tokens(node: &SyntaxNode) -> impl Iterator<Item = SyntaxToken> + use<> {
    node.descendants_with_tokens().filter_map(|element| element.into_token())
}

/// Tokens below a node that mean something.
pub(super) fn meaning(node: &SyntaxNode) -> impl Iterator<Item = SyntaxToken> + use<> {
    tokens(node).filter(|token| !token.kind().is_trivia())
}

/// The byte range of a node without blanks, comments and semicolons at its ends.
pub(super) fn trimmed(node: &SyntaxNode) -> (usize, usize) {
    let mut range: Option<(usize, usize)> = None;
    for token in meaning(node).filter(|token| token.kind() != SyntaxKind::SEMICOLON) {
        let (start, end) = (usize::from(token.text_range().start()), usize::from(token.text_range().end()));
        range = Some((range.map_or(start, |(first, _)| first), end));
    }
    range.unwrap_or((usize::from(node.text_range().start()), usize::from(node.text_range().start())))
}

/// Byte offset of a node's first token that means something.
pub(super) fn start(node: &SyntaxNode) -> usize {
    trimmed(node).0
}

/// One comment of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comment {
    /// Byte offset of its first character.
    pub(crate) start: usize,
    /// Byte offset after its last character.
    pub(crate) end: usize,
    /// Line of its first character, from 1.
    pub(crate) line: u32,
    /// Column of its first character, from 1.
    pub(crate) column: u32,
    /// Itself, with its `--`.
    pub(crate) text: String,
}

/// All comments of a text, whether or not the text is valid SQL.
pub(crate) fn comments(text: &str) -> Result<Vec<Comment>, SqlProblem> {
    with_tree(text, |tree| {
        let of_kind = tree.tokens().filter(|token| token.kind() == SyntaxKind::COMMENT);
        of_kind
            .map(|token| {
                let (start, end) =
                    (usize::from(token.text_range().start()), usize::from(token.text_range().end()));
                let (line, column) = position(text, start);
                Comment { start, end, line, column, text: token.text().to_owned() }
            })
            .collect()
    })
}

/// The parser names tokens in the way of its source code: `expected THEN_KW, found R_PAREN`.
fn readable(message: &str) -> String {
    let word = |word: &str| match word.trim_end_matches([',', '.']) {
        "SEMICOLON" => "';'".to_owned(),
        "L_PAREN" => "'('".to_owned(),
        "R_PAREN" => "')'".to_owned(),
        "COMMA" => "','".to_owned(),
        "IDENT" => "a name".to_owned(),
        "INT_NUMBER" | "NUMERIC_NUMBER" => "a number".to_owned(),
        "STRING" => "a text".to_owned(),
        "EOF" => "the end".to_owned(),
        _ => word.replace("_KW", ""),
    };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
