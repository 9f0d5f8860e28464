//! `channel`: a slug out of the name of a channel.
//!
//! Options: `field` (name), `slug_field` (slug), `version_field` (schema_version), `version` (2), `count_field`.
//!
//! Letters and digits of every script are kept, in lower case; accents that are characters of their own, tone marks and
//! joiners disappear; everything else becomes one `-`; none at the ends; at most 63 characters. A name without a letter or digit gives
//! `channel-` and the first 8 hex digits of the name's SHA-256.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use vrl::value::{KeyString, Value};

use super::marks::Marks;
use super::options::Options;
use super::{Document, TransformError, Transformer};

/// The word in the spec.
pub const NAME: &str = "channel";

/// Most characters of a slug.
pub const MAX_LENGTH: usize = 63;

/// Makes slugs of channel names.
#[derive(Debug)]
pub struct Channel {
    field: KeyString,
    slug_field: KeyString,
    marks: Marks,
}

/// Makes it from the options of the spec.
pub(super) fn build(options: &mut Options<'_>) -> Arc<dyn Transformer> {
    let field = options.field("field", "name");
    let slug_field = options.field("slug_field", "slug");
    let marks = Marks::from_options(options, &[("field", &field), ("slug_field", &slug_field)]);
    Arc::new(Channel { field: field.into(), slug_field: slug_field.into(), marks })
}

impl Transformer for Channel {
    fn name(&self) -> &str {
        NAME
    }

    fn transform(&self, document: &mut Document) -> Result<(), TransformError> {
        let name = match document.get(&self.field) {
            None | Some(Value::Null) => "",
            Some(name) => name.to_str().ok_or_else(|| TransformError::type_of(&self.field, name, "text"))?,
        };
        let slug = slug(name);
        document.insert(self.slug_field.clone(), Value::from(slug));
        self.marks.leave_on(document)
    }
}

/// Never empty.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    let mut length = 0;
    let mut gap = false;
    // Lower case first: it may turn one letter into a letter and an accent.
    for letter in name.chars().flat_map(char::to_lowercase).filter(|letter| !joins(*letter)) {
        if !letter.is_alphanumeric() {
            gap = length > 0;
            continue;
        }
        if length + usize::from(gap) >= MAX_LENGTH {
            break;
        }
        if std::mem::take(&mut gap) {
            slug.push('-');
            length += 1;
        }
        slug.push(letter);
        length += 1;
    }
    if slug.is_empty() { fallback(name) } else { slug }
}

/// Accents, tone marks, zero-width joiners and variation selectors: part of the letter before them, and no gap.
fn joins(letter: char) -> bool {
    match letter {
        // Nukta and virama have the same place in each of the nine Indic blocks.
        '\u{0900}'..='\u{0d7f}' => {
            matches!(u32::from(letter) & 0x7f, 0x3c | 0x4d) && !letter.is_alphanumeric()
        }
        '\u{0300}'..='\u{036f}' | '\u{0e47}'..='\u{0e4e}' => true,
        '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' => true,
        _ => false,
    }
}

fn fallback(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("channel-{hex}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::transformer::testing::{any_document, transformed};

    fn channel() -> Arc<dyn Transformer> {
        let mut options = Options::of(&Json::Null);
        build(&mut options)
    }

    fn slug_of(row: Json) -> String {
        let after = transformed(&*channel(), row).expect("a name it knows");
        after.get("slug").and_then(Value::to_str).expect("always text").to_owned()
    }

    #[test]
    fn names_of_every_script_give_slugs() {
        let long = "ab ".repeat(40);
        let table = [
            ("General", "general"),
            ("  Über  &  drüber! ", "über-drüber"),
            ("Cafe\u{301} Ole\u{301}", "cafe-ole"),
            ("İstanbul", "istanbul"),
            ("ΟΔΟΣ 42", "οδοσ-42"),
            ("開発 チーム", "開発-チーム"),
            ("فريق التطوير", "فريق-التطوير"),
            ("नमस्ते दोस्तों", "नमसते-दोसतों"),
            ("ที่นี่ 1", "ทีนี-1"),
            ("team 👩‍💻 rust", "team-rust"),
            ("a_b.c/d", "a-b-c-d"),
            ("👋", "channel-1d0452e3"),
            ("", "channel-e3b0c442"),
            ("---", "channel-cb3f91d5"),
            (long.as_str(), "ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab"),
        ];
        for (name, expected) in table {
            assert_eq!(slug_of(json!({ "name": name })), expected, "{name}");
        }
    }

    #[test]
    fn a_missing_name_is_an_empty_one_and_a_number_is_none() {
        assert_eq!(slug_of(json!({})), "channel-e3b0c442");
        assert_eq!(slug_of(json!({"name": null})), "channel-e3b0c442");
        let error = transformed(&*channel(), json!({"name": 5})).expect_err("a number");
        assert_eq!(error.message, "field `name` is an integer, not text");
    }

    proptest! {
        #[test]
        fn a_slug_is_short_clean_and_its_own_slug(name in any::<String>()) {
            let slug = slug_of(json!({ "name": name }));
            prop_assert!((1..=MAX_LENGTH).contains(&slug.chars().count()));
            prop_assert!(!slug.starts_with('-') && !slug.ends_with('-') && !slug.contains("--"), "{}", slug);
            prop_assert!(slug.chars().all(|letter| letter == '-' || letter.is_alphanumeric()), "{}", slug);
            prop_assert_eq!(slug_of(json!({ "name": slug })), slug);
        }

        #[test]
        fn any_document_gets_a_slug_or_is_refused(mut row in any_document("name")) {
            if channel().transform(&mut row).is_ok() {
                prop_assert!(row.contains_key("slug"));
            }
        }
    }
}
