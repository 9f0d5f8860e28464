//! Reading the tree: files, their product lines (without inline tests), manifests.

use std::fs;
use std::path::{Path, PathBuf};

/// One file.
pub(crate) struct Source {
    /// Path below the root, with `/`.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
}

impl Source {
    /// The lines that are shipped: without `#[cfg(test)]` modules at the end, and not of test files.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let test_file = self.path.contains("/tests/")
            || self.path.ends_with("tests.rs")
            || self.path.ends_with("conformance.rs")
            || self.path.ends_with("testing.rs");
        let end = self.text.lines().position(|line| line.trim() == "#[cfg(test)]").map_or(usize::MAX, |at| {
            let next = self.text.lines().nth(at + 1).unwrap_or_default();
            if next.trim_start().starts_with("mod ") && next.contains('{') { at } else { usize::MAX }
        });
        self.text
            .lines()
            .enumerate()
            .filter(move |(at, _)| !test_file && *at < end)
            .map(|(at, line)| (at + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_path_buf()
}

/// All Rust files below these folders.
pub(crate) fn rust(folders: &[&str]) -> Vec<Source> {
    files(folders, "rs")
}

/// All files with this ending below these folders; an empty result is a mistake of the caller.
pub(crate) fn files(folders: &[&str], ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), ending, &mut found);
    }
    assert!(!found.is_empty(), "nothing found in {folders:?}");
    found
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, ending, found);
            }
        } else if path.extension().is_some_and(|extension| extension == ending) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let below =
                path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
            found.push(Source { path: below, text });
        }
    }
}

/// The text of one file.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names under `[dependencies]` (not dev- or build-dependencies) of a manifest.
pub(crate) fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in read(manifest).lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if inside && let Some(end) = line.find(['.', ' ', '=']) {
            names.push(line[..end].to_owned());
        }
    }
    assert!(
        !names.is_empty() || manifest.starts_with("tools"),
        "{manifest} has no dependencies: is it read right?"
    );
    names
}

/// Fails with all offences at once.
pub(crate) fn none(what: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{what}:\n  {}", offences.join("\n  "));
}

/// Shipped lines below these folders that hold one of the words.
pub(crate) fn lines_with(folders: &[&str], words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut offences = Vec::new();
    for source in rust(folders).iter().filter(|source| !allowed(&source.path)) {
        for (number, line) in source.shipped() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                offences.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    offences
}
