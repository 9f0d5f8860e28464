//! `vrl`: a program of the spec in Vector Remap Language, run on each row or document.
//!
//! The document is the root `.`; what the program leaves there is the new document. Compiled once, without functions
//! that reach network, environment or files; what is not repeatable is refused ([`repeatable`]). Each document has a
//! budget of expressions, counted and not timed, so that the same document always meets the same end.

mod repeatable;
mod words;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::{Program, TargetValueRef, TimeZone};
use vrl::diagnostic::DiagnosticList;
use vrl::value::{Secrets, Value};

use super::{Document, TransformError, Transformer, type_name};

/// The word in the spec.
pub const NAME: &str = "vrl";

/// Longest program in bytes.
pub const MAX_SOURCE: usize = 64 * 1024;

/// Expressions evaluated for one document before the program is stopped: seconds, where a usual program needs
/// microseconds.
pub const MAX_EXPRESSIONS: u32 = 1_000_000;

/// Dots and brackets in one word of a program: the parser's time grows with the square of a path's length.
const MAX_PATH: usize = 200;

/// Problems of one program that are told at once.
const MAX_PROBLEMS: usize = 5;

/// A compiled program.
#[derive(Debug)]
pub struct Vrl {
    program: Program,
    source: String,
    zone: TimeZone,
}

impl Vrl {
    /// Compiles the program. The error tells each problem with its line and column.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.trim().is_empty() {
            return Err("it is empty".to_owned());
        }
        if source.len() > MAX_SOURCE {
            return Err(format!("it is longer than {MAX_SOURCE} bytes"));
        }
        let in_path = |word: &str| word.chars().filter(|letter| matches!(letter, '.' | '[')).count();
        if source.split([' ', '\t', '\r', '\n', ',']).any(|word| in_path(word) > MAX_PATH) {
            return Err(format!("it has a path of more than {MAX_PATH} parts"));
        }
        // A program that does not parse is left to the compiler, whose message is the better one.
        if let Ok(parsed) = vrl::parser::parse(source) {
            let findings = repeatable::findings(parsed);
            if !findings.is_empty() {
                let told = findings.iter().map(|(at, message)| words::at(source, *at, message));
                return Err(told.take(MAX_PROBLEMS).collect::<Vec<_>>().join("; "));
            }
        }
        let compiled =
            vrl::compiler::compile(source, &vrl::stdlib::all()).map_err(|found| problems(source, &found))?;
        for warning in compiled.warnings.iter() {
            tracing::warn!("VRL program: {}", words::diagnostic(source, warning));
        }
        let program = compiled.program;
        if !program.final_type_info().state.external.target_kind().contains_object() {
            return Err("it leaves something at the root `.` that is not an object".to_owned());
        }
        let zone = TimeZone::parse("UTC").expect("UTC is in every table of time zones");
        Ok(Self { program, source: source.to_owned(), zone })
    }

    fn run(&self, root: &mut Value) -> Result<(), TransformError> {
        let mut metadata = Value::Null;
        let mut secrets = Secrets::new();
        let mut target = TargetValueRef { value: root, metadata: &mut metadata, secrets: &mut secrets };
        let mut left = MAX_EXPRESSIONS;
        let mut budget = || match left.checked_sub(1) {
            Some(fewer) => {
                left = fewer;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        };
        let outcome =
            Runtime::default().resolve_with_control(&mut target, &self.program, &self.zone, &mut budget);
        match outcome {
            Ok(_) => Ok(()),
            Err(Terminate::Interrupted) => Err(TransformError::new(format!(
                "the VRL program needed more than {MAX_EXPRESSIONS} expressions for this document"
            ))),
            Err(Terminate::Abort(error) | Terminate::Error(error)) => {
                Err(TransformError::new(words::runtime_error(&self.source, &error)))
            }
        }
    }
}

impl Transformer for Vrl {
    fn name(&self) -> &str {
        NAME
    }

    fn transform(&self, document: &mut Document) -> Result<(), TransformError> {
        let mut root = Value::Object(std::mem::take(document));
        // The library has a few `expect`s in its parsers of dates and numbers: one odd row must not end the worker.
        match catch_unwind(AssertUnwindSafe(|| self.run(&mut root))) {
            Ok(outcome) => outcome?,
            Err(_) => {
                return Err(TransformError::new("a function of the VRL program crashed on this document"));
            }
        }
        match root {
            Value::Object(fields) => {
                *document = fields;
                Ok(())
            }
            other => Err(TransformError::new(format!(
                "the VRL program left {} at the root `.`, not an object",
                type_name(&other)
            ))),
        }
    }
}

fn problems(source: &str, found: &DiagnosticList) -> String {
    let told = found.iter().filter(|problem| problem.is_problem());
    told.take(MAX_PROBLEMS).map(|problem| words::diagnostic(source, problem)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
