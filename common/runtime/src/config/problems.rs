//! Everything that is wrong with a configuration, told at once.

use std::fmt;

use shardlift_domain::{ErrorCode, Failure};

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `file:line:column`, the name of an environment variable, or `command line`; empty when nobody said anything.
    pub place: String,
    /// Such as `cluster[1].shards`; empty when it is about the whole.
    pub key: String,
    /// What is wrong. Never the value of a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.key] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

/// All mistakes of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigProblems(Vec<Problem>);

impl ConfigProblems {
    /// Adds a mistake that the meaning of a key shows; the program's own checks use this.
    pub fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.add_at(String::new(), key, message);
    }

    pub(super) fn add_at(&mut self, place: String, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { place, key: key.into(), message: message.into() });
    }

    /// The mistakes, in the order in which they were found.
    pub fn list(&self) -> &[Problem] {
        &self.0
    }

    /// The value, if nothing is wrong.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "{one}"),
            many => {
                write!(f, "{} mistakes in the configuration:", many.len())?;
                many.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for ConfigProblems {}

impl From<ConfigProblems> for Failure {
    fn from(problems: ConfigProblems) -> Self {
        let failure = Failure::new(
            ErrorCode::ConfigInvalid,
            problems.to_string(),
            "mend the configuration and start again",
        );
        match problems.0.iter().find(|problem| problem.place.contains(':')) {
            Some(problem) => failure.in_file(&problem.place),
            None => failure,
        }
    }
}
