INSERT INTO attachments
SELECT 'att-' || $1::bigint || '-' || to_char(n, 'FM000000'),
  CASE n % 5 WHEN 0 THEN 'report-' || n || '.PDF' WHEN 1 THEN 'фото.jpeg' WHEN 2 THEN 'no extension'
    WHEN 3 THEN '.hidden.tar.GZ' END,
  CASE n % 4 WHEN 0 THEN '   ' WHEN 1 THEN 'note ' || n WHEN 2 THEN '' END,
  CASE n % 6 WHEN 0 THEN jsonb_build_object('title', 'Title ' || n, 'exact', 12345678901234567890.123456789012345678)
    WHEN 1 THEN '[1, 2, {"title": "not here"}]' WHEN 2 THEN '{"title": null}' WHEN 3 THEN 'null'
    WHEN 4 THEN '{"title": "", "deep": {"a": {"b": [true, 1e300, -0.0]}}}' END,
  CASE WHEN n % 2 = 0 THEN '{"b": 1, "a": 2,  "b": 3}'::json END,
  (ARRAY['image', 'video', 'audio', 'file']::attachment_kind[])[1 + n % 4],
  CASE n % 7 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' WHEN 2 THEN '-Infinity' WHEN 3 THEN 1e-300 WHEN 4 THEN 1e300
    ELSE n / 7.0 END,
  CASE WHEN n % 3 > 0 THEN 999999999999999999999999.999999 - n END, (n * 1.01)::numeric::money,
  CASE n % 8 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' WHEN 2 THEN '-0' WHEN 3 THEN 5e-324 ELSE (0.1 + n)::double precision END,
  CASE n % 5 WHEN 0 THEN 'NaN' ELSE (1.1 * n)::real END, (n % 65536 - 32768)::smallint,
  CASE n % 4 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['a,b', 'quote"', 'back\slash', NULL, '', 'NULL', '{curly}'] ELSE
    ARRAY['тег', '标签 ' || n] END,
  CASE n % 3 WHEN 0 THEN '[0:2]={1,NULL,3}'::integer[] WHEN 1 THEN ARRAY[[1, 2], [3, n::integer]] END,
  ARRAY[[n, 0.1], ['NaN'::numeric, NULL]],
  CASE n % 6 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' WHEN 2 THEN '0044-03-15 12:00:00+00 BC'
    ELSE timestamptz '2024-02-29 23:59:59.999999Z' + n * interval '1 microsecond' END,
  CASE n % 5 WHEN 0 THEN '294276-12-31 23:59:59.999999' ELSE timestamp '2024-03-31 02:30:00' + n * interval '1 day' END,
  CASE n % 5 WHEN 0 THEN 'infinity' WHEN 1 THEN '4713-01-01 BC'::date ELSE date '2024-02-29' + n::integer END,
  CASE n % 3 WHEN 0 THEN '24:00:00' ELSE time '00:00:00.000001' + n * interval '1 second' END,
  timetz '12:34:56.789+05:45', CASE n % 3 WHEN 0 THEN interval '-1 year 2 months -3 days 04:05:06.789'
    ELSE n * interval '36 hours' END,
  CASE n % 3 WHEN 0 THEN '::ffff:1.2.3.4/128' WHEN 1 THEN '2001:db8::1/64' ELSE '10.0.0.1'::inet + n END,
  '192.168.0.0/24', '08:00:2b:01:02:03', CASE WHEN n % 4 > 0 THEN decode(md5(n::text), 'hex') || '\x00ff' ELSE '' END,
  CASE n % 4 WHEN 0 THEN 'empty' WHEN 1 THEN '(,)' ELSE tstzrange('2024-01-01Z', '2024-06-01Z', '(]') END,
  int4range(n::integer, n::integer + 10), '{[1,3), [7,9)}', (n % 65536)::integer::bit(16)::varbit, 'ab' || n % 10,
  point(n, -n / 3.0), '((0,0),(1,1),(1,0))', to_tsvector('simple', 'quick brown ' || n),
  xmlparse(CONTENT '<a b="' || n || '">&lt;text&gt;</a>'), 'c' || n % 1000, ROW(n, NULL)::dimensions,
  md5(n::text)::uuid, n::integer::oid, ('0/' || to_hex(n::integer + 4096))::pg_lsn
FROM generate_series(0, $2::bigint - 1) AS n
