-- Which events of a plan that has ended are still handled.
ALTER TABLE plans ADD COLUMN end_position INTEGER NOT NULL DEFAULT 0; -- what was published before the end
ALTER TABLE plans ADD COLUMN ended_by INTEGER; -- the group whose handler ended it
ALTER TABLE events ADD COLUMN outlives INTEGER NOT NULL DEFAULT 0; -- handled though its plan has ended
ALTER TABLE timers ADD COLUMN outlives INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subscriptions ADD COLUMN ended_plans INTEGER NOT NULL DEFAULT 0; -- takes events of plans that have ended

UPDATE plans SET end_position = coalesce((SELECT max(position) FROM events), 0) WHERE status <> 'active';
UPDATE events SET outlives = 1 WHERE position IN (
    SELECT e.position FROM compensations c
    JOIN plans p ON p.id = c.plan AND p.incarnation = c.incarnation
    JOIN events e ON e.tenant_id = p.tenant_id AND e.event_id = c.event_id
    WHERE c.state = 1);
