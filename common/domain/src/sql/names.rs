//! Names of tables and columns: read as PostgreSQL reads them, written so that nothing can break out of them.

use std::fmt;

use super::SqlProblem;

/// Longest identifier in bytes: PostgreSQL silently cuts longer ones.
const MAX_IDENT: usize = 63;
/// Schemas that a user's migration has no business in.
const RESERVED_SCHEMAS: [&str; 3] = ["shardlift", "pg_catalog", "information_schema"];

/// A table or index, with its schema if the user wrote one. The parts are the real names, without quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relation {
    /// `public` in `public.messages`. `None`: the search path decides.
    pub schema: Option<String>,
    /// `messages` in `public.messages`.
    pub name: String,
}

impl fmt::Display for Relation {
    /// Quoted, ready to be put into SQL: `"public"."messages"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", quote_ident(schema))?;
        }
        f.write_str(&quote_ident(&self.name))
    }
}

/// Writes a name as a quoted SQL identifier: `a"b` becomes `"a""b"`. Always quoted, so no word is ever a keyword.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Writes a text as an SQL string literal that means the same whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Reads one identifier as PostgreSQL does: unquoted it is folded to lower case, quoted it stays as it is.
pub fn parse_ident(text: &str) -> Result<String, SqlProblem> {
    let (name, rest) = take_ident(text, text)?;
    if rest.is_empty() { Ok(name) } else { Err(stray(text, rest)) }
}

/// Reads `table`, `schema.table`, or the same with quoted parts.
pub fn parse_relation(text: &str) -> Result<Relation, SqlProblem> {
    let (first, rest) = take_ident(text, text)?;
    let Some(after) = rest.strip_prefix('.') else {
        return if rest.is_empty() {
            Ok(Relation { schema: None, name: first })
        } else {
            Err(stray(text, rest))
        };
    };
    let (second, rest) = take_ident(text, after)?;
    if rest.starts_with('.') {
        return Err(SqlProblem::at(text, 0, "write schema.table; the database is the shard's own"));
    }
    if rest.is_empty() { Ok(Relation { schema: Some(first), name: second }) } else { Err(stray(text, rest)) }
}

/// Reads a relation that a migration may change: not one of Shardlift's or of the server's own.
pub fn check_relation(text: &str) -> Result<Relation, SqlProblem> {
    let relation = parse_relation(text)?;
    match relation.schema.as_deref() {
        Some(schema) if RESERVED_SCHEMAS.contains(&schema) => {
            Err(SqlProblem::at(text, 0, format!("schema {schema} is not yours to change")))
        }
        _ => Ok(relation),
    }
}

fn take_ident<'t>(whole: &'t str, text: &'t str) -> Result<(String, &'t str), SqlProblem> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => take_quoted(whole, quoted)?,
        None => take_plain(whole, text)?,
    };
    if name.len() > MAX_IDENT {
        return Err(problem(
            whole,
            text,
            format!("the name is longer than {MAX_IDENT} bytes; PostgreSQL would cut it"),
        ));
    }
    Ok((name, rest))
}

fn take_plain<'t>(whole: &'t str, text: &'t str) -> Result<(String, &'t str), SqlProblem> {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let continues = |c: char| starts(c) || c.is_ascii_digit() || c == '$';
    let blank = |c: char| c.is_whitespace() || c.is_control();
    if !text.starts_with(|c: char| starts(c) && !blank(c)) {
        return Err(problem(
            whole,
            text,
            "a name must begin with a letter or '_'; other names go into double quotes",
        ));
    }
    let end = text.find(|c: char| !continues(c) || blank(c)).unwrap_or(text.len());
    Ok((text[..end].to_ascii_lowercase(), &text[end..]))
}

fn take_quoted<'t>(whole: &'t str, text: &'t str) -> Result<(String, &'t str), SqlProblem> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err(problem(whole, text, "the closing double quote of a name is missing"));
        };
        name.push_str(part);
        rest = after;
        match rest.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => break,
        }
    }
    if name.is_empty() || name.contains('\0') {
        return Err(problem(whole, text, "a name must not be empty or hold a NUL character"));
    }
    Ok((name, rest))
}

fn stray(whole: &str, rest: &str) -> SqlProblem {
    let shown: String = rest.chars().take(20).collect();
    problem(whole, rest, format!("{shown:?} does not belong to a name"))
}

fn problem(whole: &str, rest: &str, message: impl Into<String>) -> SqlProblem {
    SqlProblem::at(whole, whole.len() - rest.len(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(schema: Option<&str>, name: &str) -> Relation {
        Relation { schema: schema.map(str::to_owned), name: name.to_owned() }
    }

    #[test]
    fn names_are_read_as_postgresql_reads_them() {
        assert_eq!(parse_relation("public.Messages"), Ok(relation(Some("public"), "messages")));
        assert_eq!(parse_relation("messages"), Ok(relation(None, "messages")));
        assert_eq!(parse_relation(r#""Chat"."a.b""c""#), Ok(relation(Some("Chat"), "a.b\"c")));
        assert_eq!(parse_relation("größe"), Ok(relation(None, "größe")));
        assert_eq!(parse_relation("order"), Ok(relation(None, "order")));
    }

    #[test]
    fn what_is_not_one_name_is_refused() {
        for bad in [
            "", " ", "a b", "a;b", "a--", "a.b.c", "a.", ".a", "1a", "\"a", "\"\"", "a\"b\"", "\"a\0\"",
            "a\u{a0}b", "a'", "a)", "a/*b*/", "a,b", "x\ny", "a(b)",
        ] {
            assert!(parse_relation(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(parse_relation(&"x".repeat(64)).is_err());
    }

    #[test]
    fn what_is_quoted_reads_back_the_same() {
        for name in ["a", "A b", "quo\"te", "select", "ü'; --"] {
            assert_eq!(parse_ident(&quote_ident(name)).as_deref(), Ok(name));
        }
        assert_eq!(relation(Some("s"), "t\"u").to_string(), r#""s"."t""u""#);
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"a\b"), r"E'a\\b'");
    }

    #[test]
    fn the_bookkeeping_is_out_of_bounds() {
        assert!(check_relation("SHARDLIFT.checkpoint").is_err());
        assert!(check_relation("pg_catalog.pg_class").is_err());
        assert!(check_relation("public.messages").is_ok());
    }
}
