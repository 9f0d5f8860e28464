//! Which keys may be compared with each other.
//!
//! `_id`s of one collection may have many types. The index orders all of them, but `{$gt: 5}` finds numbers only:
//! comparisons never leave the bracket of their operand. So every range lies within one bracket, and the few keys that
//! no comparison finds (NaN, null, MinKey, MaxKey) are ranges of one document.

use bson::{Bson, Document, doc};

/// A class of keys that comparisons do not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bracket {
    /// Compared by `$gt` and `$lte`.
    Ordered,
    /// The only key of its class: found by equality.
    Single,
}

impl Bracket {
    pub(super) fn of(key: &Bson) -> Self {
        match key {
            Bson::Null | Bson::MinKey | Bson::MaxKey => Bracket::Single,
            Bson::Double(number) if number.is_nan() => Bracket::Single,
            Bson::Decimal128(number) if number.to_string().ends_with("NaN") => Bracket::Single,
            _ => Bracket::Ordered,
        }
    }
}

/// Whether both keys are in one ordered bracket.
pub(super) fn comparable(one: &Bson, other: &Bson) -> bool {
    Bracket::of(one) == Bracket::Ordered
        && Bracket::of(other) == Bracket::Ordered
        && class(one) == class(other)
}

/// The server's canonical types that can be an `_id`: equal numbers compare with each other.
fn class(key: &Bson) -> u8 {
    match key {
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => 1,
        Bson::String(_) | Bson::Symbol(_) => 2,
        Bson::Document(_) => 3,
        Bson::Binary(_) => 4,
        Bson::ObjectId(_) => 5,
        Bson::Boolean(_) => 6,
        Bson::DateTime(_) => 7,
        Bson::Timestamp(_) => 8,
        Bson::DbPointer(_) => 9,
        Bson::JavaScriptCode(_) => 10,
        Bson::JavaScriptCodeWithScope(_) => 11,
        // Null and its like are alone; arrays, regular expressions and undefined cannot be an _id.
        _ => 0,
    }
}

/// Where a range begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Lower {
    /// At the first key of the bracket.
    Open,
    /// After this key.
    After(Bson),
    /// At this key.
    From(Bson),
}

/// The condition on `_id` for a window from `lower` up to and including `upper`.
pub(super) fn window(lower: &Lower, upper: &Bson) -> Document {
    if Bracket::of(upper) == Bracket::Single {
        return doc! { "_id": { "$eq": upper } };
    }
    match lower {
        Lower::Open => doc! { "_id": { "$lte": upper } },
        Lower::After(key) => doc! { "_id": { "$gt": key, "$lte": upper } },
        Lower::From(key) => doc! { "_id": { "$gte": key, "$lte": upper } },
    }
}

/// A key as people read it: canonical extended JSON.
pub(super) fn text(key: &Bson) -> String {
    key.clone().into_canonical_extjson().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_comparisons_do_not_find_are_alone() {
        let nan: bson::Decimal128 = "NaN".parse().expect("NaN is a decimal");
        for alone in [Bson::Null, Bson::MinKey, Bson::MaxKey, Bson::Double(f64::NAN), nan.into()] {
            assert_eq!(Bracket::of(&alone), Bracket::Single, "{alone}");
            assert!(!comparable(&alone, &alone));
            assert!(window(&Lower::Open, &alone).get_document("_id").is_ok_and(|id| id.contains_key("$eq")));
        }
        assert_eq!(Bracket::of(&Bson::Double(f64::NEG_INFINITY)), Bracket::Ordered);
    }

    #[test]
    fn numbers_of_all_types_share_a_bracket() {
        assert!(comparable(&Bson::Int32(1), &Bson::Double(2.5)));
        assert!(!comparable(&Bson::Int32(1), &Bson::String("1".into())));
    }
}
