-- name: replica
SELECT instance, process, draining, heard_at FROM replicas WHERE id = ?;

-- name: others_in_hand
-- The number of deliveries that a process's replicas have in hand, or had when it just died.
SELECT (SELECT count(*) FROM replicas r CROSS JOIN deliveries d ON d.replica = r.id WHERE r.process = ?1)
    + (SELECT count(*) FROM deliveries WHERE died_with >= ?1 || '/' AND died_with < ?1 || '0' AND died > 0);

-- name: first_lapse
SELECT min(ready_at) FROM deliveries WHERE replica IS NOT NULL;

-- name: lapsed_replicas
SELECT DISTINCT replica FROM deliveries WHERE replica IS NOT NULL AND ready_at <= ?;

-- name: free
UPDATE deliveries SET ready_at = min(ready_at, ?1), replica = NULL
    -- The replica ends, but no process has died.
WHERE replica = ?2 AND ready_at IS NOT NULL AND (?3 IS NULL OR ready_at <= ?3)
RETURNING group_id, fence, 0 AS is_suspect;

-- name: die
UPDATE deliveries
SET deaths = deaths + 1, silences = silences + (?4 = 2), died = ?4, died_with = ?5 || '/' || ?6, alone = ?7,
    cohort = CASE WHEN ?7 THEN cohort ELSE ?5 END, replica = NULL, reason = ?8,
    suspect = CASE WHEN deaths + 1 - cleared >= min(2, coalesce((
        SELECT s.retry ->> '$.max_deaths' FROM subscriptions s WHERE s.id = deliveries.subscription_id), 2)) THEN 1 END,
    ready_at = ?1 + CASE WHEN deaths = cleared THEN 0 ELSE min(?9 << min(deaths - cleared - 1, 8), ?10) END
WHERE replica = ?2 AND ready_at IS NOT NULL AND (?3 IS NULL OR ready_at <= ?3)
RETURNING group_id, fence, suspect IS NOT NULL AS is_suspect;

-- name: end_fences
UPDATE deliveries SET fence = NULL WHERE fence IS NOT NULL AND replica IS NULL AND taken_at <= ?;

-- name: return_unreceived
UPDATE deliveries
    -- An agent that is back names all that it has; the rest of what it was sent has not reached it.
SET ready_at = ?1, attempt = attempt - 1, fence = NULL, replica = NULL,
    deaths = deaths - (died > 0), cleared = min(cleared, deaths - (died > 0)), silences = silences - (died = 2), alone = CASE WHEN died THEN 0 ELSE alone END,
    suspect = CASE WHEN NOT died OR deaths - 1 - cleared >= 2 THEN suspect END, died = 0
WHERE ready_at IS NOT NULL AND group_id = ?6 AND fence NOT IN (SELECT value FROM json_each(?5)) AND id IN (
    SELECT d.id FROM replicas r CROSS JOIN deliveries d ON d.replica = r.id
    WHERE r.process = ?2 AND r.instance = ?3 AND r.id <> ?4
    UNION ALL SELECT id FROM deliveries WHERE died_with = ?2 || '/' || ?3 AND died > 0 AND replica IS NULL)
RETURNING group_id;

-- name: forget_former_replicas
DELETE FROM replicas WHERE process = ?1 AND instance = ?2 AND id <> ?3 AND group_id = ?4;

-- name: suspected_groups
SELECT DISTINCT group_id FROM deliveries WHERE suspect IS NOT NULL;

-- name: has_suspects
SELECT 1 FROM subscriptions s JOIN deliveries d ON d.subscription_id = s.id AND d.suspect IS NOT NULL
WHERE s.group_id = ? LIMIT 1;

-- name: exonerate
-- Suspects that died with the culprit are innocent.
UPDATE deliveries SET suspect = NULL, cleared = deaths
WHERE group_id = ?1 AND cohort = ?2 AND id <> ?3 AND suspect IS NOT NULL
RETURNING id;
