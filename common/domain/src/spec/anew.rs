//! Whether a transform can be evaluated anew: whether it gives the same again on what the undo log keeps.

use serde_json::Value as Json;

use crate::sql;

use super::Transform;

/// Operators of MongoDB that give something else each time, or whatever their script says.
const REFUSED: [(&str, &str); 4] = [
    ("$rand", "it gives another value each time"),
    ("$sampleRate", "it gives another value each time"),
    ("$function", "nobody can tell what its script depends on"),
    ("$accumulator", "nobody can tell what its script depends on"),
];
/// Variables that do.
const CLOCKS: [&str; 2] = ["$$NOW", "$$CLUSTER_TIME"];
/// The document as a whole, whose order of fields is not kept unless the whole document is.
const WHOLE: [&str; 2] = ["$$ROOT", "$$CURRENT"];
/// Stages after which the undo log keeps whole documents.
const REBUILD: [&str; 3] = ["$project", "$replaceRoot", "$replaceWith"];

/// Why a transform cannot be evaluated anew; `None`: nothing in its text speaks against it. What functions of a PostgreSQL
/// shard do, the shard is asked; programs in the worker are refused at their own door if they are not repeatable.
pub fn unrepeatable(transform: &Transform) -> Option<String> {
    match transform {
        Transform::Sql(list) => list.iter().find_map(|(column, value)| {
            sql::unrepeatable(value).map(|why| format!("{why} (transform.sql, {column})"))
        }),
        Transform::Pipeline(stages) => {
            let rebuilt = stages.iter().any(|stage| REBUILD.iter().any(|name| stage.get(*name).is_some()));
            stages.iter().find_map(|stage| of_pipeline(stage, rebuilt))
        }
        Transform::Vrl(_) | Transform::Named { .. } => None,
    }
}

fn of_pipeline(value: &Json, rebuilt: bool) -> Option<String> {
    match value {
        Json::Object(fields) => fields.iter().find_map(|(name, value)| {
            if name == "$literal" {
                return None;
            }
            let refused = REFUSED.iter().find(|(operator, _)| operator == name);
            refused
                .map(|(operator, why)| format!("it uses {operator}: {why}"))
                .or_else(|| of_pipeline(value, rebuilt))
        }),
        Json::Array(items) => items.iter().find_map(|item| of_pipeline(item, rebuilt)),
        Json::String(text) => {
            let clock = CLOCKS.iter().find(|clock| text == *clock || text.starts_with(&format!("{clock}.")));
            let whole = WHOLE.iter().find(|whole| text == *whole && !rebuilt);
            clock.map(|clock| format!("it uses {clock}: it reads the clock")).or_else(|| {
                let why = "the order of fields of a whole document is not kept";
                whole.map(|whole| format!("it uses {whole}: {why}"))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(stages: Json) -> String {
        let stages = stages.as_array().cloned().unwrap_or_default();
        unrepeatable(&Transform::Pipeline(stages)).unwrap_or_default()
    }

    #[test]
    fn a_pipeline_that_reads_its_document_alone_is_repeatable() {
        for stages in [
            json!([{ "$set": { "a": { "$add": ["$b", 1] }, "c": { "$literal": "$$NOW" } } }]),
            json!([{ "$replaceWith": { "$mergeObjects": ["$$ROOT", { "a": 1 }] } }]),
            json!([{ "$set": { "a": "$$ROOT.b" } }]),
        ] {
            assert_eq!(of(stages), "");
        }
    }

    #[test]
    fn a_pipeline_that_reads_clock_or_chance_or_runs_scripts_is_not() {
        for (stages, why) in [
            (json!([{ "$set": { "at": "$$NOW" } }]), "clock"),
            (json!([{ "$set": { "a": { "b": [{ "$rand": {} }] } } }]), "each time"),
            (json!([{ "$set": { "a": { "$function": { "body": "f" } } } }]), "script"),
            (json!([{ "$set": { "copy": "$$ROOT" } }]), "order of fields"),
        ] {
            assert!(of(stages.clone()).contains(why), "{stages}");
        }
    }

    #[test]
    fn an_expression_is_named_by_its_column() {
        let list = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "now()".to_owned())];
        let why = unrepeatable(&Transform::Sql(list)).unwrap_or_default();
        assert!(why.ends_with("(transform.sql, b)"), "{why}");
    }
}
