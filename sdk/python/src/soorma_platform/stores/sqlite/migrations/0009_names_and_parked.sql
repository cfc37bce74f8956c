-- What agents say of themselves is kept as they say it: with names in snake_case from now on.

UPDATE agents SET announcement = json_object(
    'description', announcement ->> '$.description',
    'capabilities', json((
        SELECT json_group_array(json(CASE c.type
            WHEN 'object' THEN json_object(
                'name', c.value ->> '$.name',
                'description', coalesce(c.value ->> '$.description', ''),
                'input_schema', json(coalesce(c.value -> '$.inputSchema', 'null')),
                'output_schema', json(coalesce(c.value -> '$.outputSchema', 'null')))
            ELSE json_quote(c.value)
        END))
        FROM json_each(announcement, '$.capabilities') c)),
    'events_consumed', json(announcement -> '$.eventsConsumed'),
    'events_produced', json(announcement -> '$.eventsProduced'),
    'ttl', json(announcement -> '$.ttl'));

-- Parked deliveries without a lane: nothing else leads to them when their subscription ends.
CREATE INDEX deliveries_parked ON deliveries (subscription_id)
WHERE ready_at IS NULL AND lane IS NULL AND aside IS NULL;
