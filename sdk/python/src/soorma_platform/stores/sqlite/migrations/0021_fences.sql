-- Of a fence the record keeps a hash; `taken_at` is the uptime from which on a delivery is in the same hands.
ALTER TABLE deliveries ADD COLUMN taken_at INTEGER;
-- SQL cannot hash those that are there: what is in hand goes back untried, and no attempt counts.
UPDATE deliveries
SET ready_at = min(ready_at, (SELECT uptime FROM clock)), attempt = attempt - 1, fence = NULL, replica = NULL,
    deaths = deaths - (died > 0), cleared = min(cleared, deaths - (died > 0)), silences = silences - (died = 2),
    alone = CASE WHEN died THEN 0 ELSE alone END,
    suspect = CASE WHEN NOT died OR deaths - 1 - cleared >= 2 THEN suspect END, died = 0, begun = 0
WHERE fence IS NOT NULL;
DELETE FROM answers WHERE key LIKE 'fence:%';
