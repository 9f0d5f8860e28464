-- A handful of rows that a careless transform breaks on. Each must come through the library unharmed.
INSERT INTO messages (id, tenant_id, channel_id, author, body) SELECT id, md5('odd')::uuid, md5('odd')::uuid, 'odd', body
FROM (VALUES
  (-9223372036854775808, '{"text": "the smallest key there is"}'::jsonb),
  (-5, NULL),
  (-4, 'null'),
  (-3, '"a body that is just a string"'),
  (-2, '[{"text": "an array where an object is expected"}]'),
  (-1, '42'),
  (0, '{"text": "a key that is zero"}'),
  (1, '{"text": null}'),
  (2, '{"text": 42, "blocks": []}'),
  (3, '{"text": ""}'),
  (4, '{"blocks": "oops"}'),
  (5, '{"blocks": []}'),
  (6, '{"blocks": [null, 1, "x", [], {}, {"text": null}, {"text": ["deep"]}, {"type": "text", "text": "found"}]}'),
  (7, '{"text": {"de": "a text that is an object"}}'),
  (9223372036854775807, '{"text": "the largest key there is"}')) AS odd (id, body);
INSERT INTO messages (id, tenant_id, channel_id, author, body) VALUES
  (9, md5('odd')::uuid, md5('odd')::uuid, 'odd', jsonb_build_object('text', repeat('long 长 ', 20000))),
  (10, md5('odd')::uuid, md5('odd')::uuid, 'odd',
    (repeat('{"quote":', 200) || '{"text":"deep"}' || repeat('}', 200))::jsonb || '{"text": "a quote of a quote"}'),
  (11, md5('odd')::uuid, md5('odd')::uuid, 'odd', '{"text": "twice", "blocks": [{"text": "two forms at once"}]}');

INSERT INTO drafts (id, author, body) SELECT id, 'odd', body FROM (VALUES
  (-9223372036854775808, '{"text": "the smallest key there is"}'::jsonb),
  (-3, NULL),
  (-1, '{"blocks": []}'),
  (0, '{"text": "a key that is zero"}'),
  (1, '{"text": "   "}'),
  (2, '{"blocks": [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two"}]}'),
  (9223372036854775807, '{"text": "the largest key there is"}')) AS odd (id, body);

INSERT INTO deliveries (message_id, recipient_id, state, delivered_at) VALUES
  (-9223372036854775808, '', 'sent', ''),
  (-1, ' ', 'READ', 'never'),
  (0, 'O''Brien', NULL, NULL),
  (0, 'o''brien', 'Delivered', '1700000000000'),
  (0, E'tab\tand\nnewline', 'delivered', '99999999999999999999999999'),
  (0, 'Ünï', 'lost', '-1'),
  (0, '👩‍👩‍👧‍👦', 'sent', '١٧٠٠٠٠٠٠٠٠٠٠٠'),
  (9223372036854775807, 'zz', '', '1700000000000.5');

INSERT INTO channels (id, tenant_id, name, topic) VALUES
  ('00000000-0000-0000-0000-000000000000', md5('odd')::uuid, '', 'an empty name and the smallest uuid'),
  ('ffffffff-ffff-ffff-ffff-ffffffffffff', md5('odd')::uuid, NULL, 'no name and the largest uuid'),
  (md5('odd/1')::uuid, md5('odd')::uuid, '🎉🎉', 'nothing but emoji'),
  (md5('odd/2')::uuid, md5('odd')::uuid, '---', 'nothing but separators'),
  (md5('odd/3')::uuid, md5('odd')::uuid, '日本語', 'no ASCII letter'),
  (md5('odd/4')::uuid, md5('odd')::uuid, '  General  ', 'spaces around'),
  (md5('odd/5')::uuid, md5('odd')::uuid, repeat('very long ', 200), 'two thousand characters');

INSERT INTO tenants (id, name, settings, live) VALUES
  ('00000000-0000-0000-0000-000000000000', 'the smallest uuid', 'null', false),
  ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'the largest uuid', NULL, false),
  (md5('odd/1')::uuid, 'a null plan', '{"plan": null, "limits": null}', false),
  (md5('odd/2')::uuid, 'keys of every kind', '{"": 1, "plan": "PRO", "a.b": {"$set": 2}, "limits": {"seats": 3}}', false);
