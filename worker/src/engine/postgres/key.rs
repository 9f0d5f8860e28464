//! Keys in SQL: read as text, compared by the shard in the columns' own types and collations.
//!
//! A key travels as `text[]`, one element per column, and is cast back where it is compared. Row comparison makes
//! composite keys one ordered thing, which a multi-column index can walk.

use shardlift_domain::range::KeyText;
use shardlift_domain::sql::quote_ident;

/// The columns that a walk goes by, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    columns: Vec<KeyColumn>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    pub(super) name: String,
    /// Its type without length or precision.
    pub(super) cast: String,
}

/// One bound of an interval as it is bound to a statement.
pub(super) type Bound = Option<Vec<String>>;

impl Key {
    pub(super) fn new(columns: Vec<KeyColumn>) -> Self {
        Self { columns }
    }

    /// The columns.
    pub(super) fn columns(&self) -> &[KeyColumn] {
        &self.columns
    }

    /// `"a", "b"`: for select lists and ORDER BY.
    pub(super) fn list(&self) -> String {
        self.each(|_, column| quote_ident(&column.name))
    }

    /// `"a" DESC, "b" DESC`.
    pub(super) fn descending(&self) -> String {
        self.each(|_, column| format!("{} DESC", quote_ident(&column.name)))
    }

    /// The key as `text[]`, of the columns of `from` (a table or an alias, ready for SQL).
    pub(super) fn texts(&self, from: &str) -> String {
        format!("ARRAY[{}]", self.each(|_, column| format!("{from}.{}::text", quote_ident(&column.name))))
    }

    /// `t."a"::text AS shardlift_k0, …`.
    pub(super) fn named(&self, from: &str) -> String {
        self.each(|n, column| format!("{from}.{}::text AS shardlift_k{}", quote_ident(&column.name), n - 1))
    }

    /// Conditions by which a row of the walked table has the key that stands in `other` as [`Key::named`] names it.
    pub(super) fn same_as(&self, other: &str) -> String {
        let equal = |(n, column): (usize, &KeyColumn)| {
            format!("{} = {other}.shardlift_k{n}::{}", quote_ident(&column.name), column.cast)
        };
        self.columns.iter().enumerate().map(equal).collect::<Vec<_>>().join(" AND ")
    }

    /// `("a", "b") OPERATOR` the key in the parameter of this number.
    pub(super) fn compare(&self, operator: &str, parameter: usize) -> String {
        let theirs = self.each(|n, column| format!("(${parameter}::text[])[{n}]::{}", column.cast));
        match self.columns.len() {
            1 => format!("{} {operator} {theirs}", self.list()),
            _ => format!("({}) {operator} ({theirs})", self.list()),
        }
    }

    /// Conditions of the interval `(lower, upper]` with these parameters; `None`: open at that side.
    pub(super) fn between(&self, lower: Option<usize>, upper: Option<usize>) -> String {
        let after = lower.map(|parameter| self.compare(">", parameter));
        let upto = upper.map(|parameter| self.compare("<=", parameter));
        let conditions: Vec<String> = after.into_iter().chain(upto).collect();
        if conditions.is_empty() { "true".into() } else { conditions.join(" AND ") }
    }

    fn each(&self, write: impl Fn(usize, &KeyColumn) -> String) -> String {
        let parts: Vec<String> =
            self.columns.iter().enumerate().map(|(n, column)| write(n + 1, column)).collect();
        parts.join(", ")
    }
}

/// A key as it is shown to a person.
pub(super) fn shown(key: &[String]) -> String {
    KeyText(key.to_vec()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(columns: &[(&str, &str)]) -> Key {
        Key::new(
            columns
                .iter()
                .map(|(name, cast)| KeyColumn { name: (*name).into(), cast: (*cast).into() })
                .collect(),
        )
    }

    #[test]
    fn a_single_key_is_compared_plainly() {
        let key = key(&[("id", "bigint")]);
        assert_eq!(key.between(Some(1), None), "\"id\" > ($1::text[])[1]::bigint");
        assert_eq!(key.between(None, None), "true");
    }

    #[test]
    fn a_composite_key_is_compared_as_one_row() {
        let key = key(&[("a", "uuid"), ("b", "text")]);
        assert_eq!(
            key.between(None, Some(12)),
            "(\"a\", \"b\") <= (($12::text[])[1]::uuid, ($12::text[])[2]::text)"
        );
        assert_eq!(key.texts("w"), "ARRAY[w.\"a\"::text, w.\"b\"::text]");
    }
}
