-- The clock of the record. `uptime` counts the time in which a platform ran on it, `steady` that without a platform and
-- that in which the machine slept, too: both begin at the wall clock's time and never jump. `since_boot` is of the
-- machine's boot that `boot` names. All in milliseconds.
--
-- From here on these are in uptime: deliveries.ready_at, replicas.heard_at, events.at, answers.expires_at,
-- agent_instances.expires_at, and columns whose names end so. All other times are the wall clock's.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    uptime INTEGER NOT NULL,
    steady INTEGER NOT NULL,
    wall INTEGER NOT NULL,
    unsettled INTEGER NOT NULL, -- the uptime since which the wall clock has gone along with the others
    is_closed INTEGER NOT NULL, -- whether the platform was ended, and so ran until then and no longer
    boot TEXT,
    since_boot INTEGER
) STRICT;

-- A record of before goes on at its last sign of life. A new one is empty: its time begins when it is opened.
INSERT INTO clock (id, uptime, steady, wall, unsettled, is_closed)
SELECT 1, last, last, last, last, 1 FROM (
    SELECT max(coalesce((SELECT at FROM events ORDER BY position DESC LIMIT 1), 0),
        coalesce((SELECT max(seen_at) FROM subscriptions), 0),
        coalesce((SELECT max(updated_at) FROM plans), 0)) AS last)
WHERE last > 0;

ALTER TABLE subscriptions ADD COLUMN seen_uptime INTEGER NOT NULL DEFAULT 0;
UPDATE subscriptions SET seen_uptime = seen_at;
CREATE INDEX subscriptions_by_age ON subscriptions (seen_uptime);

-- When a plan last changed, and when it ended.
ALTER TABLE plans ADD COLUMN updated_uptime INTEGER NOT NULL DEFAULT 0;
ALTER TABLE plans ADD COLUMN ended_uptime INTEGER;
UPDATE plans SET updated_uptime = updated_at, ended_uptime = ended_at;
DROP INDEX plans_ended;
CREATE INDEX plans_ended ON plans (ended_uptime) WHERE ended_uptime IS NOT NULL;

-- What has expired of one plan may wait for long to be removed: a commit on it looks for that, and at no other plan's.
CREATE INDEX entries_expiring_of_plan ON entries (plan, incarnation, expires_at) WHERE expires_at IS NOT NULL;

-- Whether `due_at` is of the steady clock, as it is for a delay, or of the wall clock, as for `at=`.
ALTER TABLE timers ADD COLUMN is_delay INTEGER NOT NULL DEFAULT 0;
DROP INDEX timers_due;
CREATE INDEX timers_due ON timers (is_delay, due_at);
