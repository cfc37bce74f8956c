-- Results of steps: what a handler did outside, kept for the later attempts of its event.
CREATE TABLE steps (
    group_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    occurrence INTEGER NOT NULL,
    at INTEGER NOT NULL,
    result TEXT NOT NULL,
    PRIMARY KEY (group_id, position, name, occurrence)
) STRICT, WITHOUT ROWID;
CREATE INDEX steps_by_event ON steps (position);

-- Events to be published later.
CREATE TABLE timers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    plan_id TEXT,
    due_at INTEGER NOT NULL,
    incarnation INTEGER, -- of a deadline: it fires in this one of the plan, unless that has ended
    asked TEXT NOT NULL, -- the delay or time as it was asked for
    fingerprint TEXT NOT NULL,
    envelope TEXT NOT NULL,
    UNIQUE (tenant_id, event_id)
) STRICT;
CREATE INDEX timers_due ON timers (due_at);
CREATE INDEX timers_by_plan ON timers (tenant_id, user_id, plan_id);

-- How far a plan's life has come: active, completed, failed or cancelled; `outcome` is its result or the reason.
ALTER TABLE plans ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
ALTER TABLE plans ADD COLUMN ended_at INTEGER;
ALTER TABLE plans ADD COLUMN outcome TEXT;
ALTER TABLE plans ADD COLUMN stalled INTEGER NOT NULL DEFAULT 0; -- the revision at which it was reported as stalled
ALTER TABLE plans ADD COLUMN arranged INTEGER NOT NULL DEFAULT 0; -- how many compensations and deadlines it was given

-- Up to where the log and the timers are a past of the plan that is over, as it was cancelled or purged.
ALTER TABLE plans ADD COLUMN past_position INTEGER NOT NULL DEFAULT 0;
ALTER TABLE plans ADD COLUMN past_timer INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chores ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chores ADD COLUMN timer INTEGER NOT NULL DEFAULT 0;

CREATE INDEX plans_ended ON plans (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX events_by_plan ON events (tenant_id, user_id, plan_id, position) WHERE plan_id IS NOT NULL;

-- What undoes the work of a plan that fails, in reverse order. state: 0 waits, 1 was published, 2 was done.
CREATE TABLE compensations (
    plan INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    state INTEGER NOT NULL,
    envelope TEXT NOT NULL,
    PRIMARY KEY (plan, incarnation, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX compensations_under_way ON compensations (plan, incarnation) WHERE state = 1;
CREATE UNIQUE INDEX compensations_by_event ON compensations (plan, incarnation, event_id);
