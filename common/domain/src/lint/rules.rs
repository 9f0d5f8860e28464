//! The table of rules. Those of PostgreSQL have the names of the linter that finds them, but for three of our own;
//! docs/lint.md shows this table, and a test holds it to it.
//!
//! Rules of the linter that are not here either cannot fire (the parser refuses transactions and sessions, the worker
//! sets the timeouts and runs what refuses a transaction alone) or are taste.

use super::Rule;
use crate::spec::Engine;
use crate::verdict::Severity;

const fn postgres(
    name: &'static str,
    severity: Severity,
    danger: &'static str,
    instead: &'static str,
) -> Rule {
    Rule { name, engine: Engine::Postgres, severity, danger, instead }
}

const fn mongodb(
    name: &'static str,
    severity: Severity,
    danger: &'static str,
    instead: &'static str,
) -> Rule {
    Rule { name, engine: Engine::Mongodb, severity, danger, instead }
}

use Severity::{Error, Note, Warning};

const VALIDATE_LATER: &str = "add it NOT VALID, and VALIDATE CONSTRAINT in a later migration";
const NEW_NAME: &str =
    "add the new one, fill it by a data migration, change the application over, then drop the old one";

/// The table.
pub(super) const RULES: &[Rule] = &[
    // Long locks and rewrites.
    postgres(
        "require-concurrent-index-creation",
        Error,
        "writes to the table wait until the index is built",
        "write CREATE INDEX CONCURRENTLY, with a name",
    ),
    postgres(
        "require-concurrent-index-deletion",
        Warning,
        "reads and writes of the table wait while the index is dropped",
        "write DROP INDEX CONCURRENTLY",
    ),
    postgres(
        "require-concurrent-reindex",
        Error,
        "writes to the table wait until the index is built anew",
        "write REINDEX … CONCURRENTLY",
    ),
    postgres(
        "constraint-missing-not-valid",
        Error,
        "every row is checked while the table is locked",
        VALIDATE_LATER,
    ),
    postgres(
        "adding-foreign-key-constraint",
        Error,
        "every row is checked while writes to both tables wait",
        VALIDATE_LATER,
    ),
    postgres(
        "adding-field-with-default",
        Error,
        "the table is rewritten while nobody can read or write it",
        "add the column without that default, fill it by a data migration, then set the default",
    ),
    postgres(
        "changing-column-type",
        Error,
        "the table may be rewritten while nobody can read or write it, and the application meets another type",
        "add a new column, fill it by a data migration, change the application over, then drop the old one",
    ),
    postgres(
        "adding-not-nullable-field",
        Error,
        "every row is read while nobody can read or write the table",
        "add CHECK (column IS NOT NULL) NOT VALID, validate it in a later migration, then SET NOT NULL, which reads nothing any more",
    ),
    postgres(
        "adding-required-field",
        Error,
        "it fails where the table has rows, and breaks inserts that do not know the column",
        "give it a constant default, or let it be NULL and fill it by a data migration",
    ),
    postgres(
        "adding-serial-primary-key-field",
        Error,
        "an index is built while nobody can read or write the table",
        "CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT … PRIMARY KEY USING INDEX",
    ),
    postgres(
        "disallowed-unique-constraint",
        Error,
        "an index is built while nobody can read or write the table",
        "CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT … UNIQUE USING INDEX",
    ),
    postgres(
        "ban-alter-domain-with-add-constraint",
        Error,
        "every column of that domain is checked while its table is locked",
        "put a constraint on each table, NOT VALID first",
    ),
    postgres(
        "ban-create-domain-with-constraint",
        Warning,
        "the constraint of a domain cannot be changed later without locking every table that uses it",
        "put the constraint on the tables",
    ),
    postgres(
        "ban-alter-generated-expression",
        Error,
        "the table is rewritten while nobody can read or write it",
        "add a new column, change the application over, then drop the old one",
    ),
    postgres(
        "full-rewrite",
        Error,
        "the table is rewritten while nobody can read or write it",
        "VACUUM without FULL, or a tool that repacks online",
    ),
    postgres(
        "rows-in-schema",
        Warning,
        "all its rows change in one transaction, without batches, pace or undo",
        "make it a spec of kind: data",
    ),
    // Lost data.
    postgres(
        "ban-drop-table",
        Error,
        "the table and its rows are lost",
        "stop using it first; allow the rule once nobody does",
    ),
    postgres(
        "ban-drop-column",
        Error,
        "the column and its values are lost, and applications that still name it fail",
        "stop using it first; allow the rule once nobody does",
    ),
    postgres("ban-drop-schema", Error, "everything in the schema is lost", "drop what is in it one by one"),
    postgres("ban-drop-sequence", Warning, "its value is lost", "stop using it first"),
    postgres(
        "ban-drop-extension",
        Error,
        "what the extension brought is lost, columns of its types included",
        "stop using it first; allow the rule once nobody does",
    ),
    postgres(
        "ban-truncate-cascade",
        Error,
        "the rows of the table and of all that refer to it are lost",
        "name the tables one by one",
    ),
    postgres("truncate", Error, "all rows of the table are lost", "allow the rule if that is meant"),
    // Broken applications.
    postgres("renaming-table", Error, "applications that use the old name fail at once", NEW_NAME),
    postgres("renaming-column", Error, "applications that use the old name fail at once", NEW_NAME),
    postgres("renaming-object", Warning, "whoever uses the old name fails at once", NEW_NAME),
    postgres("ban-set-schema", Error, "applications that use the old name fail at once", NEW_NAME),
    postgres("ban-drop-constraint", Warning, "applications may count on what it guaranteed", "look who does"),
    postgres(
        "ban-drop-not-null",
        Warning,
        "applications may not expect NULL there",
        "look who reads the column",
    ),
    postgres(
        "ban-drop-default",
        Warning,
        "inserts that leave the column out get NULL or fail",
        "look who inserts",
    ),
    postgres(
        "ban-drop-generated-expression",
        Warning,
        "inserts that leave the column out get NULL",
        "look who inserts",
    ),
    postgres("ban-drop-view", Warning, "whoever reads the view fails", "stop using it first"),
    postgres("ban-drop-function", Warning, "whoever calls it fails", "stop using it first"),
    postgres("ban-drop-type", Warning, "whoever names the type fails", "stop using it first"),
    postgres("ban-drop-domain", Warning, "whoever names the domain fails", "stop using it first"),
    postgres(
        "ban-drop-trigger",
        Warning,
        "what the trigger did is not done any more",
        "look who counts on it",
    ),
    postgres(
        "ban-disable-trigger",
        Warning,
        "what the trigger did is not done any more",
        "look who counts on it",
    ),
    postgres("ban-alter-identity", Warning, "inserts may get other keys, or fail", "look who inserts"),
    postgres(
        "ban-drop-policy",
        Warning,
        "other people may see or change the rows",
        "look at the policies that stay",
    ),
    postgres("ban-revoke", Warning, "applications may lose what they need", "look who uses the role"),
    // Mistakes.
    postgres(
        "identifier-too-long",
        Error,
        "the server cuts the name off after 63 bytes, and it may collide",
        "choose a shorter name",
    ),
    postgres("ban-duplicate-column-assignments", Error, "a column is set twice", "set it once"),
    postgres("ban-char-field", Note, "char(n) pads with blanks", "write text"),
    postgres(
        "prefer-timestamp-tz",
        Note,
        "a timestamp without time zone means another moment in each session",
        "write timestamptz",
    ),
    postgres(
        "prefer-identity",
        Note,
        "serial leaves its sequence behind in privileges and dumps",
        "write GENERATED … AS IDENTITY",
    ),
    // MongoDB.
    mongodb(
        "drop-collection",
        Error,
        "the collection and its documents are lost",
        "stop using it first; allow the rule once nobody does",
    ),
    mongodb(
        "drop-all-indexes",
        Error,
        "every query reads the whole collection from then on",
        "name the index to drop",
    ),
    mongodb(
        "drop-index",
        Warning,
        "queries that use the index read the whole collection from then on",
        "hide the index for a while first (collMod with hidden: true)",
    ),
    mongodb(
        "rename-collection",
        Error,
        "applications that use the old name find nothing, and write into a new collection of that name",
        "write to both, fill the new one, change the application over, then drop the old one",
    ),
    mongodb(
        "rename-drops-target",
        Error,
        "the collection that has the new name, and its documents, are lost",
        "choose a name that is free",
    ),
    mongodb(
        "strict-validator",
        Error,
        "every update of a document that breaks the validator fails from then on, backfills included",
        "validationLevel: moderate until a data migration has mended them all",
    ),
    mongodb(
        "unique-index",
        Warning,
        "the build fails on the first shard that holds a value twice",
        "look for duplicates on every shard first",
    ),
    mongodb(
        "ttl-index",
        Error,
        "documents that are old enough are deleted at once, and nothing brings them back",
        "allow the rule if that is meant",
    ),
    mongodb(
        "capped-collection",
        Warning,
        "old documents vanish when it is full, and no data migration can change those that are there",
        "an ordinary collection with a TTL index",
    ),
    mongodb(
        "index-without-name",
        Warning,
        "its name depends on the server, so that `down` and inspection after a crash must guess",
        "give it a name",
    ),
];
