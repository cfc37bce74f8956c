-- name: claim
UPDATE deliveries
SET fence = NULL, taken_at = ?2, attempt = attempt + 1, ready_at = CASE WHEN silences THEN ?4 ELSE ?3 END,
    replica = ?5, family = ?7, begun = 0, died = 0
WHERE id IN (
    SELECT id FROM deliveries WHERE subscription_id = ?1 AND ready_at <= ?2 AND replica IS NULL AND suspect IS NULL
    ORDER BY ready_at, id LIMIT ?6)
RETURNING id, attempt, subscription_id, position, ready_at;

-- name: set_fence
UPDATE deliveries SET fence = ? WHERE id = ?;

-- name: claimed_event
SELECT s.group_id, EXISTS (SELECT 1 FROM steps WHERE group_id = s.group_id AND position = e.position) AS has_steps,
    e.tenant_id, e.user_id, e.plan_id, e.envelope, e.type, e.outlives
FROM subscriptions s JOIN events e ON e.position = ?2 WHERE s.id = ?1;

-- name: is_heard_of
SELECT 1 FROM replicas WHERE id = ? AND heard_at >= ?;

-- name: next_ready
SELECT min(ready_at) FROM deliveries
WHERE subscription_id = ? AND ready_at IS NOT NULL AND replica IS NULL AND suspect IS NULL;

-- name: renew
UPDATE deliveries SET ready_at = min(CASE WHEN silences THEN ?3 ELSE ?2 END, taken_at + ?5), begun = 1
WHERE fence = ?1 AND ready_at IS NOT NULL AND died < 2 AND family IS ?4 AND taken_at + ?5 > ?6
    -- A silent agent has lost what was taken from it, even if nobody else has that yet.
RETURNING fence;

-- name: renew_on_the_way
-- Deliveries that a live agent was sent and has not named yet wait for it in the socket.
UPDATE deliveries SET ready_at = min(CASE WHEN silences THEN ?3 ELSE ?2 END, taken_at + ?4)
WHERE replica = ?1 AND NOT begun AND ready_at IS NOT NULL;

-- name: resume
UPDATE deliveries
    -- The agent is not dead: its connection was lost.
SET ready_at = min(?2, taken_at + ?6), replica = ?3,
    deaths = deaths - (died > 0), cleared = min(cleared, deaths - (died > 0)), silences = silences - (died = 2),
    alone = CASE WHEN died THEN 0 ELSE alone END,
    suspect = CASE WHEN NOT died OR deaths - 1 - cleared >= 2 THEN suspect END, died = 0
-- Of its own group, and by the same key or its successor: to anybody else it is an unknown fence.
WHERE fence = ?1 AND ready_at IS NOT NULL AND family IS ?4
    AND (?5 IS NULL OR group_id = ?5) AND taken_at + ?6 > ?7
RETURNING fence;

-- name: release_delivery
UPDATE deliveries
SET ready_at = ?2, attempt = attempt - 1, fence = NULL, replica = NULL,
    deaths = deaths - (died > 0), cleared = min(cleared, deaths - (died > 0)), silences = silences - (died = 2),
    alone = CASE WHEN died THEN 0 ELSE alone END,
    suspect = CASE WHEN NOT died OR deaths - 1 - cleared >= 2 THEN suspect END, died = 0
WHERE fence = ?1;

-- name: spare_leases
UPDATE deliveries SET ready_at = max(ready_at, ?1), replica = ''
    -- No replica of this run has them, so nobody dies if they expire: a power cut may have ended
    -- their agents too.
WHERE fence IS NOT NULL AND replica IS NOT NULL AND ready_at IS NOT NULL;

-- name: newest_suspect
SELECT position, id FROM deliveries
WHERE subscription_id = ?1 AND suspect IS NOT NULL AND replica IS NULL AND ready_at <= ?2
ORDER BY position DESC LIMIT 1;

-- name: claim_suspect
UPDATE deliveries
SET fence = NULL, taken_at = ?6, attempt = attempt + 1, ready_at = CASE WHEN silences THEN ?3 ELSE ?2 END,
    replica = ?4, family = ?5, begun = 0, died = 0
WHERE id = ?1
RETURNING id, attempt, subscription_id, position, ready_at;

-- name: next_suspect
SELECT min(ready_at) FROM deliveries
WHERE subscription_id = ? AND suspect IS NOT NULL AND replica IS NULL;
