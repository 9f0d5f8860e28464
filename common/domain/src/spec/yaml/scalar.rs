//! Plain scalars to values, by the core schema of YAML 1.2 (section 10.3.2).

use super::node::{Layout, Scalar};

/// What an unquoted scalar means.
pub(in crate::spec) fn resolve(text: &str, layout: Layout) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    if let Some(number) = integer(text).or_else(|| float(text)) {
        return number;
    }
    Scalar::Text(text.to_owned(), layout)
}

fn integer(text: &str) -> Option<Scalar> {
    let (radix, digits) = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(digits), _) => (16, digits),
        (_, Some(digits)) => (8, digits),
        _ => (10, text.strip_prefix(['+', '-']).unwrap_or(text)),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let number = if radix == 10 { text.parse() } else { i64::from_str_radix(digits, radix) };
    Some(number.map_or_else(|_| Scalar::Unholdable(text.to_owned()), Scalar::Int))
}

fn float(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Scalar::Unholdable(text.to_owned()));
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    let shaped = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    if !shaped || exponent.is_some_and(|exponent| exponent.is_empty() || !digits(exponent)) {
        return None;
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Some(Scalar::Float(number)),
        _ => Some(Scalar::Unholdable(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        resolve(text, Layout::Verbatim)
    }

    #[test]
    fn scalars_are_those_of_yaml_1_2() {
        assert_eq!(plain("~"), Scalar::Null);
        assert_eq!(plain("true"), Scalar::Bool(true));
        assert_eq!(plain("-7"), Scalar::Int(-7));
        assert_eq!(plain("012"), Scalar::Int(12));
        assert_eq!(plain("0x1F"), Scalar::Int(31));
        assert_eq!(plain("0o17"), Scalar::Int(15));
        assert_eq!(plain("1.5e3"), Scalar::Float(1500.0));
        assert_eq!(plain(".5"), Scalar::Float(0.5));
        assert_eq!(plain("-9223372036854775808"), Scalar::Int(i64::MIN));
        for text in
            ["yes", "no", "on", "y", "2024-01-01", "12:30:00", "1_000", "1.2.3", "e5", ".", "-", "0x", "inf"]
        {
            assert_eq!(plain(text), Scalar::Text(text.into(), Layout::Verbatim), "{text}");
        }
    }

    #[test]
    fn numbers_that_nothing_can_hold_are_known() {
        for text in ["9223372036854775808", "1e999", ".nan", "-.inf", "0xFFFFFFFFFFFFFFFFF"] {
            assert_eq!(plain(text), Scalar::Unholdable(text.into()), "{text}");
        }
    }
}
