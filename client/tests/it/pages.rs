//! Every error code has its page, and the page says what the code says.

use std::collections::BTreeSet;
use std::path::PathBuf;

use shardlift_domain::ErrorCode;

fn errors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/errors")
}

#[test]
fn every_error_code_has_a_page_that_agrees_with_it() {
    let index = std::fs::read_to_string(errors().join("README.md")).expect("docs/errors/README.md");
    for code in ErrorCode::ALL {
        let page = std::fs::read_to_string(errors().join(format!("{code}.md")))
            .unwrap_or_else(|error| panic!("docs/errors/{code}.md: {error}"));
        assert!(page.starts_with(&format!("# `{code}`\n")), "{code}: another title");
        assert!(page.contains(&format!("- Whose fault: {}\n", code.fault())), "{code}: another fault");
        let again = if code.retryable() { "yes" } else { "no" };
        assert!(page.contains(&format!("- Tried again by itself: {again}\n")), "{code}: tried again?");
        for part in ["## What it means", "## How it comes about", "## What to do"] {
            assert!(page.contains(part), "{code}: {part} is missing");
        }
        assert!(index.contains(&format!("[`{code}`]({code}.md)")), "{code} is not in the index");
    }
}

#[test]
fn no_page_is_left_without_its_code() {
    let codes: BTreeSet<String> = ErrorCode::ALL.iter().map(|code| format!("{code}.md")).collect();
    for entry in std::fs::read_dir(errors()).expect("docs/errors") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(name == "README.md" || codes.contains(&name), "docs/errors/{name} has no code");
    }
}
