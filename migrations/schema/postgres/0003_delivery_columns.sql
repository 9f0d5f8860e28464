-- shardlift: id=0003_delivery_columns cluster=chat lock_timeout=2s

-- up
ALTER TABLE public.deliveries ADD COLUMN delivered_ts timestamptz;
ALTER TABLE public.deliveries ADD COLUMN state_code smallint;
ALTER TABLE public.deliveries ADD COLUMN migrated boolean NOT NULL DEFAULT false;
ALTER TABLE public.deliveries ADD COLUMN applied integer NOT NULL DEFAULT 0;

-- down
ALTER TABLE public.deliveries DROP COLUMN applied;
ALTER TABLE public.deliveries DROP COLUMN migrated;
ALTER TABLE public.deliveries DROP COLUMN state_code;
ALTER TABLE public.deliveries DROP COLUMN delivered_ts;
