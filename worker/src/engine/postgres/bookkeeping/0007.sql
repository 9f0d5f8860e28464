-- Digests in the log are made otherwise since then, and nobody could tell what the old ones are of.
DO $$ BEGIN
  IF EXISTS (SELECT FROM shardlift.undo) THEN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE =
      'shardlift.undo holds before-images of an earlier build, whose digests are not read any more: roll back or purge them with that build';
  END IF;
END $$;

-- Before-images are compressed where the server does it cheaply: they are a good part of the write-ahead log.
DO $$ BEGIN
  IF current_setting('server_version_num')::int >= 140000 THEN
    EXECUTE 'ALTER TABLE shardlift.undo
      ALTER COLUMN keys SET STORAGE EXTENDED, ALTER COLUMN keys SET COMPRESSION lz4,
      ALTER COLUMN old SET STORAGE EXTENDED, ALTER COLUMN old SET COMPRESSION lz4,
      ALTER COLUMN written SET STORAGE EXTENDED, ALTER COLUMN written SET COMPRESSION lz4,
      ALTER COLUMN inputs SET STORAGE EXTENDED, ALTER COLUMN inputs SET COMPRESSION lz4';
  END IF;
EXCEPTION WHEN feature_not_supported THEN
  NULL;  -- A server that was built without lz4.
END $$;
