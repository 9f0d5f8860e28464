//! A failure in full: what, where, whose fault, what next, and where more is written. With the line of the spec
//! that it speaks of, where the file is at hand.

use shardlift_domain::failure::{Failure, Place};
use shardlift_domain::spec::SpecFile;
use shardlift_domain::verdict::Severity;

use super::harmless::{block, line};
use super::paint::{Paint, Tone};

/// Longest piece of a source line that is shown, in characters.
const SOURCE_WIDTH: usize = 100;

/// One failure, each line with its end. `files`: the specs at hand, for the source line.
pub(crate) fn failure(paint: Paint, failure: &Failure, files: &[SpecFile]) -> String {
    finding(paint, Severity::Error, failure, files)
}

/// All failures of a refusal, with an empty line between them.
pub(crate) fn failures(paint: Paint, all: &[Failure], files: &[SpecFile]) -> String {
    all.iter().map(|each| failure(paint, each, files)).collect::<Vec<_>>().join("\n")
}

/// One line: the code and the message.
pub(crate) fn brief(failure: &Failure) -> String {
    format!("{}: {}", failure.code, line(&failure.message))
}

/// One finding of a plan. A note blames nobody.
pub(crate) fn finding(paint: Paint, severity: Severity, failure: &Failure, files: &[SpecFile]) -> String {
    let (word, tone) = match severity {
        Severity::Error => ("error", Tone::Bad),
        Severity::Warning => ("warning", Tone::Warn),
        Severity::Note => ("note", Tone::Strong),
    };
    let title = format!("{word}[{}]", failure.code);
    let mut text = format!("{}: {}\n", paint.tone(tone, &title), block(&failure.message, 2));
    let place = place(&failure.place);
    if !place.is_empty() {
        text.push_str(&format!("  where: {place}\n"));
    }
    if let Some(snippet) = failure.place.file.as_deref().and_then(|file| snippet(paint, tone, file, files)) {
        text.push_str(&snippet);
    }
    if severity != Severity::Note {
        text.push_str(&format!("  whose fault: {}\n", failure.fault()));
    }
    if !failure.next.is_empty() {
        text.push_str(&format!("  next: {}\n", block(&failure.next, 8)));
    }
    text.push_str(&paint.tone(Tone::Dim, &format!("  more: docs/errors/{}.md", failure.code)));
    text.push('\n');
    text
}

/// `migration 0008@1, shard chat-pg-01, step backfill, key 42, file a.yaml:3:1`, as far as it is known.
pub(crate) fn place(place: &Place) -> String {
    let parts = [
        place.migration.as_ref().map(|key| format!("migration {key}")),
        place.shard.as_ref().map(|shard| format!("shard {shard}")),
        place.step.map(|step| format!("step {step}")),
        place.key.as_ref().map(|key| format!("key {}", line(key))),
        place.file.as_ref().map(|file| line(file)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The line of the spec with a caret under the column; `None` where the file is not at hand.
fn snippet(paint: Paint, tone: Tone, place: &str, files: &[SpecFile]) -> Option<String> {
    let (name, row, column) = split_place(place)?;
    let source = files.iter().find(|file| file.name == name)?.text.lines().nth(row.checked_sub(1)?)?;
    // A long line is cut so that the column stays in sight.
    let skip = column.saturating_sub(SOURCE_WIDTH * 3 / 4 + 1);
    let shown: String = source.chars().skip(skip).take(SOURCE_WIDTH).collect();
    let before: String = shown.chars().take(column.saturating_sub(1 + skip)).collect();
    // What stands before the caret may have grown by being made harmless.
    let indent = line(&before).chars().count();
    let number = row.to_string();
    let blank = " ".repeat(number.len());
    Some(format!(
        "    {blank} |\n    {number} | {}\n    {blank} | {:indent$}{}\n",
        line(&shown),
        "",
        paint.tone(tone, "^")
    ))
}

/// Splits `file:line:column`; the file's name may hold colons itself.
fn split_place(place: &str) -> Option<(&str, usize, usize)> {
    let (rest, column) = place.rsplit_once(':')?;
    let (name, row) = rest.rsplit_once(':')?;
    Some((name, row.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use shardlift_domain::failure::ErrorCode;
    use shardlift_domain::ids::ShardId;
    use shardlift_domain::migration::Step;

    use super::*;

    #[test]
    fn a_failure_says_what_where_whose_fault_and_what_next() {
        let about =
            Failure::new(ErrorCode::RowRejected, "value too long\nDETAIL: 99", "mend the row, then retry")
                .on_shard(&ShardId::new("chat-pg-01").expect("a name"))
                .in_step(Step::Backfill)
                .at_key("42");
        let expected = "\
error[row.rejected]: value too long
  DETAIL: 99
  where: shard chat-pg-01, step backfill, key 42
  whose fault: the application or its data
  next: mend the row, then retry
  more: docs/errors/row.rejected.md
";
        assert_eq!(failure(Paint::PLAIN, &about, &[]), expected);
    }

    #[test]
    fn a_problem_of_a_spec_shows_its_line_and_a_caret() {
        let file = SpecFile { name: "a:b.yaml".into(), text: "id: x\nsource:\n  wher: a < 2\n".into() };
        let about =
            Failure::new(ErrorCode::SpecInvalid, "unknown key", "write `where`").in_file("a:b.yaml:3:3");
        let expected = "\
error[spec.invalid]: unknown key
  where: a:b.yaml:3:3
      |
    3 |   wher: a < 2
      |   ^
  whose fault: the request or spec
  next: write `where`
  more: docs/errors/spec.invalid.md
";
        assert_eq!(failure(Paint::PLAIN, &about, &[file]), expected);
    }

    #[test]
    fn a_place_beyond_the_file_shows_no_line() {
        let file = SpecFile { name: "a.yaml".into(), text: "id: x\n".into() };
        for place in ["a.yaml:9:1", "a.yaml:0:1", "a.yaml", "b.yaml:1:1", "a.yaml:1:x"] {
            let about = Failure::new(ErrorCode::SpecInvalid, "m", "n").in_file(place);
            assert!(!failure(Paint::PLAIN, &about, std::slice::from_ref(&file)).contains('|'), "{place}");
        }
        let long = SpecFile { name: "a.yaml".into(), text: "x".repeat(500) };
        let about = Failure::new(ErrorCode::SpecInvalid, "m", "n").in_file("a.yaml:1:400");
        let text = failure(Paint::PLAIN, &about, &[long]);
        assert!(text.lines().all(|line| line.chars().count() <= SOURCE_WIDTH + 12), "{text}");
        assert!(text.contains('^'));
    }
}
