-- What is looked for again and again is found by an index, however much else there is.

-- A new subscription takes what waits for it in steps, the eldest first. Until it has taken all, it is joining, and what
-- is published waits too, so that nothing overtakes.
ALTER TABLE subscriptions ADD COLUMN joining INTEGER NOT NULL DEFAULT 0;
CREATE INDEX events_untaken_by_type ON events (type, at) WHERE NOT taken;

CREATE INDEX dead_letters_by_subscription ON dead_letters (subscription_id);
CREATE INDEX dead_letters_by_group ON dead_letters (group_id);
CREATE INDEX replicas_by_group ON replicas (group_id);
