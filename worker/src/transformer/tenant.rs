//! `tenant`: settings of a tenant, completed by defaults.
//!
//! Options: `field` (settings), `defaults` ({}), `version_field` (schema_version), `version` (2), `count_field`.
//!
//! What is set stays, also where it is set to null; objects are merged at every depth; the text `plan` becomes
//! lower-case. Missing or null settings are empty ones.

use std::sync::Arc;

use vrl::value::{KeyString, ObjectMap, Value};

use super::marks::Marks;
use super::options::Options;
use super::{Document, TransformError, Transformer};

/// The word in the spec.
pub const NAME: &str = "tenant";

/// Completes the settings of tenants.
#[derive(Debug)]
pub struct Tenant {
    field: KeyString,
    defaults: ObjectMap,
    marks: Marks,
}

/// Makes it from the options of the spec.
pub(super) fn build(options: &mut Options<'_>) -> Arc<dyn Transformer> {
    let field = options.field("field", "settings");
    let defaults = options.object("defaults");
    let marks = Marks::from_options(options, &[("field", &field)]);
    Arc::new(Tenant { field: field.into(), defaults, marks })
}

impl Transformer for Tenant {
    fn name(&self) -> &str {
        NAME
    }

    fn transform(&self, document: &mut Document) -> Result<(), TransformError> {
        let mut settings = match document.remove(&self.field) {
            None | Some(Value::Null) => ObjectMap::new(),
            Some(Value::Object(settings)) => settings,
            Some(other) => return Err(TransformError::type_of(&self.field, &other, "an object")),
        };
        complete(&mut settings, &self.defaults);
        if let Some(plan) = settings.get_mut("plan")
            && let Some(lower) = plan.to_str().map(str::to_lowercase)
        {
            *plan = Value::from(lower);
        }
        document.insert(self.field.clone(), Value::Object(settings));
        self.marks.leave_on(document)
    }
}

/// Adds what is missing. As deep as the defaults are, which the spec's parser bounds.
fn complete(settings: &mut ObjectMap, defaults: &ObjectMap) {
    for (key, default) in defaults {
        match (settings.get_mut(key), default) {
            (None, _) => {
                settings.insert(key.clone(), default.clone());
            }
            (Some(Value::Object(inner)), Value::Object(inner_defaults)) => complete(inner, inner_defaults),
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::transformer::testing::{any_document, transformed};

    fn tenant() -> Arc<dyn Transformer> {
        let given = json!({"defaults": {"plan": "Free", "limits": {"seats": 5, "files": {"mb": 10}}}});
        let mut options = Options::of(&given);
        build(&mut options)
    }

    fn settings_of(row: Json) -> Json {
        let after = transformed(&*tenant(), row).expect("settings it knows");
        assert_eq!(after.get("schema_version"), Some(&Value::Integer(2)));
        serde_json::to_value(after.get("settings").expect("always written")).expect("JSON")
    }

    #[test]
    fn defaults_go_below_what_is_set() {
        let all = json!({"plan": "free", "limits": {"seats": 5, "files": {"mb": 10}}});
        let table = [
            (json!({}), all.clone()),
            (json!({"settings": null}), all.clone()),
            (json!({"settings": {}}), all),
            (
                json!({"settings": {"plan": "GRÖSSER", "limits": {"files": {"mb": 1}}, "own": [1]}}),
                json!({"plan": "grösser", "limits": {"seats": 5, "files": {"mb": 1}}, "own": [1]}),
            ),
            (json!({"settings": {"plan": 3, "limits": null}}), json!({"plan": 3, "limits": null})),
            (json!({"settings": {"plan": null, "limits": "none"}}), json!({"plan": null, "limits": "none"})),
        ];
        for (row, expected) in table {
            assert_eq!(settings_of(row.clone()), expected, "{row}");
        }
    }

    #[test]
    fn settings_that_are_no_object_are_an_error_of_the_row() {
        for (row, found) in [(json!("{}"), "text"), (json!([1]), "an array"), (json!(true), "a boolean")] {
            let error = transformed(&*tenant(), json!({ "settings": row })).expect_err("no object");
            assert_eq!(error.message, format!("field `settings` is {found}, not an object"));
        }
    }

    proptest! {
        #[test]
        fn any_document_is_completed_once_or_refused(before in any_document("settings")) {
            let mut once = before;
            if tenant().transform(&mut once).is_ok() {
                let mut twice = once.clone();
                prop_assert_eq!(tenant().transform(&mut twice), Ok(()));
                prop_assert_eq!(once, twice);
            }
        }
    }
}
