md5(ROW(id, file_name, meta, raw, kind, size, price, cost, ratio, score, views, tags, numbers, grid, uploaded_at,
  local_time, day, clock, clock_zone, length, source, network, card, digest, validity, pages, page_sets, flags,
  fixed, place, outline, words, document, code, shape, owner, reference, wal_place)::text)
