-- Helpers of one loading session: deterministic dice and ids, from the row's number and a salt.
CREATE FUNCTION pg_temp.dice(number bigint, salt bigint) RETURNS double precision LANGUAGE sql IMMUTABLE AS
  $$ SELECT (hashint8extended(number, salt) & 4503599627370495)::double precision / 4503599627370496 $$;
CREATE FUNCTION pg_temp.below(number bigint, salt bigint, bound bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  $$ SELECT floor(bound * pg_temp.dice(number, salt))::bigint $$;
CREATE FUNCTION pg_temp.skewed(number bigint, salt bigint, bound bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  $$ SELECT floor(bound * power(pg_temp.dice(number, salt), 3))::bigint $$;
CREATE FUNCTION pg_temp.key(kind text, shard bigint, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
  $$ SELECT md5(kind || '/' || shard || '/' || number)::uuid $$;
