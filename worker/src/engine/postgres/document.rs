//! One column's value as a transformer sees it, and back.
//!
//! Every value travels as PostgreSQL's own text form. Only booleans, integers, floats, JSON and timestamps get a form
//! of their own in the document; everything else (numeric, arrays, ranges, bytea, …) is its text. What a transform did
//! not touch is never written, so its form here cannot harm it.

use std::num::FpCategory;

use vrl::value::Value;

use super::table::Shape;

/// The value for the document.
pub(super) fn value(shape: Shape, text: Option<&str>) -> Value {
    let Some(text) = text else { return Value::Null };
    let typed = match shape {
        Shape::Bool => Some(Value::Boolean(text.starts_with('t'))),
        Shape::Integer => text.parse().ok().map(Value::Integer),
        Shape::Float => float(text),
        Shape::Json => serde_json::from_str::<serde_json::Value>(text).ok().map(Value::from),
        Shape::Timestamp | Shape::TimestampTz => rfc3339(text).map(Value::from),
        Shape::Text => None,
    };
    // NaN, infinity, BC dates and JSON nested beyond reason stay text.
    typed.unwrap_or_else(|| Value::from(text))
}

/// The text to be written into a column; `before` is the text that was read from it. An error names no value.
pub(super) fn text(
    shape: Shape,
    value: &Value,
    before: Option<&str>,
) -> Result<Option<String>, &'static str> {
    if shape == Shape::Json {
        return json(value, before);
    }
    let text = match value {
        Value::Null => return Ok(None),
        Value::Boolean(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) if shape == Shape::Integer && number.fract() == 0.0 => format!("{number:.0}"),
        Value::Float(number) => format!("{:?}", number.into_inner()),
        Value::Timestamp(time) => time.to_rfc3339(),
        Value::Object(_) | Value::Array(_) => {
            return Err("an object or array can only be written into a json or jsonb column");
        }
        other => match other.to_str() {
            Some(text) => text.to_owned(),
            None => return Err("bytes that are not text cannot be written"),
        },
    };
    storable(text).map(Some)
}

fn json(value: &Value, before: Option<&str>) -> Result<Option<String>, &'static str> {
    if matches!(value, Value::Null) {
        return Ok(None);
    }
    if before.is_some_and(|text| !numbers_survive(text)) {
        return Err("the JSON holds a number with more digits than the transform can keep");
    }
    serde_json::to_string(value).map(Some).map_err(|_| "the value cannot be written as JSON")
}

fn storable(text: String) -> Result<String, &'static str> {
    if text.contains('\0') { Err("a text with a NUL character cannot be written") } else { Ok(text) }
}

fn float(text: &str) -> Option<Value> {
    let number: f64 = text.parse().ok()?;
    match number.classify() {
        FpCategory::Nan | FpCategory::Infinite => None,
        _ => Some(Value::from_f64_or_zero(number)),
    }
}

/// `2024-01-02 03:04:05.6+00` as RFC 3339 has it; `None` for infinity and years that it cannot write.
fn rfc3339(text: &str) -> Option<String> {
    let (date, time) = text.split_once(' ')?;
    let plain = date.len() == 10 && date.as_bytes()[0].is_ascii_digit() && !time.contains(' ');
    if !plain {
        return None;
    }
    // Sessions run in UTC.
    Some(match time.strip_suffix("+00") {
        Some(time) => format!("{date}T{time}+00:00"),
        None => format!("{date}T{time}"),
    })
}

/// Whether every number of a JSON text means the same after it went through a 64 bit integer or float.
fn numbers_survive(json: &str) -> bool {
    let mut rest = json;
    while let Some(at) = rest.find(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        rest = &rest[at..];
        if let Some(inside) = rest.strip_prefix('"') {
            rest = after_string(inside);
            continue;
        }
        let end =
            rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        if !number_survives(&rest[..end]) {
            return false;
        }
        rest = &rest[end..];
    }
    true
}

fn after_string(mut inside: &str) -> &str {
    while let Some(at) = inside.find(['"', '\\']) {
        if inside.as_bytes()[at] == b'"' {
            return &inside[at + 1..];
        }
        // A backslash and the character after it.
        let escaped = inside[at + 1..].chars().next().map_or(0, char::len_utf8);
        inside = &inside[at + 1 + escaped..];
    }
    ""
}

fn number_survives(token: &str) -> bool {
    if !token.contains(['.', 'e', 'E']) {
        return token.parse::<i64>().is_ok();
    }
    token
        .parse::<f64>()
        .is_ok_and(|number| number.is_finite() && digits(token) == digits(&format!("{number:e}")))
}

/// A decimal number as sign, digits without zeros around them, and the exponent of the first digit.
fn digits(token: &str) -> (bool, String, i64) {
    let (negative, token) = token.strip_prefix('-').map_or((false, token), |rest| (true, rest));
    let (mantissa, exponent) = token.split_once(['e', 'E']).unwrap_or((token, "0"));
    let exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or(i64::MAX / 2);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    if significant.is_empty() {
        return (false, String::new(), 0);
    }
    let place = |count: usize| i64::try_from(count).unwrap_or(i64::MAX / 2);
    let first = exponent + place(whole.len()) - place(all.len() - significant.len());
    (negative, significant.trim_end_matches('0').to_owned(), first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_forms_that_a_program_can_work_with() {
        assert_eq!(value(Shape::Bool, Some("true")), Value::Boolean(true));
        assert_eq!(value(Shape::Integer, Some("-7")), Value::Integer(-7));
        assert_eq!(value(Shape::Float, Some("NaN")), Value::from("NaN"));
        assert_eq!(value(Shape::Text, Some("1.50")), Value::from("1.50"));
        assert_eq!(value(Shape::Json, None), Value::Null);
        assert_eq!(
            value(Shape::TimestampTz, Some("2024-01-02 03:04:05.6+00")),
            Value::from("2024-01-02T03:04:05.6+00:00")
        );
        assert_eq!(
            value(Shape::Timestamp, Some("0044-03-15 12:00:00 BC")),
            Value::from("0044-03-15 12:00:00 BC")
        );
        assert_eq!(value(Shape::Timestamp, Some("infinity")), Value::from("infinity"));
    }

    #[test]
    fn what_is_written_is_what_the_column_takes() {
        assert_eq!(text(Shape::Integer, &Value::from_f64_or_zero(2.0), None), Ok(Some("2".into())));
        assert_eq!(text(Shape::Text, &Value::from(true), None), Ok(Some("true".into())));
        assert_eq!(text(Shape::Text, &Value::Null, None), Ok(None));
        assert!(text(Shape::Text, &Value::Array(vec![]), None).is_err());
        assert!(text(Shape::Text, &Value::from("a\0b"), None).is_err());
        let object = value(Shape::Json, Some(r#"{"a": [1, 2.5, null], "b": "ü"}"#));
        assert_eq!(text(Shape::Json, &object, None), Ok(Some(r#"{"a":[1,2.5,null],"b":"ü"}"#.into())));
    }

    #[test]
    fn a_number_that_would_lose_digits_is_noticed() {
        for safe in [
            "{}",
            "[1, -2, 0.1, 1e3, 12.50, 0.0, -0.0, 1.0E-2]",
            r#"{"123456789012345678901": "\"99999999999999999999"}"#,
        ] {
            assert!(numbers_survive(safe), "{safe}");
        }
        for lossy in [
            "[9223372036854775808]",
            "[0.1234567890123456789]",
            "[1e400]",
            r#"{"a":"\\","b":12345678901234567890.5}"#,
        ] {
            assert!(!numbers_survive(lossy), "{lossy}");
        }
    }
}
