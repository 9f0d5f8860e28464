//! What comes of looking for rows that refer to nothing, the same for both engines.

use shardlift_domain::spec::{References, VerifyCheck};
use shardlift_domain::verdict::CheckResult;

/// Most rows that are counted: beyond that the number says nothing more.
pub(super) const MOST: i64 = 10_000;
/// Keys that are named.
pub(super) const NAMED: usize = 10;

/// The result: how many rows refer to nothing, and the first keys of them.
pub(super) fn judged(references: &References, orphans: u64, keys: &[String]) -> CheckResult {
    let check = VerifyCheck::References(references.clone()).label().to_owned();
    let most = u64::try_from(MOST).unwrap_or(u64::MAX);
    let detail = match orphans {
        0 => format!("all that {references} refer to is there"),
        _ => {
            let count = if orphans > most { format!("more than {most}") } else { orphans.to_string() };
            let more = if orphans > keys.len() as u64 { ", …" } else { "" };
            format!("{count} rows refer to what is not there, by {references}: {}{more}", keys.join(", "))
        }
    };
    CheckResult { check, passed: orphans == 0, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orphans_are_counted_up_to_a_bound_and_named() {
        let references =
            References { fields: vec!["channel".into()], to: "channels".into(), key: vec!["id".into()] };
        let none = judged(&references, 0, &[]);
        assert!(none.passed && none.check == "references", "{none:?}");
        let two = judged(&references, 2, &["7".into(), "9".into()]);
        assert_eq!(two.detail, "2 rows refer to what is not there, by channel to channels (id): 7, 9");
        let many = judged(&references, 10_001, &["7".into()]);
        assert!(!many.passed && many.detail.starts_with("more than 10000 rows"), "{many:?}");
        assert!(many.detail.ends_with("7, …"), "{many:?}");
    }
}
