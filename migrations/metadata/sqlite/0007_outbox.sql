-- Up to which entry of the history each sink (a message broker) was told. The history itself is the outbox: its entries are
-- written in the commit of what they tell of.
CREATE TABLE outbox (
    sink      TEXT     NOT NULL PRIMARY KEY,
    position  INTEGER  NOT NULL,
    told_at   TEXT     NOT NULL
) STRICT;

-- Requests from a broker that were carried out, written in the same commit: one that is delivered again changes nothing.
-- Forgotten after 30 days.
CREATE TABLE heard (
    source    TEXT  NOT NULL,
    id        TEXT  NOT NULL,
    heard_at  TEXT  NOT NULL,
    PRIMARY KEY (source, id)
) STRICT;

CREATE INDEX heard_by_time ON heard (heard_at);
