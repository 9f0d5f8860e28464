//! Reads the options of a compiled-in transformer from the spec: typed, with defaults, every problem at once.
//!
//! A key that nobody asked for is refused (promise P14). It must not touch documents.

use serde_json::Value as Json;
use vrl::value::{ObjectMap, Value};

/// The options of one transformer while it is being built.
#[derive(Debug)]
pub struct Options<'a> {
    values: Option<&'a serde_json::Map<String, Json>>,
    known: Vec<&'static str>,
    problems: Vec<String>,
}

impl<'a> Options<'a> {
    /// Starts reading. `null` is the same as no options.
    pub fn of(options: &'a Json) -> Self {
        let mut problems = Vec::new();
        if !options.is_object() && !options.is_null() {
            problems.push(format!("options must be an object, not {}", json_type(options)));
        }
        Self { values: options.as_object(), known: Vec::new(), problems }
    }

    /// The name of a top-level field of the document.
    pub fn field(&mut self, key: &'static str, default: &str) -> String {
        self.optional_field(key).unwrap_or_else(|| default.to_owned())
    }

    /// The name of a top-level field that need not be given.
    pub fn optional_field(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Json::String(name) if !name.is_empty() => Some(name.clone()),
            other => self.wrong(key, "the name of a field", other),
        }
    }

    /// A whole number.
    pub fn integer(&mut self, key: &'static str, default: i64) -> i64 {
        let given = match self.take(key) {
            None => None,
            Some(number) => number.as_i64().or_else(|| self.wrong(key, "a whole number", number)),
        };
        given.unwrap_or(default)
    }

    /// An object, empty if it is not given.
    pub fn object(&mut self, key: &'static str) -> ObjectMap {
        let given = match self.take(key) {
            None => None,
            Some(value @ Json::Object(_)) => Value::from(value.clone()).into_object(),
            Some(other) => self.wrong(key, "an object", other),
        };
        given.unwrap_or_default()
    }

    /// Refuses two options that name the same field: the transformer would overwrite its own result.
    pub fn distinct(&mut self, fields: &[(&'static str, Option<&str>)]) {
        for (index, (key, field)) in fields.iter().enumerate() {
            let Some(field) = field else { continue };
            if let Some((earlier, _)) = fields[..index].iter().find(|(_, other)| *other == Some(*field)) {
                self.problems.push(format!("`{earlier}` and `{key}` both name the field `{field}`"));
            }
        }
    }

    /// All problems, among them the keys that nobody asked for.
    pub fn finish(mut self) -> Result<(), Vec<String>> {
        for key in self.values.into_iter().flat_map(serde_json::Map::keys) {
            if !self.known.contains(&key.as_str()) {
                let known = format!("known options: {}", self.known.join(", "));
                let hint = did_you_mean(key, &self.known).unwrap_or(known);
                self.problems.push(format!("unknown option `{key}` ({hint})"));
            }
        }
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems) }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Json> {
        self.known.push(key);
        self.values?.get(key)
    }

    fn wrong<T>(&mut self, key: &str, wanted: &str, found: &Json) -> Option<T> {
        self.problems.push(format!("option `{key}` must be {wanted}, not {}", json_type(found)));
        None
    }
}

/// The known word that is closest to what was written, as a question; `None` if nothing is close.
pub fn did_you_mean(written: &str, known: &[&str]) -> Option<String> {
    let best = known
        .iter()
        .map(|word| (strsim::jaro_winkler(written, word), word))
        .filter(|(closeness, _)| *closeness >= 0.8)
        .max_by(|(left, _), (right, _)| left.total_cmp(right));
    best.map(|(_, word)| format!("did you mean `{word}`?"))
}

fn json_type(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(number) if number.is_f64() => "a number with a fraction",
        Json::Number(_) => "a number",
        Json::String(text) if text.is_empty() => "empty text",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_options_take_their_defaults() {
        let absent = Json::Null;
        let mut options = Options::of(&absent);
        assert_eq!(options.field("field", "body"), "body");
        assert_eq!(options.integer("version", 2), 2);
        assert_eq!(options.optional_field("count_field"), None);
        assert!(options.object("defaults").is_empty());
        assert_eq!(options.finish(), Ok(()));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let given = json!({"field": 7, "version": 1.5, "defaults": [], "verison": 3, "colour": "red"});
        let mut options = Options::of(&given);
        options.field("field", "body");
        options.integer("version", 2);
        options.object("defaults");
        let problems = options.finish().expect_err("five problems");
        assert_eq!(
            problems,
            [
                "option `field` must be the name of a field, not a number",
                "option `version` must be a whole number, not a number with a fraction",
                "option `defaults` must be an object, not a list",
                "unknown option `verison` (did you mean `version`?)",
                "unknown option `colour` (known options: field, version, defaults)",
            ]
        );
    }

    #[test]
    fn options_that_are_no_object_are_refused() {
        let given = json!("body");
        assert_eq!(Options::of(&given).finish().expect_err("text"), ["options must be an object, not text"]);
    }

    #[test]
    fn two_options_cannot_name_one_field() {
        let absent = Json::Null;
        let mut options = Options::of(&absent);
        options.distinct(&[("field", Some("body")), ("text_field", Some("body")), ("count_field", None)]);
        assert_eq!(
            options.finish().expect_err("twice"),
            ["`field` and `text_field` both name the field `body`"]
        );
    }
}
