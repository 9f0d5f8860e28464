//! `cargo xtask VERB`: installs what is missing on this machine, builds, and runs the real programs.
//!
//! A launcher without dependencies: it must compile before the tools are there that other crates need to compile.
//! What the programs do is none of its business.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

mod apt;
mod cargo;
mod counts;
mod help;
mod machine;
mod memory;
mod mongod;
mod python;
mod run;
mod tansu;
mod test;

use std::process::ExitCode;

/// What went wrong, in words for the person at the terminal.
type Failure = String;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        [] => {
            eprintln!("{}", help::GENERAL);
            return ExitCode::from(2);
        }
        ["help" | "--help" | "-h"] => help::show(help::GENERAL),
        ["help", verb] | [verb, "help" | "--help" | "-h", ..] => help::of(verb),
        ["demo", rest @ ..] => run::demo(rest),
        ["bench", rest @ ..] => run::bench(rest),
        ["servers", rest @ ..] => run::servers(rest),
        ["test", rest @ ..] => test::run(rest),
        [verb, ..] => {
            eprintln!("cargo xtask: there is no verb {verb}\n\n{}", help::GENERAL);
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("cargo xtask: {failure}");
        ExitCode::FAILURE
    })
}
