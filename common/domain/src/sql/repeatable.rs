//! Does an expression give the same value again when it is evaluated on the same row later?

use squawk_syntax::{SyntaxKind, SyntaxToken};

use super::guard::with_tree;
use super::names::{Relation, parse_ident};
use super::tree::Tree;

const CLOCK: &str = "it reads the clock";
const CHANCE: &str = "it gives another value each time";
const SESSION: &str = "it depends on the session that asks";
const TABLES: &str = "it reads tables, which may have changed since";

/// Functions of the server that give something else later although it calls some of them stable.
const REFUSED: &[(&str, &str)] = &[
    ("age", CLOCK),
    ("clock_timestamp", CLOCK),
    ("now", CLOCK),
    ("statement_timestamp", CLOCK),
    ("timeofday", CLOCK),
    ("transaction_timestamp", CLOCK),
    ("currval", CHANCE),
    ("gen_random_uuid", CHANCE),
    ("lastval", CHANCE),
    ("nextval", CHANCE),
    ("random", CHANCE),
    ("setval", CHANCE),
    ("current_setting", SESSION),
    ("inet_client_addr", SESSION),
    ("inet_client_port", SESSION),
    ("pg_backend_pid", SESSION),
    ("pg_current_xact_id", SESSION),
    ("txid_current", SESSION),
];
/// Texts that mean another time each time they are read as one.
const MOMENTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
/// Types that read them so.
const TIMES: [&str; 5] = ["date", "time", "timestamp", "timestamptz", "timetz"];

/// Why an expression may give another value later, as far as its text tells: `None` leaves what its functions do, which
/// only the shard knows ([`calls`]).
pub fn unrepeatable(text: &str) -> Option<String> {
    let probe = format!("SELECT ({text})");
    // Whoever asks has checked that it is an expression.
    with_tree(&probe, |tree| judge(tree, text)).ok().flatten()
}

/// Everything in an expression that may be the name of a function that it calls. Too much does no harm: it is looked up in
/// the shard.
pub fn calls(text: &str) -> Vec<Relation> {
    let probe = format!("SELECT ({text})");
    with_tree(&probe, called).unwrap_or_default()
}

fn judge(tree: &Tree<'_>, text: &str) -> Option<String> {
    if tree.has(|kind| matches!(kind, SyntaxKind::RELATION_FROM_ITEM | SyntaxKind::TABLE)) {
        return Some(TABLES.to_owned());
    }
    let names = called(tree);
    let refused = names.iter().find_map(|name| REFUSED.iter().find(|(word, _)| *word == name.name));
    if let Some((word, why)) = refused {
        return Some(format!("it calls {word}: {why}"));
    }
    let words: Vec<SyntaxToken> = tree.tokens().filter(|token| !token.kind().is_trivia()).collect();
    let word = words.iter().find_map(|token| match token.kind() {
        SyntaxKind::CURRENT_DATE_KW
        | SyntaxKind::CURRENT_TIME_KW
        | SyntaxKind::CURRENT_TIMESTAMP_KW
        | SyntaxKind::LOCALTIME_KW
        | SyntaxKind::LOCALTIMESTAMP_KW => Some((token, CLOCK)),
        SyntaxKind::CURRENT_ROLE_KW | SyntaxKind::CURRENT_USER_KW | SyntaxKind::SESSION_USER_KW => {
            Some((token, SESSION))
        }
        _ => None,
    });
    if let Some((token, why)) = word {
        return Some(format!("it says {}: {why}", token.text()));
    }
    let lower = text.to_lowercase();
    let moment = MOMENTS.iter().find(|moment| lower.contains(&format!("'{moment}'")));
    let timed = words.iter().any(|token| TIMES.contains(&token.text().to_lowercase().as_str()));
    moment.filter(|_| timed).map(|moment| format!("it reads '{moment}' as a time: {CLOCK}"))
}

/// Words before a bracket, with their schema where one is written.
fn called(tree: &Tree<'_>) -> Vec<Relation> {
    let tokens: Vec<SyntaxToken> = tree.tokens().filter(|token| !token.kind().is_trivia()).collect();
    let word = |at: usize| tokens.get(at).and_then(|token| parse_ident(token.text()).ok());
    let dot = |at: usize| tokens.get(at).is_some_and(|token| token.text() == ".");
    let mut names: Vec<Relation> = Vec::new();
    // The first two are the probe's own.
    for (at, token) in tokens.iter().enumerate().skip(2) {
        let before = at.checked_sub(1).filter(|_| token.kind() == SyntaxKind::L_PAREN);
        let Some((before, name)) = before.and_then(|before| Some((before, word(before)?))) else { continue };
        let qualified = before.checked_sub(2).filter(|_| dot(before - 1));
        let found = Relation { schema: qualified.and_then(word), name };
        if !names.contains(&found) {
            names.push(found);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_the_row_alone_is_repeatable() {
        for text in [
            "applied + 1",
            "body ->> 'text'",
            "coalesce(a, lower(b)) || 'now'",
            "(SELECT string_agg(x, ',') FROM unnest(tags) AS x)",
            "CASE WHEN at > '2024-01-01'::date THEN 1 ELSE 2 END",
            "\"now\" + age_in_days",
            "to_jsonb(messages) ->> 'today'",
        ] {
            assert_eq!(unrepeatable(text), None, "{text}");
        }
    }

    #[test]
    fn what_reads_clock_chance_session_or_tables_is_not() {
        for (text, why) in [
            ("now()", "clock"),
            ("pg_catalog.now()", "clock"),
            ("NOW () - at", "clock"),
            ("coalesce(at, CURRENT_TIMESTAMP)", "clock"),
            ("'today'::date", "clock"),
            ("age(born)", "clock"),
            ("random() * 3", "each time"),
            ("current_user || a", "session"),
            ("(SELECT name FROM users u WHERE u.id = author)", "tables"),
            ("EXISTS (SELECT 1 FROM app.users)", "tables"),
        ] {
            let found = unrepeatable(text).unwrap_or_default();
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    #[test]
    fn functions_are_named_as_the_catalog_has_them() {
        let name = |schema: Option<&str>, name: &str| Relation {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
        };
        let found = calls("app.\"Mine\"(Lower (a), b) + c");
        assert_eq!(found, [name(Some("app"), "Mine"), name(None, "lower")]);
    }
}
