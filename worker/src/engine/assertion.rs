//! What an answer to a question of the user's own comes to, the same for both engines.

use serde_json::Value;
use shardlift_domain::spec::{Assertion, VerifyCheck};
use shardlift_domain::verdict::CheckResult;

/// Longest part of a question that is repeated.
const SHOWN: usize = 200;

/// The result of one question: its answer, or why there is none.
pub(super) fn judged(assertion: &Assertion, answer: Result<Value, String>) -> CheckResult {
    let check = VerifyCheck::Assert(assertion.clone()).label().to_owned();
    let question = shortened(&assertion.question.to_string());
    let wanted = &assertion.equals;
    let (passed, found) = match answer {
        Ok(answer) => (assertion.holds(&answer), format!("found {}", told(&answer))),
        Err(why) => (false, why),
    };
    CheckResult { check, passed, detail: format!("expected {wanted}, {found}: {question}") }
}

/// A text may be a value of a row, which stays in the shard.
fn told(answer: &Value) -> String {
    match answer {
        Value::Null | Value::Bool(_) | Value::Number(_) => answer.to_string(),
        Value::String(text) => format!("a text of {} characters", text.chars().count()),
        Value::Array(_) | Value::Object(_) => "a value that is not single".to_owned(),
    }
}

/// A question on one line, not too long.
pub(super) fn shortened(question: &str) -> String {
    let one_line: String = question.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shardlift_domain::spec::Question;

    use super::*;

    #[test]
    fn a_result_says_what_was_expected_and_what_was_found_but_no_text_of_a_row() {
        let question = Question::Sql("SELECT count(*)\n  FROM t".into());
        let assertion = Assertion { question, equals: json!(0) };
        let detail = |answer| judged(&assertion, answer).detail;
        assert_eq!(detail(Ok(json!(3))), "expected 0, found 3: SELECT count(*) FROM t");
        assert!(!detail(Ok(json!("secret"))).contains("secret"));
        assert!(detail(Err("it gave no row".into())).contains("it gave no row"));
        let results = [Ok(json!(0)), Ok(json!(0.0)), Ok(json!(null)), Err(String::new())];
        assert_eq!(results.map(|answer| judged(&assertion, answer).passed), [true, true, false, false]);
    }
}
