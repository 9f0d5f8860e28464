//! Compiles the coordinator again when a table of its store is added: the tables are embedded in the program.

fn main() {
    println!("cargo::rerun-if-changed=../migrations/metadata");
}
