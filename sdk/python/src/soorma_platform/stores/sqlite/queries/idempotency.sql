-- name: answer
SELECT answer FROM answers WHERE tenant_id = ? AND user_id = ? AND key = ? AND expires_at > ?;

-- name: put_answer
INSERT OR REPLACE INTO answers (tenant_id, user_id, key, expires_at, answer)
VALUES (:tenant_id, :user_id, :key, :expires_at, :answer);

-- name: sweep_answers
DELETE FROM answers WHERE (tenant_id, user_id, key) IN (
    SELECT tenant_id, user_id, key FROM answers WHERE expires_at <= ? ORDER BY expires_at LIMIT ?);
