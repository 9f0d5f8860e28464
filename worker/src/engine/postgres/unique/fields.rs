//! How the digest of a row is made: of texts that are the same exactly if the values are equal, each with its length.

use shardlift_domain::spec::Unique;
use shardlift_domain::sql::quote_ident;
use sqlx::{PgConnection, Row};

use crate::engine::postgres::table::Table;

pub(super) const MEND: &str = "name columns of numbers (not float), texts, uuid, boolean, dates, timestamps, enums or bytea; or leave the check out";

/// The first release that can write a number without the zeros at its end.
const TRIMS: u32 = 130_000;
/// Domains over a type are compared as it is.
const TYPES: &str = "\
    SELECT a.attname::text, coalesce(b.oid, t.oid)::int8, coalesce(b.typtype, t.typtype)::text,
           coalesce(c.collisdeterministic, true), format_type(a.atttypid, a.atttypmod)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
    LEFT JOIN pg_collation c ON c.oid = a.attcollation
    WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($2)";

/// What values of a column are compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Numeric,
    Text,
    Uuid,
    Boolean,
    Date,
    Timestamp,
    TimestampTz,
    Bytes,
}

impl Kind {
    /// By the fixed numbers that the server's catalog gives its own types.
    fn of(type_oid: i64, typtype: &str) -> Option<Self> {
        Some(match type_oid {
            20 | 21 | 23 => Kind::Integer,
            1700 => Kind::Numeric,
            25 | 1042 | 1043 => Kind::Text,
            2950 => Kind::Uuid,
            16 => Kind::Boolean,
            1082 => Kind::Date,
            1114 => Kind::Timestamp,
            1184 => Kind::TimestampTz,
            17 => Kind::Bytes,
            _ if typtype == "e" => Kind::Text,
            _ => return None,
        })
    }

    /// The word for shards that are to be of the same kind. Whole numbers are numbers.
    fn as_str(self) -> &'static str {
        match self {
            Kind::Integer | Kind::Numeric => "number",
            Kind::Text => "text",
            Kind::Uuid => "uuid",
            Kind::Boolean => "boolean",
            Kind::Date => "date",
            Kind::Timestamp => "timestamp",
            Kind::TimestampTz => "timestamp with time zone",
            Kind::Bytes => "bytes",
        }
    }
}

/// The fields of one check.
#[derive(Debug, Clone)]
pub(super) struct Fields(Vec<(String, Kind)>);

/// Looks the columns up; an error says what cannot be compared.
pub(super) async fn of(
    conn: &mut PgConnection,
    table: &Table,
    unique: &Unique,
) -> Result<Result<Fields, String>, sqlx::Error> {
    let rows = sqlx::query(TYPES).bind(table.oid).bind(&unique.fields).fetch_all(conn).await?;
    let mut fields = Vec::with_capacity(unique.fields.len());
    for name in &unique.fields {
        let mut found = None;
        for row in &rows {
            if row.try_get::<String, _>(0)? == *name {
                found = Some(row);
            }
        }
        let Some(row) = found else { return Ok(Err(format!("{} has no column {name}", table.sql))) };
        if !row.try_get::<bool, _>(3)? {
            return Ok(Err(format!("{name} has a collation that takes texts that differ for equal")));
        }
        let Some(kind) = Kind::of(row.try_get(1)?, &row.try_get::<String, _>(2)?) else {
            return Ok(Err(format!("{name} is of the type {}", row.try_get::<String, _>(4)?)));
        };
        fields.push((name.clone(), kind));
    }
    Ok(Ok(Fields(fields)))
}

impl Fields {
    /// Whether a server of this version lacks what digests are made with.
    pub(super) fn lack(&self, version: u32) -> bool {
        version < TRIMS && self.0.iter().any(|(_, kind)| *kind == Kind::Numeric)
    }

    /// `number, text`.
    pub(super) fn form(&self) -> String {
        self.0.iter().map(|(_, kind)| kind.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The digest of the row `source`, null if one of the fields is. Sessions of ours have one text for each value of these types
    /// (see `session`). `salt`: the parameter that holds what all digests of this migration begin with; `number`: which check.
    pub(super) fn digest(&self, salt: usize, number: usize) -> String {
        let part = |(name, kind): &(String, Kind)| {
            let column = format!("source.{}", quote_ident(name));
            let text = match kind {
                Kind::Numeric => format!("trim_scale({column})::text"),
                _ => format!("{column}::text"),
            };
            format!(" || length({text}) || ':' || {text}")
        };
        let parts: String = self.0.iter().map(part).collect();
        format!("substring(sha256(convert_to(${salt}::text || '{number};'{parts}, 'UTF8')) for 16)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_have_lengths_so_that_no_two_lists_of_values_are_the_same_text() {
        let fields = Fields(vec![("a".into(), Kind::Numeric), ("b".into(), Kind::Text)]);
        assert_eq!(
            fields.digest(3, 1),
            "substring(sha256(convert_to($3::text || '1;' || length(trim_scale(source.\"a\")::text) || ':' || \
             trim_scale(source.\"a\")::text || length(source.\"b\"::text) || ':' || source.\"b\"::text, 'UTF8')) for 16)"
        );
        assert_eq!(fields.form(), "number, text");
        assert!(fields.lack(120_005) && !fields.lack(130_000));
    }

    #[test]
    fn what_has_no_exact_equality_is_not_compared() {
        assert_eq!(Kind::of(23, "b").map(Kind::as_str), Kind::of(1700, "b").map(Kind::as_str));
        assert_eq!(Kind::of(999_999, "e"), Some(Kind::Text), "a label of an enum");
        for (oid, what) in [(701, "float8"), (3802, "jsonb"), (1009, "text[]"), (1186, "interval")] {
            assert_eq!(Kind::of(oid, "b"), None, "{what}");
        }
    }
}
