-- name: quiet_sessions
SELECT c.tenant_id, c.user_id, s.session_id
FROM sessions s JOIN collections c ON c.id = s.collection
WHERE s.quiet_since <= ? ORDER BY s.quiet_since LIMIT ?;

-- name: quiet_session
SELECT s.number, s.session_id, s.interactions, s.updated_at, s.quiet_since, s.reported,
    coalesce((SELECT max(i.passage) FROM interactions i WHERE i.session = s.number), 0) AS newest
FROM sessions s JOIN collections c ON c.id = s.collection
WHERE c.tenant_id = ? AND c.user_id IS ? AND c.kind = ? AND s.session_id = ?;

-- name: report_session
UPDATE sessions SET quiet_since = NULL, reported = ?2 WHERE number = ?1;
