-- Deaths of processes are counted apart from failures of handlers. What has died twice is a suspect: it is
-- delivered alone. What nobody serves is set aside, out of its lane.

ALTER TABLE deliveries ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0; -- of processes that had it in hand
ALTER TABLE deliveries ADD COLUMN silences INTEGER NOT NULL DEFAULT 0; -- how many of these gave no sign of life
ALTER TABLE deliveries ADD COLUMN cleared INTEGER NOT NULL DEFAULT 0; -- how many of these were another's fault
ALTER TABLE deliveries ADD COLUMN died INTEGER NOT NULL DEFAULT 0; -- under this fence; 1: connection closed, 2: silent
ALTER TABLE deliveries ADD COLUMN alone INTEGER NOT NULL DEFAULT 0; -- whether the last of them had nothing else in hand
ALTER TABLE deliveries ADD COLUMN died_with TEXT; -- the process and instance that died last
ALTER TABLE deliveries ADD COLUMN cohort TEXT; -- the process that died last with more than this in hand
ALTER TABLE deliveries ADD COLUMN suspect INTEGER; -- 1: it is delivered alone
ALTER TABLE deliveries ADD COLUMN aside TEXT; -- the lane ('' without) it was set aside from, as nobody serves it
UPDATE deliveries SET failures = max(attempt - (fence IS NOT NULL), 0);

-- What can be claimed. What is in an agent's hands is not in it: a renewal need not touch it.
DROP INDEX deliveries_ready;
CREATE INDEX deliveries_ready ON deliveries (subscription_id, ready_at, id)
    WHERE ready_at IS NOT NULL AND replica IS NULL AND suspect IS NULL;
CREATE INDEX deliveries_suspect ON deliveries (subscription_id, position) WHERE suspect IS NOT NULL;
CREATE INDEX deliveries_aside ON deliveries (subscription_id, position) WHERE aside IS NOT NULL;
CREATE INDEX deliveries_died ON deliveries (died_with) WHERE died_with IS NOT NULL;

ALTER TABLE replicas ADD COLUMN process TEXT NOT NULL DEFAULT '';
ALTER TABLE replicas ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
CREATE INDEX replicas_by_process ON replicas (process);

ALTER TABLE dead_letters ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
UPDATE dead_letters SET failures = attempts;
