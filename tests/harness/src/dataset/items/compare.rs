//! Rows found against rows expected: the loader's, and over them what the application last wrote.

use std::collections::BTreeMap;

use super::super::NAMED_KEYS;
use crate::writer::Model;

/// Key (as text) to payload.
pub(super) type Rows = BTreeMap<String, String>;

/// Every difference of `found` to what the loader and then the application wrote; one line for each kind of
/// difference, with the first few keys. Independent of the order of rows, and of anything a migration writes.
pub(super) fn differences(
    loaded: Rows,
    model: &Model,
    found: &Rows,
    label: fn(&str) -> String,
) -> Vec<String> {
    let mut expected: BTreeMap<String, Vec<Option<String>>> =
        loaded.into_iter().map(|(key, payload)| (key, vec![Some(payload)])).collect();
    for (_, key, states) in model.states() {
        expected.insert(key.to_owned(), states.to_vec());
    }
    let (mut lost, mut wrong, mut risen) = (Vec::new(), Vec::new(), Vec::new());
    for (key, states) in &expected {
        let payload = found.get(key);
        if !states.iter().any(|state| state.as_ref() == payload) {
            match payload {
                None => lost.push(label(key)),
                Some(_) if states.iter().all(Option::is_none) => risen.push(label(key)),
                Some(_) => wrong.push(label(key)),
            }
        }
    }
    let unknown: Vec<String> =
        found.keys().filter(|key| !expected.contains_key(*key)).map(|key| label(key)).collect();
    [
        ("items: a row was lost", lost),
        ("items: the payload is not what the application last wrote", wrong),
        ("items: a deleted row is back", risen),
        ("items: a row that nobody wrote", unknown),
    ]
    .into_iter()
    .filter_map(|(what, keys)| line(what, &keys))
    .collect()
}

fn line(what: &str, keys: &[String]) -> Option<String> {
    let named = keys.iter().take(NAMED_KEYS).cloned().collect::<Vec<_>>().join(", ");
    (!keys.is_empty()).then(|| format!("{what}: {}, such as {named}", keys.len()))
}

#[cfg(test)]
mod tests {
    use super::{Model, Rows, differences};

    fn rows(list: &[(&str, &str)]) -> Rows {
        list.iter().map(|(key, payload)| ((*key).to_owned(), (*payload).to_owned())).collect()
    }

    fn told(loaded: &[(&str, &str)], model: &Model, found: &[(&str, &str)]) -> Vec<String> {
        differences(rows(loaded), model, &rows(found), str::to_owned)
    }

    #[test]
    fn equal_rows_have_no_difference() {
        assert!(told(&[("1", "a")], &Model::default(), &[("1", "a")]).is_empty());
    }

    #[test]
    fn lost_wrong_risen_and_unknown_rows_are_told_apart() {
        let mut model = Model::default();
        model.wrote("items", "3", None);
        let told = told(&[("1", "a"), ("2", "b"), ("3", "c")], &model, &[("2", "x"), ("3", "c"), ("4", "d")]);
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].contains("lost: 1, such as 1"), "{told:?}");
        assert!(
            told[1].contains("such as 2") && told[2].contains("such as 3") && told[3].contains("such as 4")
        );
    }

    #[test]
    fn a_write_of_unknown_outcome_may_be_there_or_not_but_nothing_else_may() {
        let mut model = Model::default();
        model.may_have_written("items", "1", Some("a".into()), Some("b".into()));
        for fine in ["a", "b"] {
            assert!(told(&[("1", "a")], &model, &[("1", fine)]).is_empty());
        }
        assert_eq!(told(&[("1", "a")], &model, &[("1", "c")]).len(), 1);
        assert_eq!(told(&[("1", "a")], &model, &[]).len(), 1);
    }
}
