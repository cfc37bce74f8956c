-- Since which uptime nothing more was said in a session, until that is reported; NULL afterwards.
-- `reported` is the number of its newest interaction at the last report.
ALTER TABLE sessions ADD COLUMN quiet_since INTEGER;
ALTER TABLE sessions ADD COLUMN reported INTEGER NOT NULL DEFAULT 0;
CREATE INDEX sessions_quiet ON sessions (quiet_since) WHERE quiet_since IS NOT NULL;

-- What is kept for a time only is found in the order of its age.
CREATE INDEX passages_by_age ON passages (collection, updated_at);
CREATE INDEX passages_closed ON passages (collection, closed_at) WHERE closed_at < 4611686018427387904;

-- Whether a passage is kept when the plan that it comes from is purged, whatever else goes with it.
ALTER TABLE passages ADD COLUMN outlives_plan INTEGER NOT NULL DEFAULT 0;
CREATE INDEX passages_of_plan ON passages (collection, plan_id) WHERE plan_id IS NOT NULL;
