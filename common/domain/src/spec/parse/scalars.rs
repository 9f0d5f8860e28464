//! Readers of single values. Each tells what it expected and what it found.

use std::time::Duration;

use crate::spec::yaml::{Node, Scalar, Value};
use crate::spec::{NoWindow, Window};

use super::context::Context;
use super::nearest::nearest;

/// A text that is not blank.
pub(super) fn text<'n>(ctx: &mut Context, node: &'n Node, what: &str) -> Option<&'n str> {
    match &node.value {
        Value::Scalar(Scalar::Text(text, _)) if text.trim().is_empty() => {
            ctx.invalid(node.at, format!("{what} is empty"));
            None
        }
        Value::Scalar(Scalar::Text(text, _)) => Some(text),
        Value::Scalar(Scalar::Null) | Value::Sequence(_) | Value::Mapping(_) => {
            ctx.invalid(node.at, format!("{what} must be a text, not {}", node.describe()));
            None
        }
        Value::Scalar(_) => {
            ctx.invalid(
                node.at,
                format!("{what} must be a text, not {}; put it into quotes", node.describe()),
            );
            None
        }
    }
}

/// A list of 1 to `most` names, each once; `name` says which one a text means.
pub(super) fn names(
    ctx: &mut Context,
    node: &Node,
    what: &str,
    most: usize,
    name: impl Fn(&mut Context, &Node, &str) -> Option<String>,
) -> Option<Vec<String>> {
    let Value::Sequence(items) = &node.value else {
        ctx.invalid(node.at, format!("{what} must be a list of names, not {}", node.describe()));
        return None;
    };
    if items.is_empty() || items.len() > most {
        ctx.invalid(node.at, format!("{what} must have 1 to {most} names"));
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let found = text(ctx, item, what)?;
        let name = name(ctx, item, found)?;
        if names.contains(&name) {
            ctx.invalid(item.at, format!("{what} names {name:?} twice"));
            return None;
        }
        names.push(name);
    }
    Some(names)
}

/// One of a few words.
pub(super) fn word(
    ctx: &mut Context,
    node: &Node,
    what: &str,
    words: &[&'static str],
) -> Option<&'static str> {
    let found = text(ctx, node, what)?;
    let known = words.iter().find(|word| **word == found);
    if known.is_none() {
        let guess = nearest(found, words.iter().copied()).map(|near| format!("; did you mean {near:?}?"));
        let choice = words.join(" or ");
        let message =
            format!("{what} must be {choice}, not {}{}", node.describe(), guess.unwrap_or_default());
        ctx.invalid(node.at, message);
    }
    known.copied()
}

/// `true` or `false`.
pub(super) fn boolean(ctx: &mut Context, node: &Node, what: &str) -> Option<bool> {
    match &node.value {
        Value::Scalar(Scalar::Bool(value)) => Some(*value),
        _ => {
            ctx.invalid(node.at, format!("{what} must be true or false, not {}", node.describe()));
            None
        }
    }
}

/// A whole number within bounds.
pub(super) fn count(ctx: &mut Context, node: &Node, what: &str, least: u32, most: u32) -> Option<u32> {
    let found = match &node.value {
        Value::Scalar(Scalar::Int(value)) => u32::try_from(*value).ok(),
        _ => None,
    };
    let within = found.filter(|value| (least..=most).contains(value));
    if within.is_none() {
        ctx.invalid(
            node.at,
            format!("{what} must be a whole number from {least} to {most}, not {}", node.describe()),
        );
    }
    within
}

/// A number from 0 to 1.
pub(super) fn fraction(ctx: &mut Context, node: &Node, what: &str) -> Option<f64> {
    let found = match &node.value {
        Value::Scalar(Scalar::Int(0)) => Some(0.0),
        Value::Scalar(Scalar::Int(1)) => Some(1.0),
        Value::Scalar(Scalar::Float(value)) => Some(*value).filter(|value| (0.0..=1.0).contains(value)),
        _ => None,
    };
    if found.is_none() {
        ctx.invalid(node.at, format!("{what} must be a number from 0 to 1, not {}", node.describe()));
    }
    // -0.0 is 0.0, and must not make another checksum.
    found.map(f64::abs)
}

/// A duration such as `100ms`, `2s`, `1m`, `1h`, within bounds.
pub(super) fn duration(
    ctx: &mut Context,
    node: &Node,
    what: &str,
    bounds: (Duration, Duration),
) -> Option<Duration> {
    let found = match &node.value {
        Value::Scalar(Scalar::Text(text, _)) => read_duration(text),
        _ => None,
    };
    let Some(found) = found else {
        let message =
            format!("{what} must be a duration such as 100ms, 2s, 1m or 1h, not {}", node.describe());
        ctx.invalid(node.at, message);
        return None;
    };
    if found < bounds.0 || found > bounds.1 {
        let (least, most) = (show_duration(bounds.0), show_duration(bounds.1));
        ctx.invalid(node.at, format!("{what} must be from {least} to {most}, not {}", show_duration(found)));
        return None;
    }
    Some(found)
}

/// A daily window such as `"22:00-06:00 UTC"`.
pub(super) fn window(ctx: &mut Context, node: &Node, what: &str) -> Option<Window> {
    let found = match &node.value {
        Value::Scalar(Scalar::Text(text, _)) => text.parse(),
        _ => Err(NoWindow::Form),
    };
    match found {
        Ok(window) => Some(window),
        Err(NoWindow::Empty) => {
            ctx.invalid(
                node.at,
                format!("{what} is empty: it ends when it begins; leave it out to run at any time"),
            );
            None
        }
        Err(NoWindow::Form) => {
            let message =
                format!("{what} must be a daily window such as \"22:00-06:00 UTC\", not {}", node.describe());
            ctx.invalid(node.at, message);
            None
        }
    }
}

fn read_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_millis)
}

/// The shortest way to write a duration.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis > 0 && millis.is_multiple_of(length) {
            return format!("{}{unit}", millis / length);
        }
    }
    format!("{millis}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(read_duration("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(read_duration("2s"), Some(Duration::from_secs(2)));
        assert_eq!(read_duration("1m"), Some(Duration::from_secs(60)));
        assert_eq!(read_duration("1h"), Some(Duration::from_secs(3600)));
        for bad in
            ["", "5", "s", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(read_duration(bad), None, "{bad}");
        }
        for text in ["0ms", "1ms", "90s", "2m", "3h"] {
            assert_eq!(show_duration(read_duration(text).expect("a duration")), text);
        }
    }
}
