//! Two PostgreSQL servers and two MongoDB replica sets to play with, until Ctrl-C.
#![allow(clippy::print_stdout, reason = "a command line program talks to its user")]

use anyhow::Result;
use shardlift_harness::servers::{Mongod, MongodOptions, Postgres, PostgresOptions};
use shardlift_harness::wait::until_told_to_end;

#[tokio::main]
async fn main() -> Result<()> {
    tokio::select! {
        result = serve() => result,
        () = until_told_to_end() => Ok(()),
    }
}

/// Dropping the future removes the servers.
async fn serve() -> Result<()> {
    let (pg_1, pg_2, mg_1, mg_2) = tokio::try_join!(
        Postgres::start_named("pg-01", PostgresOptions::default()),
        Postgres::start_named("pg-02", PostgresOptions::default()),
        Mongod::start_named("mg-01", MongodOptions::default()),
        Mongod::start_named("mg-02", MongodOptions::default()),
    )?;
    for (server, process) in [(&pg_1, pg_1.process()), (&pg_2, pg_2.process())] {
        println!(
            "{}   (process {}, log {})",
            server.create_database("chat").await?,
            process.pid(),
            process.log().display()
        );
    }
    for server in [&mg_1, &mg_2] {
        let process = server.process();
        println!("{}   (process {}, log {})", server.dsn("chat"), process.pid(), process.log().display());
    }
    println!("\nCtrl-C ends them and removes their data.");
    std::future::pending().await
}
