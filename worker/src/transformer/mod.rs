//! What turns an old row or document into a new one, in the worker.
//!
//! A transformer sees one document as a [`Document`] and changes it in place. It knows no database: engines turn
//! rows into documents and write back only the fields that differ afterwards.
//!
//! [`factory`] makes the one that a spec asks for: [`vrl`] runs a program of the spec; [`message`], [`tenant`] and
//! [`channel`] are compiled in, as yours may be ([`factory`] says how). All of them are pure: no clock, no chance, no
//! network, no state between documents.

pub mod channel;
pub mod factory;
pub mod marks;
pub mod message;
pub mod options;
pub mod tenant;
#[cfg(test)]
mod testing;
pub mod vrl;

use ::vrl::value::{ObjectMap, Value};

/// One row or document: top-level fields by name.
pub type Document = ObjectMap;

/// Why a row could not be transformed. Names no value of the row beyond field names and types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TransformError {
    /// What went wrong, in one sentence.
    pub message: String,
}

impl TransformError {
    /// An error with this sentence, which must hold no value of the row.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// A field has another type than the transformer can work with.
    pub(crate) fn type_of(field: &str, found: &Value, wanted: &str) -> Self {
        Self::new(format!("field `{field}` is {}, not {wanted}", type_name(found)))
    }
}

/// A transform that runs in the worker. Pure: the same document gives the same result.
pub trait Transformer: Send + Sync {
    /// The word in the spec: `vrl`, `message`, …
    fn name(&self) -> &str;

    /// Changes the document in place. On an error the document is not used any more.
    fn transform(&self, document: &mut Document) -> Result<(), TransformError>;
}

/// What a user would call the type of a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Bytes(bytes) if std::str::from_utf8(bytes).is_ok() => "text",
        Value::Bytes(_) => "bytes that are not UTF-8",
        Value::Regex(_) => "a regular expression",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Timestamp(_) => "a timestamp",
        Value::Object(_) => "an object",
        Value::Array(_) => "an array",
        Value::Null => "null",
    }
}
