//! The marks that every compiled-in transformer leaves on a document: its new version, and on request a counter.
//!
//! The counter makes the transform one that shows each repetition, for rehearsals and tests of exactly-once.

use vrl::value::{KeyString, Value};

use super::options::Options;
use super::{Document, TransformError};

/// What to leave on each document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    version_field: KeyString,
    version: i64,
    count_field: Option<KeyString>,
}

impl Marks {
    /// Reads `version_field` (default `schema_version`), `version` (default 2) and `count_field` (default: none).
    /// `fields`: the options of the transformer that name the fields which it writes; no two may be the same.
    pub fn from_options(options: &mut Options<'_>, fields: &[(&'static str, &str)]) -> Self {
        let version_field = options.field("version_field", "schema_version");
        let version = options.integer("version", 2);
        let count_field = options.optional_field("count_field");
        let mut written: Vec<_> = fields.iter().map(|(key, field)| (*key, Some(*field))).collect();
        written.push(("version_field", Some(version_field.as_str())));
        written.push(("count_field", count_field.as_deref()));
        options.distinct(&written);
        Self { version_field: version_field.into(), version, count_field: count_field.map(KeyString::from) }
    }

    /// Sets the version and adds 1 to the counter; a missing or null counter is 0.
    pub fn leave_on(&self, document: &mut Document) -> Result<(), TransformError> {
        document.insert(self.version_field.clone(), Value::Integer(self.version));
        let Some(field) = &self.count_field else { return Ok(()) };
        let count = match document.get(field) {
            None | Some(Value::Null) => 0,
            Some(Value::Integer(count)) => *count,
            Some(other) => return Err(TransformError::type_of(field, other, "an integer")),
        };
        let next = count
            .checked_add(1)
            .ok_or_else(|| TransformError::new(format!("field `{field}` is at the largest integer")))?;
        document.insert(field.clone(), Value::Integer(next));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::transformer::Document;

    fn marks(options: &serde_json::Value) -> Marks {
        let mut options = Options::of(options);
        let marks = Marks::from_options(&mut options, &[("field", "body")]);
        options.finish().expect("good options");
        marks
    }

    fn document(json: serde_json::Value) -> Document {
        Value::from(json).into_object().expect("an object")
    }

    #[test]
    fn a_counter_counts_every_transformation() {
        let marks = marks(&json!({"count_field": "times"}));
        let mut row = document(json!({"times": null}));
        for expected in 1..=3 {
            marks.leave_on(&mut row).expect("counts");
            assert_eq!(row.get("times"), Some(&Value::Integer(expected)));
        }
        assert_eq!(row.get("schema_version"), Some(&Value::Integer(2)));
    }

    #[test]
    fn a_counter_that_is_text_or_full_is_an_error_of_the_row() {
        let marks = marks(&json!({"count_field": "times"}));
        let error = marks.leave_on(&mut document(json!({"times": "12"}))).expect_err("text");
        assert_eq!(error.message, "field `times` is text, not an integer");
        let error = marks.leave_on(&mut document(json!({"times": i64::MAX}))).expect_err("full");
        assert_eq!(error.message, "field `times` is at the largest integer");
    }

    #[test]
    fn the_counter_cannot_be_the_version() {
        let given = json!({"count_field": "schema_version"});
        let mut options = Options::of(&given);
        Marks::from_options(&mut options, &[]);
        assert!(options.finish().is_err());
    }
}
