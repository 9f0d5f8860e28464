//! Values of a spec as BSON.
//!
//! Known forms of extended JSON (`$oid`, `$date`, `$numberLong`, …) become their type; operators such as `$set` stay
//! what they are. A whole number becomes an `int` where it fits in 32 bits and a `long` otherwise; a number with a
//! fraction or exponent becomes a `double`. Write `{$numberLong: "5"}` for a small `long`.

use bson::{Bson, Document};
use serde_json::Value;
use shardlift_domain::{ErrorCode, Failure};

use crate::engine::EngineError;

/// Any value.
fn value(json: &Value) -> Result<Bson, String> {
    Bson::try_from(json.clone()).map_err(|error| error.to_string())
}

/// An object, such as `where` or a command.
pub(super) fn document(json: &Value, what: &str) -> Result<Document, EngineError> {
    match value(json) {
        Ok(Bson::Document(document)) => Ok(document),
        Ok(_) => Err(invalid(what, "it is not an object")),
        Err(error) => Err(invalid(what, &error)),
    }
}

/// A list of objects, such as `pipeline`.
pub(super) fn documents(json: &[Value], what: &str) -> Result<Vec<Document>, EngineError> {
    json.iter().map(|one| document(one, what)).collect()
}

fn invalid(what: &str, why: &str) -> EngineError {
    EngineError::Failed(Failure::new(
        ErrorCode::SpecInvalid,
        format!("{what} is not valid extended JSON: {why}"),
        "mend the spec and submit it again",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;
    use serde_json::json;

    #[test]
    fn extended_json_becomes_its_type_and_operators_stay() {
        let spec = json!({
            "$set": { "n": 5, "big": 5_000_000_000_i64, "part": 5.0, "long": { "$numberLong": "5" } },
            "id": { "$oid": "64b000000000000000000001" },
            "at": { "$date": "2026-01-02T03:04:05Z" },
            "list": [{ "$ne": null }],
        });
        let read = document(&spec, "pipeline").expect("it is valid");
        let oid = bson::oid::ObjectId::parse_str("64b000000000000000000001").expect("24 hex digits");
        let at = bson::DateTime::parse_rfc3339_str("2026-01-02T03:04:05Z").expect("a time");
        assert_eq!(
            read,
            doc! {
                "$set": { "n": 5_i32, "big": 5_000_000_000_i64, "part": 5.0, "long": 5_i64 },
                "id": oid, "at": at, "list": [{ "$ne": null }],
            }
        );
    }

    #[test]
    fn a_malformed_form_is_refused() {
        assert!(document(&json!({ "id": { "$oid": "7" } }), "where").is_err());
        assert!(document(&json!([1]), "where").is_err());
    }
}
