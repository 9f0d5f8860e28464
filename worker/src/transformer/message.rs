//! `message`: plain text out of a message body, whatever form the application stored it in.
//!
//! Options: `field` (body), `text_field` (body_text), `version_field` (schema_version), `version` (2), `count_field`.
//!
//! A body is text, `{text}`, `{blocks: […]}` or a list of blocks; a block is again any of these. Blocks are joined by
//! newlines; runs of white space inside a line become one space; a body without any text gives null. The body itself
//! is left alone.

use std::sync::Arc;

use vrl::value::{KeyString, Value};

use super::marks::Marks;
use super::options::Options;
use super::{Document, TransformError, Transformer, type_name};

/// The word in the spec.
pub const NAME: &str = "message";

/// Blocks nested deeper than this are an error of the row: no client writes them, and recursion must be bounded.
pub const MAX_DEPTH: usize = 32;

/// Extracts the text of message bodies.
#[derive(Debug)]
pub struct Message {
    field: KeyString,
    text_field: KeyString,
    marks: Marks,
}

/// Makes it from the options of the spec.
pub(super) fn build(options: &mut Options<'_>) -> Arc<dyn Transformer> {
    let field = options.field("field", "body");
    let text_field = options.field("text_field", "body_text");
    let marks = Marks::from_options(options, &[("field", &field), ("text_field", &text_field)]);
    Arc::new(Message { field: field.into(), text_field: text_field.into(), marks })
}

impl Transformer for Message {
    fn name(&self) -> &str {
        NAME
    }

    fn transform(&self, document: &mut Document) -> Result<(), TransformError> {
        let mut texts = Vec::new();
        if let Some(body) = document.get(&self.field) {
            self.collect(body, 0, &mut texts)?;
        }
        let text = if texts.is_empty() { Value::Null } else { Value::from(join(&texts)) };
        document.insert(self.text_field.clone(), text);
        self.marks.leave_on(document)
    }
}

impl Message {
    fn collect(&self, block: &Value, depth: usize, texts: &mut Vec<String>) -> Result<(), TransformError> {
        if depth > MAX_DEPTH {
            let message = format!("field `{}` has blocks nested deeper than {MAX_DEPTH}", self.field);
            return Err(TransformError::new(message));
        }
        match block {
            Value::Null => Ok(()),
            Value::Bytes(_) | Value::String(_) => {
                let text = block.to_str().ok_or_else(|| self.unreadable(block, depth))?;
                texts.push(clean(text));
                Ok(())
            }
            Value::Array(blocks) => blocks.iter().try_for_each(|inner| self.collect(inner, depth + 1, texts)),
            Value::Object(fields) => {
                match fields.get("text") {
                    None | Some(Value::Null) => {}
                    Some(text @ (Value::Bytes(_) | Value::String(_))) => {
                        self.collect(text, depth, texts)?;
                    }
                    Some(other) => return Err(self.unreadable(other, depth + 1)),
                }
                match fields.get("blocks") {
                    None | Some(Value::Null) => Ok(()),
                    Some(blocks @ Value::Array(_)) => self.collect(blocks, depth, texts),
                    Some(other) => Err(self.unreadable(other, depth + 1)),
                }
            }
            other => Err(self.unreadable(other, depth)),
        }
    }

    fn unreadable(&self, found: &Value, depth: usize) -> TransformError {
        let place = if depth == 0 { "is" } else { "holds" };
        let found = type_name(found);
        TransformError::new(format!("field `{}` {place} {found} where text or blocks belong", self.field))
    }
}

/// One space for each run of white space inside a line; no blank lines at the ends.
fn clean(text: &str) -> String {
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

fn join(texts: &[String]) -> String {
    let filled: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    filled.join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::transformer::testing::{any_document, document, transformed};

    fn message() -> Arc<dyn Transformer> {
        let mut options = Options::of(&Json::Null);
        build(&mut options)
    }

    fn text_of(body: Json) -> Value {
        let after = transformed(&*message(), json!({ "body": body })).expect("a body it knows");
        assert_eq!(after.get("schema_version"), Some(&Value::Integer(2)));
        after.get("body_text").cloned().expect("always written")
    }

    #[test]
    fn each_form_of_a_body_gives_its_text() {
        let table = [
            (json!("  hello \t world \r\n\n second  line\n"), json!("hello world\n\nsecond line")),
            (json!({"text": "hi"}), json!("hi")),
            (json!({"text": "", "blocks": null}), json!("")),
            (
                json!({"blocks": [{"text": "one"}, "two", {"type": "divider"}, {"text": " "}]}),
                json!("one\ntwo"),
            ),
            (json!({"text": "head", "blocks": [{"blocks": [{"text": "deep"}]}]}), json!("head\ndeep")),
            (json!([{"text": "a list"}]), json!("a list")),
            (json!({"type": "image"}), Json::Null),
            (json!({"text": null}), Json::Null),
            (json!({"blocks": []}), Json::Null),
            (Json::Null, Json::Null),
            (json!({"text": "日本語　テキスト 👩‍💻"}), json!("日本語 テキスト 👩‍💻")),
        ];
        for (body, expected) in table {
            assert_eq!(text_of(body.clone()), Value::from(expected), "{body}");
        }
    }

    #[test]
    fn a_missing_body_gives_null_and_the_body_stays_as_it_was() {
        let after = transformed(&*message(), json!({"id": 1})).expect("no body");
        assert_eq!(after.get("body_text"), Some(&Value::Null));
        assert_eq!(after.get("body"), None);
        let body = json!({"text": " as  it was "});
        let after = transformed(&*message(), json!({"body": body})).expect("a body");
        assert_eq!(after.get("body"), Some(&Value::from(body)));
    }

    #[test]
    fn bodies_without_a_known_form_are_errors_without_values() {
        let table = [
            (json!(4711), "field `body` is an integer where text or blocks belong"),
            (json!({"text": 4711}), "field `body` holds an integer where text or blocks belong"),
            (json!({"blocks": "4711"}), "field `body` holds text where text or blocks belong"),
            (json!({"blocks": [true]}), "field `body` holds a boolean where text or blocks belong"),
        ];
        for (body, expected) in table {
            let error = transformed(&*message(), json!({"body": body})).expect_err("no known form");
            assert_eq!(error.message, expected);
        }
        let mut binary = document(json!({}));
        binary.insert("body".into(), Value::Bytes(vec![0xff, 0xfe].into()));
        let error = message().transform(&mut binary).expect_err("binary");
        assert!(error.message.contains("not UTF-8"), "{error}");
    }

    #[test]
    fn blocks_nest_as_deep_as_promised_and_no_deeper() {
        let nested =
            |levels: usize| (0..levels).fold(json!({"text": "x"}), |inner, _| json!({"blocks": [inner]}));
        assert_eq!(text_of(nested(MAX_DEPTH)), Value::from("x"));
        let error = transformed(&*message(), json!({"body": nested(MAX_DEPTH + 1)})).expect_err("too deep");
        assert_eq!(error.message, "field `body` has blocks nested deeper than 32");
    }

    proptest! {
        #[test]
        fn any_document_is_transformed_or_refused_and_repeatable(before in any_document("body")) {
            let (mut once, mut again) = (before.clone(), before);
            let (first, second) = (message().transform(&mut once), message().transform(&mut again));
            prop_assert_eq!(&first, &second);
            if first.is_ok() {
                prop_assert_eq!(once, again);
            }
        }

        #[test]
        fn extracted_text_is_its_own_text(text in any::<String>()) {
            let once = text_of(json!(text));
            let twice = text_of(serde_json::to_value(&once).expect("text is JSON"));
            prop_assert_eq!(once, twice);
        }
    }
}
