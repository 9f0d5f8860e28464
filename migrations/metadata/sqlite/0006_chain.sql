-- The history as a chain (docs/adr/0011-tls-and-audit.md): the hash of an entry and of the hash before it, and how far the chain is.
-- Entries of earlier releases have no hash; the chain begins behind them. `request`: the id of the request that asked for it.
ALTER TABLE migration_history ADD COLUMN request TEXT;
ALTER TABLE migration_history ADD COLUMN hash TEXT;
ALTER TABLE fence ADD COLUMN history_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE fence ADD COLUMN history_hash TEXT NOT NULL DEFAULT '';
