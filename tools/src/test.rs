//! `cargo xtask test`: the parts of the test run, and their sum.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::cargo::Cargo;
use crate::counts::Counts;
use crate::machine::{self, For};
use crate::{Failure, help, memory, python, tansu};

/// The same features in every part that compiles, so that all use the same artefacts.
const FEATURES: [&str; 2] = ["--features", "shardlift-coordinator/failpoints,shardlift-worker/failpoints"];

/// How many tests of one program run at once; cargo's own name for it.
const THREADS: &str = "RUST_TEST_THREADS";

/// Where temporary files go, servers' data among them; the system's own name for it.
const DIRECTORY: &str = "TMPDIR";

/// Three times the processors: scenarios mostly wait, for servers, leases and time-outs. With twice, a third of two processors
/// stood idle; four times leaves no processor for whoever must answer in time.
fn threads() -> usize {
    3 * std::thread::available_parallelism().map_or(1, usize::from)
}

/// Scenarios that look at the dashboard with a real browser. Packages of it are called otherwise on other systems, or are not
/// there: then these are left out, and the last lines say so.
const BROWSER: &str = "browser::";

/// Tests that need a real RabbitMQ; the same holds for them.
const BROKER: &str = "rabbitmq::";

/// Scenarios of strangers who come with Python. Where its packages cannot be had, these are left out, and the last lines say so.
const PYTHON: &str = "python::";

/// One part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Format,
    Clippy,
    /// The product's programs, which scenarios start, together with the tests: one resolution, so one set of artefacts.
    Build,
    /// Which tests.
    Tests(&'static [&'static str]),
}

const ALL_TESTS: Part = Part::Tests(&[]);
const UNIT: Part = Part::Tests(&["--exclude", "shardlift-tests"]);
const SCENARIOS: Part = Part::Tests(&["--test", "scenarios"]);
const TIDY: Part = Part::Tests(&["--test", "tidy"]);
/// Tests against a broker that takes long to build: left out otherwise, each by an `#[ignore]`.
const LONG: Part = Part::Tests(&["tansu::", "--", "--ignored"]);

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Format => "fmt",
            Self::Clippy => "clippy",
            Self::Build => "build",
            Self::Tests(_) => "tests",
        }
    }

    fn arguments<'a>(self, filter: Option<&'a str>, without: &[&'a str]) -> Vec<&'a str> {
        match self {
            Self::Format => vec!["fmt", "--all", "--check"],
            Self::Clippy => {
                [&["clippy", "--workspace", "--all-targets"], &FEATURES[..], &["--", "-D", "warnings"]]
                    .concat()
            }
            Self::Build => [&["build", "--workspace", "--bins", "--tests"], &FEATURES[..]].concat(),
            Self::Tests(which) => {
                let filter: Vec<&str> = filter.into_iter().collect();
                let mut skip: Vec<&str> =
                    without.iter().flat_map(|scenarios| ["--skip", scenarios]).collect();
                if !skip.is_empty() {
                    skip.insert(0, "--");
                }
                [&["test", "--workspace", "--no-fail-fast"], &FEATURES[..], which, &filter, &skip].concat()
            }
        }
    }
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    parts: Vec<Part>,
    filter: Option<&'a str>,
}

pub(crate) fn run(args: &[&str]) -> Result<ExitCode, Failure> {
    let request = match understand(args) {
        Ok(request) => request,
        Err(problem) => {
            eprintln!("cargo xtask test: {problem}\n");
            help::of("test")?;
            return Ok(ExitCode::from(2));
        }
    };
    let cargo = Cargo::find()?;
    let mongod = machine::prepare(purpose(&request.parts))?;
    let tansu = request.parts.contains(&LONG).then(|| tansu::prepare(&cargo)).transpose()?;
    let tools = Tools { mongod, python: python_for(&request.parts), tansu };
    let mut without = Vec::new();
    if browser_is_missing(&request.parts) {
        without.push((BROWSER, "there is no chromedriver"));
    }
    if broker_is_missing(&request.parts) {
        without.push((BROKER, "there is no RabbitMQ"));
    }
    if needs_tools(&request.parts) && tools.python.is_none() {
        without.push((PYTHON, "there is no Python with the packages that they need"));
    }
    let skipped: Vec<&str> = without.iter().map(|(scenarios, _)| *scenarios).collect();
    let mut counts = Counts::default();
    let mut times = Vec::new();
    for part in &request.parts {
        let arguments = part.arguments(request.filter, &skipped);
        let time = run_part(*part, &arguments, &cargo, &tools, &mut counts)?;
        times.push((part.name(), time));
    }
    let code = report(&request, &counts, &times);
    for (scenarios, why) in without {
        eprintln!("left out: {scenarios}, since {why}; the reason is above");
    }
    Ok(code)
}

fn understand<'a>(args: &[&'a str]) -> Result<Request<'a>, String> {
    let (mut only, mut filter, mut long) = (None, None, false);
    let mut args = args.iter();
    while let Some(&arg) = args.next() {
        if let Some(part) = arg.strip_prefix("--only=") {
            only = Some(part);
        } else if arg == "--only" {
            only = Some(*args.next().ok_or("--only needs a part")?);
        } else if arg == "--long" {
            long = true;
        } else if arg.starts_with('-') {
            return Err(format!("there is no option {arg}"));
        } else if filter.replace(arg).is_some() {
            return Err("one FILTER at a time".to_owned());
        }
    }
    if long {
        let alone = only.is_none() && filter.is_none();
        let parts = vec![Part::Build, LONG];
        return alone.then_some(Request { parts, filter }).ok_or("--long stands alone".to_owned());
    }
    let parts = match (only, filter) {
        (None, None) => vec![Part::Format, Part::Clippy, Part::Build, ALL_TESTS],
        (None, Some(_)) => vec![Part::Build, ALL_TESTS],
        (Some("fmt"), _) => vec![Part::Format],
        (Some("clippy"), _) => vec![Part::Clippy],
        (Some("unit"), _) => vec![UNIT],
        (Some("scenarios"), _) => vec![Part::Build, SCENARIOS],
        (Some("tidy"), _) => vec![TIDY],
        (Some(other), _) => return Err(format!("there is no part {other}")),
    };
    Ok(Request { parts, filter })
}

/// What tests are run with, beside cargo.
struct Tools {
    mongod: Option<PathBuf>,
    python: Option<PathBuf>,
    tansu: Option<PathBuf>,
}

fn needs_tools(parts: &[Part]) -> bool {
    parts.iter().any(|part| [ALL_TESTS, SCENARIOS].contains(part))
}

/// The Python of scenarios; none where they need it and it could not be made.
fn python_for(parts: &[Part]) -> Option<PathBuf> {
    if !needs_tools(parts) {
        return None;
    }
    let made = python::prepare();
    made.map_err(|why| eprintln!("no Python, so the scenarios {PYTHON} are left out: {why}")).ok()
}

/// Whether scenarios need a browser that is not there and could not be installed.
fn browser_is_missing(parts: &[Part]) -> bool {
    if !needs_tools(parts) {
        return false;
    }
    match machine::prepare_browser() {
        Ok(()) => false,
        Err(why) => {
            eprintln!("no browser, so the scenarios {BROWSER} are left out: {why}");
            true
        }
    }
}

/// Whether tests need a message broker that is not there and could not be installed.
fn broker_is_missing(parts: &[Part]) -> bool {
    if !parts.iter().any(|part| [ALL_TESTS, UNIT, SCENARIOS].contains(part)) {
        return false;
    }
    match machine::prepare_broker() {
        Ok(()) => false,
        Err(why) => {
            eprintln!("no RabbitMQ, so the tests {BROKER} are left out: {why}");
            true
        }
    }
}

fn purpose(parts: &[Part]) -> For {
    let servers = |part: &Part| matches!(part, Part::Tests(_)) && *part != TIDY;
    if parts.iter().any(servers) { For::Servers } else { For::Build }
}

/// Runs one part and reads its results; fails only when cargo cannot be run.
fn run_part(
    part: Part,
    arguments: &[&str],
    cargo: &Cargo,
    tools: &Tools,
    counts: &mut Counts,
) -> Result<Duration, Failure> {
    let started = Instant::now();
    println!("\n== {}: cargo {}", part.name(), arguments.join(" "));
    let mut command = cargo.command(arguments);
    command.env("RUST_BACKTRACE", "0").env("SHARDLIFT_BIN_DIR", cargo.bin_dir("debug")).stdin(Stdio::null());
    command.stdout(Stdio::piped());
    for (key, program) in [
        ("SHARDLIFT_MONGOD", &tools.mongod),
        ("SHARDLIFT_PYTHON", &tools.python),
        ("SHARDLIFT_TANSU", &tools.tansu),
    ] {
        if let Some(program) = program {
            command.env(key, program);
        }
    }
    if std::env::var_os(THREADS).is_none() {
        command.env(THREADS, threads().to_string());
    }
    if let (Part::Tests(_), None, Some(place)) = (part, std::env::var_os(DIRECTORY), memory::place(threads()))
    {
        println!("== {}: servers keep their data in {}", part.name(), place.display());
        command.env(DIRECTORY, place);
    }
    let mut child = command.spawn().map_err(|error| format!("cannot run cargo: {error}"))?;
    let failed_before = counts.failed;
    if let Some(output) = child.stdout.take() {
        pass_on(output, counts);
    }
    let status = child.wait().map_err(|error| format!("lost cargo: {error}"))?;
    if !status.success() && counts.failed == failed_before {
        counts.fail(part.name());
    }
    let time = started.elapsed();
    println!(
        "== {}: {} after {:.1} s",
        part.name(),
        if status.success() { "ok" } else { "FAILED" },
        time.as_secs_f64()
    );
    Ok(time)
}

/// A test may print anything, also what is no text.
fn pass_on(output: impl std::io::Read, counts: &mut Counts) {
    let mut lines = BufReader::new(output).split(b'\n');
    while let Some(Ok(line)) = lines.next() {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.read(&line);
    }
}

fn report(request: &Request, counts: &Counts, times: &[(&str, Duration)]) -> ExitCode {
    println!();
    for (name, time) in times {
        println!("{name:<8} {:>7.1} s", time.as_secs_f64());
    }
    for failure in &counts.failures {
        println!("failed: {failure}");
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    let expected = request.parts.iter().any(|part| matches!(part, Part::Tests(_)));
    if expected && counts.passed + counts.failed == 0 {
        eprintln!("no test was run");
        return ExitCode::FAILURE;
    }
    if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_arguments_everything_runs() {
        let request = understand(&[]).unwrap();
        assert_eq!(request.parts, [Part::Format, Part::Clippy, Part::Build, ALL_TESTS]);
    }

    #[test]
    fn a_filter_reaches_the_tests_alone() {
        let request = understand(&["killed"]).unwrap();
        assert_eq!(request.parts, [Part::Build, ALL_TESTS]);
        assert_eq!(request.parts[1].arguments(request.filter, &[]).last(), Some(&"killed"));
        assert!(!request.parts[0].arguments(request.filter, &[]).contains(&"killed"));
    }

    #[test]
    fn without_a_browser_its_scenarios_alone_are_left_out() {
        let arguments = ALL_TESTS.arguments(None, &[BROWSER]);
        assert!(arguments.ends_with(&["--", "--skip", BROWSER]), "{arguments:?}");
        let arguments = ALL_TESTS.arguments(None, &[BROWSER, PYTHON]);
        assert!(arguments.ends_with(&["--", "--skip", BROWSER, "--skip", PYTHON]), "{arguments:?}");
        assert!(!TIDY.arguments(None, &[]).contains(&"--skip"));
        assert!(!Part::Build.arguments(None, &[BROWSER]).contains(&"--skip"));
        assert!(!browser_is_missing(&[Part::Build, TIDY]), "nothing here needs one");
        assert!(!broker_is_missing(&[Part::Build, TIDY]), "nothing here needs one");
    }

    #[test]
    fn what_takes_long_runs_only_when_it_is_asked_for() {
        let request = understand(&["--long"]).unwrap();
        assert_eq!(request.parts, [Part::Build, LONG]);
        assert!(LONG.arguments(None, &[]).ends_with(&["tansu::", "--", "--ignored"]));
        for part in understand(&[]).unwrap().parts {
            assert!(!part.arguments(None, &[]).contains(&"--ignored"), "{part:?}");
        }
    }

    #[test]
    fn only_what_starts_servers_needs_them() {
        assert_eq!(purpose(&understand(&["--only", "tidy"]).unwrap().parts), For::Build);
        assert_eq!(purpose(&understand(&["--only", "unit"]).unwrap().parts), For::Servers);
        assert_eq!(purpose(&understand(&["--only=scenarios"]).unwrap().parts), For::Servers);
        assert_eq!(purpose(&understand(&[]).unwrap().parts), For::Servers);
    }

    #[test]
    fn mistakes_are_told() {
        for (args, word) in [
            (&["--only"][..], "needs a part"),
            (&["--only", "lint"], "no part lint"),
            (&["--fast"], "no option --fast"),
            (&["a", "b"], "one FILTER"),
            (&["--long", "a"], "stands alone"),
            (&["--only", "unit", "--long"], "stands alone"),
        ] {
            let problem = understand(args).unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn every_part_that_compiles_uses_the_same_features() {
        for part in [Part::Clippy, Part::Build, ALL_TESTS, UNIT, SCENARIOS, TIDY, LONG] {
            assert!(part.arguments(None, &[]).join(" ").contains(&FEATURES.join(" ")), "{part:?}");
        }
    }
}
