//! What the readers of a file share: the problems found so far, and what is known about the spec as a whole.

use crate::failure::ErrorCode;
use crate::spec::problem::Problem;
use crate::spec::yaml::{Mark, Node};
use crate::spec::{Engine, Kind};
use crate::sql::SqlProblem;

const NEXT_INVALID: &str = "correct the file; docs/spec.md describes every key";
const NEXT_UNSUPPORTED: &str = "leave it out: this release does not have it";

/// Collects problems instead of stopping at the first. A reader that returns `None` has told why.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// The spec's kind, if it could be read.
    pub(super) kind: Option<Kind>,
    /// The spec's engine, if it could be read.
    pub(super) engine: Option<Engine>,
    problems: Vec<Problem>,
}

impl Context {
    /// The file is wrong here.
    pub(super) fn invalid(&mut self, at: Mark, message: impl Into<String>) {
        self.push(at, ErrorCode::SpecInvalid, message.into(), NEXT_INVALID);
    }

    /// The file asks here for what this release does not have.
    pub(super) fn unsupported(&mut self, at: Mark, message: impl Into<String>) {
        self.push(at, ErrorCode::SpecUnsupported, message.into(), NEXT_UNSUPPORTED);
    }

    /// The SQL in this text is wrong. `what` names the text.
    pub(super) fn bad_sql(&mut self, node: &Node, what: &str, problem: &SqlProblem) {
        match node.place(problem.line, problem.column) {
            Some(at) => self.invalid(at, format!("{what}: {}", problem.message)),
            None => {
                let inside = format!("line {}, column {} of the text", problem.line, problem.column);
                self.invalid(node.at, format!("{what}: {} ({inside})", problem.message));
            }
        }
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// What was found.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn push(&mut self, at: Mark, code: ErrorCode, message: String, next: &str) {
        self.problems.push(Problem {
            line: at.line,
            column: at.column,
            code,
            message,
            next: next.to_owned(),
        });
    }
}
