//! Spec files on disk: found, read, and checked here before anybody else is asked.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::spec::{MAX_FILE, SpecFile, parse_all};

use crate::console::{Console, Ended, Output};
use crate::view::figures::counted;
use crate::view::harmless::line;

/// Reads files, or all spec files of directories and the directories in them, in the order of their names; then
/// checks them all. Every problem of every file is told.
pub(crate) fn load(paths: &[PathBuf], console: &Console) -> Result<Vec<SpecFile>, Ended> {
    let Found { files, others } = read(paths)?;
    if let ([first, ..], Output::Table) = (others.as_slice(), console.output) {
        let all = counted(others.len(), "*.sql file");
        console
            .note(&format!("left out {all} without a line \"-- shardlift: …\", such as {}\n", line(first)));
    }
    match parse_all(&files) {
        Ok(_) => Ok(files),
        Err(problems) => {
            let failures = problems.iter().flat_map(|of_file| of_file.failures()).collect();
            Err(Ended::Refused { failures, files })
        }
    }
}

/// What a search came upon.
#[derive(Debug, Default)]
struct Found {
    files: Vec<SpecFile>,
    /// Names of SQL files that are no specs: directories hold other scripts too.
    others: Vec<String>,
}

fn read(given: &[PathBuf]) -> Result<Found, Vec<Failure>> {
    let (mut named, mut gathered, mut problems) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for path in given {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => gather(path, &mut gathered, &mut problems),
            Ok(_) => drop(named.insert(path.clone())),
            Err(error) => problems.push(unreadable(path, &error)),
        }
    }
    let Found { mut files, mut others } = Found::default();
    for path in named.union(&gathered) {
        match read_file(path) {
            Ok(file) if named.contains(path) || is_annotated(&file) => files.push(file),
            Ok(file) => others.push(file.name),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if files.is_empty() {
        let names: Vec<_> = given.iter().map(|path| path.display().to_string()).collect();
        let message = format!("no spec files in {}", names.join(", "));
        let next = "put *.yaml or *.sql files there (shardlift new writes one), or name another directory";
        return Err(vec![Failure::new(ErrorCode::RequestInvalid, message, next)]);
    }
    Ok(Found { files, others })
}

/// Whether a file that was found, not named, is a spec. A mark that is misspelt counts: the file is read, and refused
/// with the reason.
fn is_annotated(file: &SpecFile) -> bool {
    let marks = |line: &str| {
        let comment =
            line.trim_start().strip_prefix("--").map(|rest| rest.trim_start_matches(['-', ' ', '\t']));
        comment.is_some_and(|rest| rest.to_ascii_lowercase().starts_with("shardlift"))
    };
    !file.name.to_ascii_lowercase().ends_with(".sql") || file.text.lines().any(marks)
}

/// Hidden files are left out: editors keep their copies there. Links to directories are not followed, so there is
/// no way round in a circle.
fn gather(directory: &Path, paths: &mut BTreeSet<PathBuf>, problems: &mut Vec<Failure>) {
    let entries = match fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => return problems.push(unreadable(directory, &error)),
    };
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => gather(&path, paths, problems),
            Ok(_) if is_spec(&path) => drop(paths.insert(path)),
            Ok(_) => {}
            Err(error) => problems.push(unreadable(&path, &error)),
        }
    }
}

/// The names that the parser knows: one left out in silence would be missed on the shards only.
fn is_spec(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["yaml", "yml", "sql"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn read_file(path: &Path) -> Result<SpecFile, Vec<Failure>> {
    let name = path.display().to_string();
    let invalid = |message: String, next: &str| {
        vec![Failure::new(ErrorCode::SpecInvalid, message, next).in_file(name.clone())]
    };
    let size = fs::metadata(path).map_err(|error| vec![unreadable(path, &error)])?.len();
    if size > MAX_FILE as u64 {
        return Err(invalid(
            format!("{size} bytes, and a spec has at most {MAX_FILE}"),
            "keep data out of specs",
        ));
    }
    let bytes = fs::read(path).map_err(|error| vec![unreadable(path, &error)])?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(SpecFile { name, text }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(invalid(format!("the file is not UTF-8 from byte {at} on"), "save it as UTF-8"))
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot read {}: {error}", path.display());
    Failure::new(ErrorCode::RequestInvalid, message, "name a spec file, or a directory of spec files")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str) -> String {
        format!(
            "id: {id}\nkind: schema\nengine: postgres\ncluster: chat\nup: [\"ALTER TABLE a ADD b text\"]\n"
        )
    }

    fn loaded(path: &Path) -> Result<Vec<SpecFile>, Ended> {
        load(&[path.to_owned()], &Console::new(Output::Json, None))
    }

    fn failures(path: &Path) -> Vec<Failure> {
        match loaded(path) {
            Err(Ended::Refused { failures, .. }) => failures,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_directory_stands_for_all_its_spec_files_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("below")).expect("made");
        for (name, id) in [("2.yaml", "b"), ("below/1.yml", "c"), ("1.YAML", "a")] {
            fs::write(dir.path().join(name), spec(id)).expect("written");
        }
        for (name, text) in [(".3.yaml.swp", "x"), (".hidden.yaml", "x"), ("README.md", "x")] {
            fs::write(dir.path().join(name), text).expect("written");
        }
        let files = loaded(dir.path()).expect("valid");
        let names: Vec<_> = files.iter().map(|file| file.name.rsplit('/').next().expect("a name")).collect();
        assert_eq!(names, ["1.YAML", "2.yaml", "1.yml"]);
    }

    #[test]
    fn the_problems_of_all_files_are_told_at_once_with_their_places() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["1.yaml", "2.yaml"] {
            fs::write(dir.path().join(name), spec("a b") + "whatever: 1\n").expect("written");
        }
        let failures = failures(dir.path());
        let places: Vec<_> = failures.iter().filter_map(|each| each.place.file.as_deref()).collect();
        for place in ["1.yaml:1:5", "1.yaml:6:1", "2.yaml:1:5", "2.yaml:6:1"] {
            assert!(places.iter().any(|known| known.ends_with(place)), "{place} is not in {places:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_so() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(failures(&dir.path().join("absent"))[0].code, ErrorCode::RequestInvalid);
        assert_eq!(failures(dir.path())[0].code, ErrorCode::RequestInvalid);
        fs::write(dir.path().join("latin.yaml"), b"id: caf\xe9").expect("written");
        fs::write(dir.path().join("large.yaml"), vec![b'#'; MAX_FILE + 1]).expect("written");
        let codes: Vec<_> = failures(dir.path()).iter().map(|failure| failure.code).collect();
        assert_eq!(codes, [ErrorCode::SpecInvalid; 2]);
    }

    #[test]
    fn a_circle_of_links_has_an_end() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("1.yaml"), spec("a")).expect("written");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("round")).expect("linked");
        assert_eq!(loaded(dir.path()).expect("valid").len(), 1);
    }

    #[test]
    fn a_script_without_the_mark_is_no_spec_unless_it_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let script = dir.path().join("report.sql");
        fs::write(&script, "-- for Shardlift\nSELECT 1;\n").expect("written");
        fs::write(dir.path().join("1.yaml"), spec("a")).expect("written");
        let found = read(&[dir.path().to_owned()]).expect("read");
        assert_eq!((found.files.len(), found.others), (1, vec![script.display().to_string()]));
        assert_eq!(failures(&script)[0].code, ErrorCode::SpecInvalid);
        fs::write(&script, "--SHARDLIFT id=b\nSELECT 1;\n").expect("written");
        assert_eq!(failures(dir.path())[0].code, ErrorCode::SpecInvalid, "a misspelt mark is told");
    }

    #[test]
    fn several_paths_make_one_set_and_a_file_counts_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let one = dir.path().join("1.yaml");
        fs::write(&one, spec("a")).expect("written");
        let found = read(&[one.clone(), dir.path().to_owned(), one]).expect("read");
        assert_eq!(found.files.len(), 1);
    }
}
