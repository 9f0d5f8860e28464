//! What is wrong with a spec file, all at once.

use std::fmt;

use crate::failure::{ErrorCode, Failure};

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// [`ErrorCode::SpecInvalid`] or [`ErrorCode::SpecUnsupported`].
    pub code: ErrorCode,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub next: String,
}

/// Everything that is wrong with one file, in the order of its text. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblems {
    /// The file's name as the user knows it.
    pub file: String,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl SpecProblems {
    /// Puts the problems into the order of the text; what was told twice is told once.
    pub(super) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { file: file.to_owned(), problems }
    }

    /// The form that reaches a person, the wire and the exit code.
    pub fn failures(&self) -> Vec<Failure> {
        self.problems.iter().map(|problem| problem.failure(&self.file)).collect()
    }
}

impl Problem {
    fn failure(&self, file: &str) -> Failure {
        let place = format!("{file}:{}:{}", self.line, self.column);
        Failure::new(self.code, &self.message, &self.next).in_file(place)
    }
}

impl From<SpecProblems> for Vec<Failure> {
    fn from(problems: SpecProblems) -> Self {
        problems.failures()
    }
}

impl fmt::Display for SpecProblems {
    /// One line for each problem, in the way of compilers: `file:line:column: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{}:{}: {}", self.file, problem.line, problem.column, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecProblems {}
