//! Where answers and complaints go: standard output and standard error, in colour or not, as tables, JSON or YAML.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use shardlift_domain::failure::Failure;
use shardlift_domain::spec::SpecFile;

use crate::view::paint::Paint;
use crate::view::{failure, json, yaml};

/// The form of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Tables and sentences for people.
    Table,
    /// JSON for scripts; failures too, on standard error.
    Json,
    /// The same as YAML; of a sequence, each value is a document.
    Yaml,
}

impl Output {
    /// Whether a person reads it as sentences.
    pub(crate) fn is_table(self) -> bool {
        self == Self::Table
    }

    /// A whole answer of a program.
    pub(crate) fn whole(self, value: &Value) -> String {
        match self {
            Output::Table | Output::Json => json::pretty(value),
            Output::Yaml => yaml::document(value),
        }
    }

    /// One value of a sequence.
    pub(crate) fn one(self, value: &Value) -> String {
        match self {
            Output::Table | Output::Json => json::compact(value),
            Output::Yaml => yaml::document(value),
        }
    }
}

/// Why a verb ended without its answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// Refused, here or by the coordinator. `files`: the specs in question.
    #[error("refused")]
    Refused { failures: Vec<Failure>, files: Vec<SpecFile> },
    /// The answer cannot be written, or the user's cannot be read.
    #[error("reading or writing failed: {0}")]
    Stream(#[from] io::Error),
}

impl From<Vec<Failure>> for Ended {
    fn from(failures: Vec<Failure>) -> Self {
        Ended::Refused { failures, files: Vec::new() }
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        vec![failure].into()
    }
}

/// Both streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    pub(crate) output: Output,
    /// For standard output.
    pub(crate) paint: Paint,
    complaints: Paint,
}

impl Console {
    /// `no_color`: the value of NO_COLOR; anything but nothing means no colour.
    pub(crate) fn new(output: Output, no_color: Option<&str>) -> Self {
        let wanted = no_color.is_none_or(str::is_empty);
        Self {
            output,
            paint: Paint::new(wanted && io::stdout().is_terminal()),
            complaints: Paint::new(wanted && io::stderr().is_terminal()),
        }
    }

    /// Whether a person watches both streams.
    pub(crate) fn is_live(&self) -> bool {
        io::stdout().is_terminal() && io::stderr().is_terminal()
    }

    /// Writes an answer in the form that was asked for.
    pub(crate) fn answer(
        &self,
        table: impl FnOnce(Paint) -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<(), Ended> {
        match self.output {
            Output::Table => self.say(&table(self.paint)),
            form => self.say(&form.whole(&json())),
        }
    }

    /// Writes a sentence; nothing in JSON, where the answer speaks for itself.
    pub(crate) fn remark(&self, text: &str) -> Result<(), Ended> {
        match self.output {
            Output::Table => self.say(text),
            Output::Json | Output::Yaml => Ok(()),
        }
    }

    /// Writes to standard output.
    pub(crate) fn say(&self, text: &str) -> Result<(), Ended> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Writes failures to standard error. There is nowhere to complain when that fails.
    pub(crate) fn complain(&self, failures: &[Failure], files: &[SpecFile]) {
        let text = match self.output {
            Output::Table => failure::failures(self.complaints, failures, files),
            form => form.whole(&json::failures(failures)),
        };
        self.note(&text);
    }

    /// Writes to standard error, where it disturbs no script.
    pub(crate) fn note(&self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
