-- Up to which entry of the history each sink (a message broker) was told. The history itself is the outbox: its entries are
-- written in the commit of what they tell of, under the lock of the fence row, so that no smaller id appears after a larger one.
CREATE TABLE shardlift_coordinator.outbox (
    sink      text         PRIMARY KEY,
    position  bigint       NOT NULL,
    told_at   timestamptz  NOT NULL
);

-- Requests from a broker that were carried out, written in the same commit: one that is delivered again changes nothing.
-- Forgotten after 30 days.
CREATE TABLE shardlift_coordinator.heard (
    source    text         NOT NULL,
    id        text         NOT NULL,
    heard_at  timestamptz  NOT NULL,
    PRIMARY KEY (source, id)
);

CREATE INDEX heard_by_time ON shardlift_coordinator.heard (heard_at);
