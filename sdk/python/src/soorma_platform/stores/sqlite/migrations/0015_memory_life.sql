-- Since which uptime nothing more was said in a session, until that is reported; NULL afterwards.
-- `reported` is the number of its newest interaction at the last report.
ALTER TABLE sessions ADD COLUMN quiet_since INTEGER;
ALTER TABLE sessions ADD COLUMN reported INTEGER NOT NULL DEFAULT 0;
CREATE INDEX sessions_quiet ON sessions (quiet_since) WHERE quiet_since IS NOT NULL;
