-- name: session_number
SELECT number FROM sessions WHERE collection = ? AND session_id = ?;

-- name: begin_session
INSERT INTO sessions (collection, session_id, created_at, updated_at, quiet_since) VALUES (?1, ?2, ?3, ?3, ?4)
ON CONFLICT (collection, session_id)
DO UPDATE SET updated_at = excluded.updated_at, quiet_since = excluded.quiet_since
RETURNING number;

-- name: count_interactions
UPDATE sessions SET interactions = interactions + ?2, updated_at = max(updated_at, ?3)
WHERE number = ?1;

-- name: name_session
UPDATE sessions SET name = ?2 WHERE number = ?1;

-- name: insert_interaction
INSERT INTO interactions (passage, collection, session, agent_id, role)
VALUES (:passage, :collection, :session, :agent_id, :role);

-- name: session_of
SELECT session FROM interactions WHERE passage = ?;

-- name: remove_interaction
DELETE FROM interactions WHERE passage = ?;

-- name: end_empty_session
DELETE FROM sessions WHERE number = ? AND interactions <= 0;

-- name: said_to_user
SELECT p.number, p.id, i.agent_id, i.role, p.content, p.recorded_at, p.trust, s.session_id, p.metadata,
    p.plan_id, p.cause
FROM interactions i JOIN passages p ON p.number = i.passage
    LEFT JOIN sessions s ON s.number = i.session
WHERE i.collection = ?1 AND i.passage < ?2
    AND NOT EXISTS (
        SELECT 1 FROM quarantines q
        WHERE q.tenant_id = ?4 AND q.user_id IN ('', ?5)
            AND (q.origin = 'source:' || p.source
                OR q.origin = 'agent:' || (p.cause ->> '$.actor')
                OR q.origin = 'agent:' || i.agent_id
                OR q.origin IN (SELECT value FROM json_each(p.origins))))
ORDER BY i.passage DESC LIMIT ?3;

-- name: said_by_agent
SELECT p.number, p.id, i.agent_id, i.role, p.content, p.recorded_at, p.trust, s.session_id, p.metadata,
    p.plan_id, p.cause
FROM interactions i JOIN passages p ON p.number = i.passage
    LEFT JOIN sessions s ON s.number = i.session
WHERE i.collection = ?1 AND i.agent_id = ?4 AND i.passage < ?2
    AND NOT EXISTS (
        SELECT 1 FROM quarantines q
        WHERE q.tenant_id = ?5 AND q.user_id IN ('', ?6)
            AND (q.origin = 'source:' || p.source
                OR q.origin = 'agent:' || (p.cause ->> '$.actor')
                OR q.origin = 'agent:' || i.agent_id
                OR q.origin IN (SELECT value FROM json_each(p.origins))))
ORDER BY i.passage DESC LIMIT ?3;

-- name: said_in_session
SELECT p.number, p.id, i.agent_id, i.role, p.content, p.recorded_at, p.trust, s.session_id, p.metadata,
    p.plan_id, p.cause
FROM interactions i JOIN passages p ON p.number = i.passage
    JOIN sessions s ON s.number = i.session
WHERE i.session = ?1 AND i.passage < ?2 AND (?4 IS NULL OR i.agent_id = ?4)
    AND NOT EXISTS (
        SELECT 1 FROM quarantines q
        WHERE q.tenant_id = ?5 AND q.user_id IN ('', ?6)
            AND (q.origin = 'source:' || p.source
                OR q.origin = 'agent:' || (p.cause ->> '$.actor')
                OR q.origin = 'agent:' || i.agent_id
                OR q.origin IN (SELECT value FROM json_each(p.origins))))
ORDER BY i.passage DESC LIMIT ?3;

-- name: said
SELECT p.number, p.id, i.agent_id, i.role, p.content, p.recorded_at, p.trust, s.session_id, p.metadata,
    p.plan_id, p.cause
FROM interactions i JOIN passages p ON p.number = i.passage
    LEFT JOIN sessions s ON s.number = i.session
WHERE i.passage = ?;

-- name: sessions_before
SELECT session_id, created_at, updated_at, name, interactions, number FROM sessions
WHERE collection = ? AND number < ? ORDER BY number DESC LIMIT ?;

-- name: session
SELECT session_id, created_at, updated_at, name, interactions, number FROM sessions
WHERE collection = ? AND session_id = ?;
