-- The application's own tables, as they were before the first migration of the example library.
CREATE TYPE attachment_kind AS ENUM ('image', 'video', 'audio', 'file');
CREATE TYPE dimensions AS (width integer, height integer);
CREATE DOMAIN short_code AS text CHECK (length(value) <= 12);

CREATE TABLE tenants (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  settings jsonb,
  live boolean NOT NULL DEFAULT true,   -- false: loaded with the data set, so present when any migration starts
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE channels (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL,
  name text,
  topic text,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE messages (
  id bigint PRIMARY KEY,
  tenant_id uuid NOT NULL,
  channel_id uuid NOT NULL,
  author text NOT NULL,
  body jsonb,
  sent_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE drafts (
  id bigint PRIMARY KEY,
  author text NOT NULL,
  body jsonb,
  saved_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE deliveries (
  message_id bigint NOT NULL,
  recipient_id text NOT NULL,
  state text,
  delivered_at text,                    -- milliseconds since 1970, as text; or '', 'never', nonsense
  PRIMARY KEY (message_id, recipient_id)
);
-- Many column types beside one another: what a transform does not touch must come through unchanged.
CREATE TABLE attachments (
  id text PRIMARY KEY,
  file_name text,
  note text,
  meta jsonb,
  raw json,
  kind attachment_kind NOT NULL,
  size numeric,
  price numeric(30, 6),
  cost money,
  ratio double precision,
  score real,
  views smallint,
  tags text[],
  numbers integer[],
  grid numeric[],
  uploaded_at timestamptz,
  local_time timestamp,
  day date,
  clock time,
  clock_zone timetz,
  length interval,
  source inet,
  network cidr,
  card macaddr,
  digest bytea,
  validity tstzrange,
  pages int4range,
  page_sets int4multirange,
  flags bit varying(16),
  fixed char(6),
  place point,
  outline polygon,
  words tsvector,
  document xml,
  code short_code,
  shape dimensions,
  owner uuid,
  reference oid,
  wal_place pg_lsn,
  fingerprint text                      -- md5 of every column that no migration touches
);
