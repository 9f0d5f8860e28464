//! Text of servers made harmless: no control characters, no marks that reorder or hide what is written.
//!
//! A row of an application can end up in a message of its database, so a message can hold anything.

use std::fmt::Write;

/// Longest text that is shown, in characters: the rest helps nobody on a terminal.
const LONGEST: usize = 4000;

/// One line: breaks become spaces.
pub(crate) fn line(text: &str) -> String {
    clean(text, " ")
}

/// Several lines, the second and later ones indented by so many spaces.
pub(crate) fn block(text: &str, indent: usize) -> String {
    clean(text.trim_end(), &format!("\n{:indent$}", ""))
}

/// JSON text in which no raw character can do harm: such characters occur inside strings only, where an escape
/// means the same.
pub(crate) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_harmful(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn clean(text: &str, line_break: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    for c in chars.by_ref().take(LONGEST) {
        match c {
            '\n' => out.push_str(line_break),
            '\r' => {}
            '\t' => out.push(' '),
            c if is_harmful(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// Control characters of both sets, marks of direction, and characters without width.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_hidden_marks_are_written_out() {
        assert_eq!(line("a\x1b[31mb\u{9b}c\u{202e}d"), r"a\u{1b}[31mb\u{9b}c\u{202e}d");
        assert_eq!(line("one\r\ntwo\tthree"), "one two three");
        assert_eq!(block("one\ntwo\n", 4), "one\n    two");
        assert_eq!(line("grüße 日本 🎉"), "grüße 日本 🎉");
    }

    #[test]
    fn a_text_without_end_is_cut() {
        assert_eq!(line(&"x".repeat(9000)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ "message": "a\u{7f}\u{9b}\u{202e}\u{e0041}\n" });
        let text = json(&value.to_string());
        assert!(!text.chars().any(is_harmful));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }
}
